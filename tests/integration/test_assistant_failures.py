"""An agent that does not come to a reply: each way has its status and its text, and nothing is stored."""

import asyncpg
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.model_server import Call, ModelServer, Reply, says
from tests.support.types import SignIn

FAILED = "The assistant failed to reply, and nothing was stored."
REFUSED = "The assistant may not answer this message, and nothing was stored."
UNAVAILABLE = "The assistant is not available at the moment, and nothing was stored; try again shortly."

CALLS = says(calls=(Call("clock", '{"city": "Karachi"}'),))
FAILURES: dict[str, tuple[str, str, Reply, int, str]] = {
    "a guardrail's tripwire": ("strict", "chat", says("Hello"), 422, REFUSED),
    "an incomplete response": ("agent", "responses", says("Half", end="incomplete"), 502, FAILED),
    "a failed response": ("agent", "responses", says("Half", end="failed"), 503, UNAVAILABLE),
    "too many turns": ("agent", "chat", CALLS, 502, FAILED),
    "a tool's output at the end": ("hasty", "chat", CALLS, 502, FAILED),
    "white space": ("agent", "chat", says(" \n"), 502, FAILED),
}


@pytest.mark.parametrize(("agent", "api", "reply", "status", "detail"), FAILURES.values(), ids=FAILURES.keys())
async def test_no_reply_is_a_status_with_a_sentence(
    agent: str,
    api: str,
    reply: Reply,
    status: int,
    detail: str,
    model: ModelServer,
    sign_in: SignIn,
    database: asyncpg.Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_API", api)
    model.default = reply
    settings = make_settings(database_url=database_url, assistant=f"tests.support.scripted_agent:{agent}")

    async with running(settings) as app, client_of(app) as client:
        response = await client.post("/api/chat", headers=await sign_in(), json={"message": "Hello"})

    assert (response.status_code, response.json()) == (status, {"detail": detail})
    assert await database.fetchval("SELECT count(*) FROM conversations") == 0
