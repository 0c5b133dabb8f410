"""An agent behind `POST /api/chat`: its turns are whole, stored once, and streamed to whoever wants that."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from tests.support.assistant import PROJECT, finished, shown, stream, with_agent, with_key
from tests.support.metrics import scrape
from tests.support.model_server import Call, ModelServer, Reply, says
from tests.support.service import Service, run_service
from tests.support.types import Headers, SignIn, StartService

FAILED = "The assistant failed to reply, and nothing was stored."
UNAVAILABLE = "The assistant is not available at the moment, and nothing was stored; try again shortly."


@pytest.fixture(scope="module", params=["chat", "responses"])
def service(
    request: pytest.FixtureRequest,
    shared_model: ModelServer,
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service whose agent speaks one of OpenAI's APIs."""
    folder = tmp_path_factory.mktemp("assistant")
    with run_service(folder, DATABASE_URL=database_url, **with_agent(shared_model, request.param)) as service:
        yield service


@pytest.fixture
async def client(service: Service, database: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        yield client


async def send(client: httpx.AsyncClient, headers: Headers, **body: Any) -> httpx.Response:
    return await client.post("/api/chat", headers=headers, json=body)


async def read(client: httpx.AsyncClient, headers: Headers, conversation_id: int) -> list[tuple[str, str, Any]]:
    conversation = await client.get(f"/api/conversations/{conversation_id}", headers=headers)
    messages = conversation.json()["messages"]
    return [(message["role"], message["content"], message["metadata"]) for message in messages]


async def test_a_turn_is_stored_with_its_calls_and_outputs_and_given_to_the_next_one(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer
) -> None:
    headers = await sign_in()
    model.script = [says(calls=(Call("clock", '{"city": "Karachi"}'),)), says("Half past ", "nine."), says("Bye.")]

    response = await send(client, headers, message="What time is it?")
    conversation_id = response.json()["conversation_id"]
    await send(client, headers, message="Thanks", conversation_id=conversation_id)

    assert response.json() == {
        "conversation_id": ANY,
        "user_message": "What time is it?",
        "assistant_message": "Half past nine.",
    }
    call, output = (await read(client, headers, conversation_id))[1:3]
    assert call[2].items() >= {"type": "function_call", "call_id": "call_1", "name": "clock"}.items()
    assert not {"id", "status"} & call[2].keys()
    assert await read(client, headers, conversation_id) == [
        ("user", "What time is it?", None),
        ("assistant", "", call[2]),
        ("tool", "09:30 in Karachi", {"type": "function_call_output", "call_id": "call_1", "output": output[1]}),
        ("assistant", "Half past nine.", None),
        ("user", "Thanks", None),
        ("assistant", "Bye.", None),
    ]
    given = json.dumps(model.messages())
    assert given.count("past00001") == 2
    assert [text in given for text in ("What time is it?", "09:30 in Karachi", "Half past nine.", "Thanks")] == [
        True
    ] * 4


async def test_parts_are_streamed_as_they_come_and_the_end_follows_the_commit(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    model.script = [
        says("Let me look.", calls=(Call("clock", '{"city": "Karachi"}'),)),
        says("Half past ", "nine.\0", pause=0.5),
    ]

    async with stream(client, headers, message="What time is it?") as response:
        first = [await response.next() for _ in range(8)]
        stored_meanwhile = await database.fetchval("SELECT count(*) FROM messages")
        rest = await response.rest()

    assert response.response.status_code == 200
    assert stored_meanwhile == 0
    assert first == [
        {"type": "start"},
        *shown("Let me look."),
        {
            "type": "tool-input-available",
            "toolCallId": "call_1",
            "toolName": "clock",
            "input": {"city": "Karachi"},
            "dynamic": True,
        },
        {"type": "tool-output-available", "toolCallId": "call_1", "output": "09:30 in Karachi", "dynamic": True},
        {"type": "text-start", "id": "2"},
        {"type": "text-delta", "id": "2", "delta": "Half past "},
    ]
    assert rest == [
        {"type": "text-delta", "id": "2", "delta": "nine.\ufffd"},
        {"type": "text-end", "id": "2"},
        finished(ANY),
    ]
    stored = await read(client, headers, rest[-1]["messageMetadata"]["conversation_id"])
    assert [content for role, content, _ in stored if role == "assistant"] == [
        "Let me look.",
        "",
        "Half past nine.\ufffd",
    ]


FAILURES: dict[str, tuple[Reply, int, str, str]] = {
    "too many requests": (says(status=429), 503, UNAVAILABLE, "openai.RateLimitError"),
    "a fault of the provider's": (says(status=500), 503, UNAVAILABLE, "openai.InternalServerError"),
    "a request that is refused": (says(status=400), 502, FAILED, "openai.BadRequestError"),
    "nothing": (says(), 502, FAILED, "the turn does not end with a reply"),
}


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(("reply", "status", "detail", "cause"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_failure_before_anything_is_shown_is_a_status_and_stores_nothing(
    accept: str,
    reply: Reply,
    status: int,
    detail: str,
    cause: str,
    client: httpx.AsyncClient,
    sign_in: SignIn,
    model: ModelServer,
    database: asyncpg.Connection,
    service: Service,
) -> None:
    headers = with_key(await sign_in())
    model.script = [reply]

    failed = await send(client, headers | {"Accept": accept}, message="Hello")
    nothing = await database.fetchval("SELECT count(*) FROM conversations")
    again = await send(client, headers, message="Hello")

    assert (failed.status_code, failed.json()) == (status, {"detail": detail})
    assert failed.headers.get("Retry-After") == ("5" if status == 503 else None)
    assert nothing == 0
    assert again.json()["assistant_message"] == "Hello from the model."
    log = service.log.read_text()
    assert cause in log
    assert "SECRET" not in log + failed.text


async def test_a_tool_that_breaks_after_its_call_was_shown_ends_the_stream_with_an_error(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection, service: Service
) -> None:
    model.script = [says(calls=(Call("breaks"),))]

    async with stream(client, await sign_in(), message="Hello") as response:
        parts = await response.rest()

    assert [part["type"] for part in parts] == ["start", "tool-input-available", "error"]
    assert parts[-1] == {"type": "error", "errorText": FAILED}
    assert await database.fetchval("SELECT count(*) FROM messages") == 0
    log = service.log.read_text()
    assert "agents.exceptions.UserError from builtins.ConnectionError\n" in log
    assert "SECRET" not in log


@pytest.mark.parametrize("name", ["exits", "closes", "interrupts"])
async def test_a_tool_that_would_end_the_process_ends_its_run_alone(
    name: str,
    client: httpx.AsyncClient,
    sign_in: SignIn,
    model: ModelServer,
    database: asyncpg.Connection,
    service: Service,
) -> None:
    headers = await sign_in()
    model.script = [says(calls=(Call(name),))]

    failed = await send(client, headers, message="Hello")
    nothing = await database.fetchval("SELECT count(*) FROM messages")
    again = await send(client, headers, message="Hello")

    assert (failed.status_code, failed.json()) == (502, {"detail": FAILED})
    assert nothing == 0
    assert again.json()["assistant_message"] == "Hello from the model."
    assert "SECRET" not in service.log.read_text()


async def test_a_task_that_a_tool_leaves_behind_is_logged_without_the_text_of_its_failure(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, service: Service
) -> None:
    model.script = [says(calls=(Call("leaves"),)), says("Half past nine.")]

    response = await send(client, await sign_in(), message="Hello")

    assert response.json()["assistant_message"] == "Half past nine."
    log = service.log.read_text()
    assert "asyncio: Task exception was never retrieved" in log
    assert "builtins.ConnectionError" in log
    assert "SECRET" not in log


@pytest.mark.parametrize("end", ["cut", "early"])
async def test_a_failure_after_something_was_shown_ends_the_stream_with_an_error(
    end: Any, client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    headers = with_key(await sign_in())
    model.script = [says("Half past ", "nine.", end=end)]

    async with stream(client, headers, message="Hello") as response:
        parts = await response.rest()

    assert response.response.status_code == 200
    assert parts == [
        {"type": "start"},
        *[part for part in shown("Half past ", "nine.") if part["type"] != "text-end"],
        *[part for part in parts if part["type"] == "text-end"],  # The SDK may end what it holds to be whole.
        {"type": "error", "errorText": UNAVAILABLE},
    ]
    assert await database.fetchval("SELECT count(*) FROM messages") == 0
    assert (await send(client, headers, message="Hello")).status_code == 200


async def test_an_error_that_nobody_expects_is_a_500_or_ends_the_stream_without_its_text(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, unlucky: str, service: Service
) -> None:
    headers = await sign_in()
    model.default = says(unlucky)

    whole = await send(client, headers, message="Hello")
    async with stream(client, headers, message="Hello") as response:
        parts = await response.rest()

    assert (whole.status_code, whole.json()) == (500, {"detail": "Internal server error."})
    assert parts == [{"type": "start"}, *shown(unlucky), {"type": "error", "errorText": "Internal server error."}]
    log = service.log.read_text()
    assert "assistant's turn: error after" in log
    assert "asyncpg.exceptions.CheckViolationError" in log
    assert unlucky not in log


async def test_the_lines_of_a_turn_name_the_conversation_that_it_is_stored_in(
    client: httpx.AsyncClient, sign_in: SignIn, service: Service
) -> None:
    headers = await sign_in() | {"X-Request-ID": "told"}

    id_ = (await send(client, headers, message="Hello")).json()["conversation_id"]
    async with stream(client, headers, message="Go on", conversation_id=id_) as response:
        await response.rest()

    told = re.compile(r"\[told conversation (\d+)\] (assistant's turn: stored|POST /api/chat 200)")
    async with asyncio.timeout(10):
        while len(lines := told.findall(service.log.read_text())) < 4:  # noqa: ASYNC110  # Another process writes.
            await asyncio.sleep(0.02)  # A request's line follows its response.
    assert sorted(lines) == sorted(2 * [(str(id_), "assistant's turn: stored"), (str(id_), "POST /api/chat 200")])


async def test_a_conversation_of_somebody_else_is_a_404_before_the_model_is_asked(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer
) -> None:
    others = (await send(client, await sign_in("grace"), message="Hello")).json()["conversation_id"]
    model.reset()

    response = await send(client, await sign_in("ada"), message="Hello", conversation_id=others)

    assert (response.status_code, response.json()) == (404, {"detail": "Conversation not found."})
    assert model.asked == []


async def test_a_conversation_that_is_deleted_while_the_agent_thinks_is_a_404(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    conversation_id = (await send(client, headers, message="Hello")).json()["conversation_id"]
    model.default = says("Hello", silence=0.5)
    turn = asyncio.create_task(send(client, headers, message="Again", conversation_id=conversation_id))
    await model.until_answering(1)

    await client.delete(f"/api/conversations/{conversation_id}", headers=headers)

    assert (await turn).json() == {"detail": "Conversation not found."}
    assert await database.fetchval("SELECT count(*) FROM messages") == 0


async def test_the_same_key_joins_a_run_and_afterwards_replays_it(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    headers = with_key(await sign_in())
    model.default = says("Half past ", "nine.", pause=0.5)
    first = asyncio.create_task(send(client, headers, message="Hello"))
    await model.until_answering(1)

    async with stream(client, headers, message="Hello") as response:
        joined = await response.rest()
    reused = await send(client, headers, message="Something else")
    async with stream(client, headers, message="Hello") as response:
        replayed = await response.rest()

    conversation_id = (await first).json()["conversation_id"]
    assert "Idempotency-Replayed" not in (await first).headers
    assert joined == [{"type": "start"}, *shown("Half past ", "nine."), finished(conversation_id)]
    assert reused.status_code == 422
    assert response.response.headers["Idempotency-Replayed"] == "true"
    assert replayed == [{"type": "start"}, *shown("Half past nine."), finished(conversation_id, replayed=True)]
    assert len(model.asked) == 1
    assert await database.fetchval("SELECT count(*) FROM messages") == 2


async def test_those_who_join_a_run_get_all_of_it_as_if_they_had_begun_it(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer
) -> None:
    headers = with_key(await sign_in())
    before = await scrape(client)
    model.default = says("Half ", "past ", "nine.", pause=0.5)

    async with stream(client, headers, message="Hello") as first:
        begun = [await first.next() for _ in range(3)]
        whole = asyncio.create_task(send(client, headers, message="Hello"))
        async with stream(client, headers, message="Hello") as second:
            joined = await second.rest()
        begun += await first.rest()

    response = await whole
    conversation_id = response.json()["conversation_id"]
    assert begun == joined == [{"type": "start"}, *shown("Half ", "past ", "nine."), finished(conversation_id)]
    assert response.json()["assistant_message"] == "Half past nine."
    replayed = [joiner.headers.get("Idempotency-Replayed") for joiner in (response, first.response, second.response)]
    assert replayed == [None, None, None]
    assert len(model.asked) == 1
    stored = "assistant_turns_total", ("stored",)
    assert (await scrape(client))[stored] - before.get(stored, 0) == 1


async def test_those_who_join_a_run_that_fails_are_told_so_and_the_key_is_free(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer
) -> None:
    headers = with_key(await sign_in())
    model.script = [says("Half ", "past ", "nine.", pause=0.5, end="cut")]

    async with stream(client, headers, message="Hello") as first:
        await first.next()
        whole = asyncio.create_task(send(client, headers, message="Hello"))
        async with stream(client, headers, message="Hello") as second:
            ends = [(await joiner.rest())[-1] for joiner in (first, second)]
    again = await send(client, headers, message="Hello")

    assert ends == 2 * [{"type": "error", "errorText": UNAVAILABLE}]
    assert ((await whole).status_code, (await whole).json()) == (503, {"detail": UNAVAILABLE})
    assert again.json()["assistant_message"] == "Hello from the model."
    assert "Idempotency-Replayed" not in again.headers
    assert len(model.asked) == 2


async def test_the_key_of_a_run_is_refused_to_another_message(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer
) -> None:
    headers = with_key(await sign_in())
    model.default = says("Hello", silence=0.5)
    first = asyncio.create_task(send(client, headers, message="Hello"))
    await model.until_answering(1)

    other = await send(client, headers, message="Something else")

    assert (other.status_code, type(other.json()["detail"])) == (422, str)
    assert (await first).status_code == 200
    assert len(model.asked) == 1


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_client_that_goes_away_finds_its_turn_under_the_key(
    accept: str, client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer
) -> None:
    headers = with_key(await sign_in())
    model.default = says("Half past ", "nine.", pause=0.3)
    impatient = asyncio.create_task(send(client, headers | {"Accept": accept}, message="Hello"))
    await model.until_answering(1)

    impatient.cancel()

    await model.until_answering(0)
    found = await send(client, headers, message="Hello")
    assert found.json()["assistant_message"] == "Half past nine."
    assert len(model.asked) == 1


async def test_a_tool_knows_the_user_the_conversation_and_the_key(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer
) -> None:
    headers = await sign_in("ada")
    conversation_id = (await send(client, headers, message="Hello")).json()["conversation_id"]
    for fields, body in (
        ({}, {}),
        ({"Idempotency-Key": "key-1"}, {"conversation_id": conversation_id}),
    ):
        model.script = [says(calls=(Call("whoami"),)), says("That is all.")]
        await send(client, headers | fields, message="Who am I?", **body)

    rows = await read(client, headers, conversation_id)
    assert [content for role, content, _ in rows if role == "tool"] == [
        f"TurnContext(user_id='ada', conversation_id={conversation_id}, idempotency_key='key-1')"
    ]
    [newest, _] = (await client.get("/api/conversations", headers=headers)).json()
    first = newest["id"] if newest["id"] != conversation_id else _["id"]
    assert [content for role, content, _ in await read(client, headers, first) if role == "tool"] == [
        "TurnContext(user_id='ada', conversation_id=None, idempotency_key=None)"
    ]


async def test_operators_see_how_each_run_ended_and_the_database_is_not_blamed(
    client: httpx.AsyncClient, sign_in: SignIn, model: ModelServer, service: Service
) -> None:
    before = await scrape(client)
    headers = with_key(await sign_in())
    model.script = [says(status=500), says(status=400)]

    for _ in range(4):
        await send(client, headers, message="Hello")

    after = await scrape(client)
    turns = {
        labels: after[name, labels] - before[name, labels]  # Each outcome is there before it happens.
        for name, labels in after
        if name == "assistant_turns_total"
    }
    assert {labels: count for labels, count in turns.items() if count} == {
        ("unavailable",): 1,
        ("failed",): 1,
        ("stored",): 1,
        ("replayed",): 1,
    }
    assert after["assistant_turns_running", ()] == 0
    assert after["assistant_turn_duration_seconds_count", ()] - before["assistant_turn_duration_seconds_count", ()] == 4
    assert not [name for (name, _), value in after.items() if name == "database_unavailable_total" and value]
    assert "HTTP Request" not in service.log.read_text()


async def test_the_agent_of_the_readme_runs_as_it_is_pasted(
    start_service: StartService, sign_in: SignIn, model: ModelServer, tmp_path: Path
) -> None:
    section = (PROJECT / "README.md").read_text().partition("## Put your agent in")[2]
    (tmp_path / "my_agent.py").write_text(section.partition("```python\n")[2].partition("```")[0])
    where = {"MODEL_URL": model.url, "MODEL_KEY": "none", "MODEL": "scripted"}
    service = start_service(ASSISTANT="my_agent:agent", **where)
    model.script = [says(calls=(Call("user_id"),)), says("You are ada.")]

    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        response = await send(client, await sign_in("ada"), message="Who am I?")

    assert response.json()["assistant_message"] == "You are ada."
    assert model.messages()[-1] == {"role": "tool", "tool_call_id": "call_1", "content": "ada"}
    assert "replies come from my_agent:agent\n" in service.log.read_text()
