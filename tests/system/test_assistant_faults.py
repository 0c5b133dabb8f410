"""An agent while processes end and replicas race: a turn is whole or absent, and there once."""

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from tests.support.assistant import finished, send, send_for_stream, shown, stream, with_agent, with_key
from tests.support.database import count_messages
from tests.support.metrics import scrape_at
from tests.support.model_server import ModelServer, says
from tests.support.service import Service, run_service
from tests.support.types import SignIn, StartService

STOPPING = "The service is stopping, and nothing was stored; try again shortly."
OTHER = "Another reply to this message was stored: send it again with the same key to read that one."


@pytest.fixture(scope="module")
def replica(
    shared_model: ModelServer, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The replica to which nothing happens."""
    folder = tmp_path_factory.mktemp("replica")
    with run_service(folder, DATABASE_URL=database_url, **with_agent(shared_model)) as service:
        yield service


async def wait_for(process: Any) -> None:
    await asyncio.to_thread(process.wait, 30)


async def test_a_turn_ends_and_is_stored_within_the_time_that_a_stopping_service_has(
    start_service: StartService, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    service, headers = start_service("--timeout-graceful-shutdown=20", **with_agent(model)), await sign_in()
    model.default = says("Half past ", "nine.", pause=1)
    whole = asyncio.create_task(send(service.url, headers))
    streamed = asyncio.create_task(send_for_stream(service.url, headers))
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
    whole = asyncio.create_task(send(service.url, headers))
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
    start_service: StartService, replica: Service, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    doomed = start_service(**with_agent(model))
    headers = with_key(await sign_in())
    model.default = says("Half past ", "nine.", pause=60)
    turn = asyncio.create_task(send(doomed.url, headers))
    await model.until_answering(1)

    doomed.process.kill()
    with pytest.raises(httpx.TransportError):
        await turn
    nothing = await database.fetchval(
        "SELECT (SELECT count(*) FROM conversations) + (SELECT count(*) FROM idempotency_keys)"
    )
    model.default = says("Half past nine.")
    retried = await send(replica.url, headers)

    assert nothing == 0
    assert retried.json()["assistant_message"] == "Half past nine."
    assert "Idempotency-Replayed" not in retried.headers
    assert await count_messages(database) == 2


async def test_of_two_replicas_that_are_asked_with_one_key_the_slower_gives_what_the_faster_has_stored(
    start_service: StartService, replica: Service, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    slow, fast = start_service(**with_agent(model)), replica
    headers = await sign_in()

    async def race(*pieces: str, key: str) -> list[Any]:
        keyed = headers | {"Idempotency-Key": key}
        model.script = [says(*pieces, pause=1), says("Half past nine.")]
        ask = send_for_stream if key != "whole" else send
        slower = asyncio.create_task(ask(slow.url, keyed))
        await model.until_answering(1)
        assert (await send(fast.url, keyed)).json()["assistant_message"] == "Half past nine."
        return [await slower, await send(slow.url, keyed)]

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
    turns = [asyncio.create_task(send(service.url, headers)) for _ in range(40)]
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
