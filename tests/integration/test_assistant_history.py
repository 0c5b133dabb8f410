"""What an agent is given of a conversation: its newest messages, within bounds, whoever stored them."""

from itertools import batched
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.model_server import ModelServer
from tests.support.service import SERVICE_TOKEN
from tests.support.types import Headers, SignIn

CALL = {"type": "function", "id": "call_1", "function": {"name": "clock", "arguments": "{}"}}
STORED = [
    {"role": "assistant", "content": "Welcome."},
    {"role": "user", "content": "One"},
    {"role": "assistant", "content": "", "metadata": {"tool_calls": [CALL]}},
    {"role": "tool", "content": "09:30", "metadata": {"tool_call_id": "call_1"}},
    {"role": "assistant", "content": "Two", "metadata": {"model": "gpt"}},
    {"role": "user", "content": "Three"},
]
PAIR = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{**CALL, "id": "past00001"}],
    },
    {"role": "tool", "tool_call_id": "past00001", "content": "09:30"},
]


def said(*texts: str) -> list[Any]:
    return [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(texts)]


GIVEN = {
    100: [*said("One"), *PAIR, {"role": "assistant", "content": "Two"}, *said("Three")],
    5: [*said("One"), *PAIR, {"role": "assistant", "content": "Two"}, *said("Three")],
    4: said("Three"),  # What comes before the user's first message is left out, as half a turn is of no use.
    1: said("Three"),
    0: [],
}


@pytest.fixture
async def headers(sign_in: SignIn) -> Headers:
    return await sign_in("ada")


async def store(client: httpx.AsyncClient, messages: list[Any]) -> int:
    service = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}
    opened = await client.post("/api/conversations", headers=service, json={})
    conversation_id: int = opened.json()["id"]
    for some in batched(messages, 6):
        stored = await client.post(f"/api/conversations/{conversation_id}/messages", headers=service, json=some)
        assert stored.status_code == 201
    return conversation_id


async def given(database_url: str, headers: Headers, model: ModelServer, messages: list[Any], **settings: Any) -> Any:
    """What the model is given after these messages, before the user's next one."""
    agent = {"assistant": "tests.support.scripted_agent:agent", "service_auth_token": SERVICE_TOKEN, **settings}
    async with running(make_settings(database_url=database_url, **agent)) as app, client_of(app) as client:
        body = {"message": "And now?", "conversation_id": await store(client, messages)}
        response = await client.post("/api/chat", headers=headers, json=body)
        assert response.status_code == 200
    *before, last = model.messages()
    assert last == {"role": "user", "content": "And now?"}
    return before


@pytest.mark.parametrize(("count", "messages"), GIVEN.items(), ids=str)
async def test_the_newest_messages_are_given_from_the_users_first_one_on(
    count: int, messages: list[Any], database_url: str, headers: Headers, model: ModelServer
) -> None:
    assert await given(database_url, headers, model, STORED, assistant_history=count) == messages


async def test_no_more_is_given_than_a_page_holds(database_url: str, headers: Headers, model: ModelServer) -> None:
    long = [{"role": "user", "content": f"{n} " + "a" * 99_000} for n in range(10)]

    messages = await given(database_url, headers, model, [*long, {"role": "user", "content": "b" * 99_000}])

    assert [message["content"][:2] for message in messages] == [*(f"{n} " for n in range(1, 10)), "bb"]


async def test_an_agent_whose_history_is_not_wanted_still_needs_the_conversation(
    database_url: str, headers: Headers, model: ModelServer, database: asyncpg.Connection
) -> None:
    settings = make_settings(
        database_url=database_url, assistant="tests.support.scripted_agent:agent", assistant_history=0
    )
    async with running(settings) as app, client_of(app) as client:
        response = await client.post("/api/chat", headers=headers, json={"message": "Hello", "conversation_id": 1})

    assert (response.status_code, response.json()) == (404, {"detail": "Conversation not found."})
    assert model.asked == []
