"""An agent while processes end, the database is away and models are slow: a turn is whole or absent, and there once."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from tests.support.assistant import finished, shown, stream, with_agent
from tests.support.metrics import scrape_at
from tests.support.model_server import ModelServer, run_model_server, says
from tests.support.proxy import run_proxy
from tests.support.service import Service
from tests.support.types import Headers, SignIn, StartService

STOPPING = "The service is stopping, and nothing was stored; try again shortly."
PERHAPS = (
    "The service is stopping, and the message may or may not be stored: send it again with the same"
    " Idempotency-Key, or read the conversation."
)
OTHER = "Another reply to this message was stored: send it again with the same key to read that one."
TOO_SLOW = "The assistant took too long to reply, and nothing was stored; try again shortly."


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with run_model_server() as server:
        yield server


async def send(service: Service, headers: Headers, message: str = "Hello", **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await client.post("/api/chat", headers=headers, json={"message": message, **body})


async def send_for_stream(service: Service, headers: Headers) -> tuple[httpx.Response, list[Any]]:
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=60) as client,
        stream(client, headers, message="Hello") as response,
    ):
        return response.response, await response.rest()


def with_key(headers: Headers) -> Headers:
    return headers | {"Idempotency-Key": secrets.token_hex()}


async def count_messages(database: asyncpg.Connection) -> int:
    count: int = await database.fetchval("SELECT count(*) FROM messages")
    return count


async def until_stored(database: asyncpg.Connection) -> None:
    for _ in range(200):
        if await count_messages(database):
            return
        await asyncio.sleep(0.05)  # Each question is a statement.
    raise AssertionError("nothing was stored in 200 tries")


async def wait_for(process: Any) -> None:
    await asyncio.to_thread(process.wait, 30)


async def test_a_model_that_is_too_slow_is_given_up_and_its_connection_closed(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    service = start_service(ASSISTANT_TIMEOUT="1", **with_agent(model))
    model.default = says("Hello", silence=60)

    response = await send(service, await sign_in())

    assert (response.status_code, response.json()) == (503, {"detail": TOO_SLOW})
    assert response.headers["Retry-After"] == "5"
    await model.until_answering(0)
    assert await count_messages(database) == 0


async def test_a_turn_ends_and_is_stored_within_the_time_that_a_stopping_service_has(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    service, headers = start_service("--timeout-graceful-shutdown=20", **with_agent(model)), await sign_in()
    model.default = says("Half past ", "nine.", pause=1)
    whole = asyncio.create_task(send(service, headers))
    streamed = asyncio.create_task(send_for_stream(service, headers))
    await model.until_answering(2)

    service.process.terminate()

    assert (await whole).json()["assistant_message"] == "Half past nine."
    assert (await streamed)[1] == [{"type": "start"}, *shown("Half past ", "nine."), finished(ANY)]
    await wait_for(service.process)
    assert await count_messages(database) == 4
    assert "Traceback" not in service.log.read_text()


async def test_turns_that_take_longer_than_that_are_answered_and_leave_nothing(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    service, headers = start_service("--timeout-graceful-shutdown=1", **with_agent(model)), await sign_in()
    model.script = [says("Half past nine.", silence=60), says("Half ", *["past "] * 600, pause=0.1)]
    whole = asyncio.create_task(send(service, headers))
    await model.until_answering(1)
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=60) as client,
        stream(client, headers, message="Hello") as streamed,
    ):
        begun = [await streamed.next() for _ in range(3)]

        service.process.terminate()

        response = await whole
        parts = await streamed.rest()
    assert (response.status_code, response.json()) == (503, {"detail": STOPPING})
    assert begun == [{"type": "start"}, *shown("Half ")[:2]]
    assert [part["type"] for part in parts[:-1]] == ["text-delta"] * (len(parts) - 1)
    assert parts[-1] == {"type": "error", "errorText": STOPPING}
    await model.until_answering(0)
    await wait_for(service.process)
    assert await count_messages(database) == 0
    assert "Traceback" not in service.log.read_text()


async def test_a_killed_process_leaves_nothing_and_the_key_is_free(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    replicas = [start_service(**with_agent(model)) for _ in range(2)]
    headers = with_key(await sign_in())
    model.default = says("Half past ", "nine.", pause=60)
    doomed = asyncio.create_task(send(replicas[0], headers))
    await model.until_answering(1)

    replicas[0].process.kill()
    with pytest.raises(httpx.TransportError):
        await doomed
    nothing = await database.fetchval(
        "SELECT (SELECT count(*) FROM conversations) + (SELECT count(*) FROM idempotency_keys)"
    )
    model.default = says("Half past nine.")
    retried = await send(replicas[1], headers)

    assert nothing == 0
    assert retried.json()["assistant_message"] == "Half past nine."
    assert "Idempotency-Replayed" not in retried.headers
    assert await count_messages(database) == 2


async def test_of_two_replicas_that_are_asked_with_one_key_the_slower_gives_what_the_faster_has_stored(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    slow, fast = (start_service(**with_agent(model)) for _ in range(2))
    headers = await sign_in()

    async def race(*pieces: str, key: str) -> list[Any]:
        keyed = headers | {"Idempotency-Key": key}
        model.script = [says(*pieces, pause=1), says("Half past nine.")]
        ask = send_for_stream if key != "whole" else send
        slower = asyncio.create_task(ask(slow, keyed))
        await model.until_answering(1)
        assert (await send(fast, keyed)).json()["assistant_message"] == "Half past nine."
        return [await slower, await send(slow, keyed)]

    whole, _ = await race("Ten ", "to ten.", key="whole")
    (_, same), _ = await race("Half past ", "nine.", key="same-text")
    (_, other), replayed = await race("Ten ", "to ten.", key="other-text")

    assert whole.json()["assistant_message"] == "Half past nine."
    assert whole.headers["Idempotency-Replayed"] == "true"
    assert same == [{"type": "start"}, *shown("Half past ", "nine."), finished(ANY, replayed=True)]
    assert other == [{"type": "start"}, *shown("Ten ", "to ten."), {"type": "error", "errorText": OTHER}]
    assert replayed.json()["assistant_message"] == "Half past nine."
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert await count_messages(database) == 6


async def test_a_pool_of_one_connection_serves_forty_turns_at_once_and_a_list_meanwhile(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    service = start_service(DATABASE_POOL_SIZE="1", DATABASE_MAX_OVERFLOW="0", **with_agent(model))
    headers = await sign_in()
    model.default = says("Half past nine.", silence=3)
    turns = [asyncio.create_task(send(service, headers)) for _ in range(40)]
    await model.until_answering(40)

    async with httpx.AsyncClient(base_url=service.url, headers=headers) as client:
        listed = await client.get("/api/conversations")
    meanwhile = await scrape_at(service.url)

    assert listed.json() == []
    assert model.answering == 40
    assert meanwhile["assistant_turns_running", ()] == 40
    assert meanwhile["database_connections", ("in_use",)] == 0
    assert [(await turn).status_code for turn in turns] == [200] * 40
    assert await count_messages(database) == 80


@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without"])
async def test_a_reply_outlives_a_database_that_is_away_when_it_is_to_be_stored(
    keyed: bool,
    start_service: StartService,
    sign_in: SignIn,
    model: ModelServer,
    database: asyncpg.Connection,
    database_url: str,
) -> None:
    async with run_proxy(database_url) as proxy:
        service = start_service(**with_agent(model) | {"DATABASE_URL": proxy.url})
        headers = await sign_in()
        model.default = says("Half past nine.", silence=1)
        turn = asyncio.create_task(send(service, with_key(headers) if keyed else headers))
        await model.until_answering(1)

        proxy.refuse()
        await model.until_answering(0)
        await asyncio.sleep(2)  # So that storing has failed several times.
        await proxy.forward()

        response = await turn
    assert response.json() == {"conversation_id": ANY, "user_message": "Hello", "assistant_message": "Half past nine."}
    assert "Idempotency-Replayed" not in response.headers
    assert await count_messages(database) == 2
    assert len(model.asked) == 1


@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without"])
async def test_a_turn_whose_storing_was_not_answered_is_stored_once(
    keyed: bool,
    start_service: StartService,
    sign_in: SignIn,
    model: ModelServer,
    database: asyncpg.Connection,
    database_url: str,
) -> None:
    async with run_proxy(database_url) as proxy:
        service = start_service(**with_agent(model) | {"DATABASE_URL": proxy.url})
        headers = await sign_in()
        model.default = says("A marked reply.", silence=1)
        turn = asyncio.create_task(send(service, with_key(headers) if keyed else headers))
        await model.until_answering(1)

        proxy.lose_answer(b"A marked reply.", "reset")
        await until_stored(database)
        await proxy.forward()

        response = await turn
    assert response.json()["assistant_message"] == "A marked reply."
    assert "Idempotency-Replayed" not in response.headers
    assert await count_messages(database) == 2
    assert len(model.asked) == 1


async def test_a_service_that_stops_before_it_knows_whether_a_turn_is_stored_does_not_deny_it(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection, database_url: str
) -> None:
    async with run_proxy(database_url) as proxy:
        environment = with_agent(model) | {"DATABASE_URL": proxy.url}
        service = start_service("--timeout-graceful-shutdown=1", **environment)
        headers = with_key(await sign_in())
        model.default = says("A marked reply.", silence=1)
        whole = asyncio.create_task(send(service, headers))
        streamed = asyncio.create_task(send_for_stream(service, headers))
        await model.until_answering(1)

        proxy.lose_answer(b"A marked reply.", "reset")
        await until_stored(database)
        service.process.terminate()

        response, (_, parts) = await whole, await streamed
        await wait_for(service.process)
    assert (response.status_code, response.json()) == (503, {"detail": PERHAPS})
    assert response.headers["Retry-After"] == "5"
    assert parts == [{"type": "start"}, *shown("A marked reply."), {"type": "error", "errorText": PERHAPS}]
    assert await count_messages(database) == 2
    assert "Traceback" not in service.log.read_text()


async def test_a_database_that_stays_away_is_a_503_within_the_time_that_is_promised(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection, database_url: str
) -> None:
    async with run_proxy(database_url) as proxy:
        service = start_service(ASSISTANT_TIMEOUT="5", **with_agent(model) | {"DATABASE_URL": proxy.url})
        headers = await sign_in()
        model.default = says("Half past nine.", silence=1)
        started = time.monotonic()
        turn = asyncio.create_task(send(service, headers))
        await model.until_answering(1)

        proxy.refuse()

        response = await turn
        seconds = time.monotonic() - started
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert seconds >= 20
    assert await count_messages(database) == 0


async def test_the_head_of_a_stream_waits_ten_seconds_and_silence_is_filled_with_comments(
    start_service: StartService, sign_in: SignIn, model: ModelServer
) -> None:
    service = start_service(**with_agent(model))
    model.default = says("Half past nine.", silence=22)
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        started = time.monotonic()
        async with stream(client, await sign_in(), message="Hello") as response:
            waited = time.monotonic() - started
            parts = await response.rest()

    assert waited >= 10
    assert parts == [{"type": "start"}, *shown("Half past nine."), finished(ANY)]
    assert response.comments >= 1


async def test_a_failure_after_the_head_has_gone_is_an_error_part(
    start_service: StartService, sign_in: SignIn, model: ModelServer
) -> None:
    service = start_service(ASSISTANT_TIMEOUT="11", **with_agent(model))
    model.default = says("Half past nine.", silence=60)

    head, parts = await send_for_stream(service, await sign_in())

    assert head.status_code == 200
    assert parts == [{"type": "start"}, {"type": "error", "errorText": TOO_SLOW}]
