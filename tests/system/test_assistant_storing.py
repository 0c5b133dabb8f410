"""An agent's turn that the database is away for when it is to be stored: it is stored once, and nobody denies it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from unittest.mock import ANY

import asyncpg
import pytest

from tests.support.assistant import send, send_for_stream, shown, with_agent, with_key
from tests.support.database import count_messages
from tests.support.model_server import ModelServer, says
from tests.support.proxy import Proxy, run_proxy
from tests.support.service import Service, run_service
from tests.support.types import SignIn, StartService

PERHAPS = (
    "The service is stopping, and the message may or may not be stored: send it again with the same"
    " Idempotency-Key, or read the conversation."
)


@pytest.fixture(scope="module")
async def shared_proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with run_proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
async def proxy(shared_proxy: Proxy) -> Proxy:
    """What lies between the service and the database, which works at first."""
    await shared_proxy.forward()
    return shared_proxy


@pytest.fixture(scope="module")
async def service(
    shared_model: ModelServer, shared_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    running = run_service(folder, DATABASE_URL=shared_proxy.url, **with_agent(shared_model))
    with ExitStack() as stack:
        # The service looks at the database when it starts, and this thread is the proxy.
        yield await asyncio.to_thread(stack.enter_context, running)


async def until_stored(database: asyncpg.Connection) -> None:
    for _ in range(200):
        if await count_messages(database):
            return
        await asyncio.sleep(0.05)  # Each question is a statement.
    raise AssertionError("nothing was stored in 200 tries")


@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without"])
async def test_a_reply_outlives_a_database_that_is_away_when_it_is_to_be_stored(
    keyed: bool, service: Service, proxy: Proxy, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    model.default = says("Half past nine.", silence=0.5)
    turn = asyncio.create_task(send(service.url, with_key(headers) if keyed else headers))
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
    keyed: bool, service: Service, proxy: Proxy, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    model.default = says("A marked reply.", silence=0.5)
    turn = asyncio.create_task(send(service.url, with_key(headers) if keyed else headers))
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
    start_service: StartService, proxy: Proxy, sign_in: SignIn, model: ModelServer, database: asyncpg.Connection
) -> None:
    environment = with_agent(model) | {"DATABASE_URL": proxy.url}
    service = await asyncio.to_thread(start_service, "--timeout-graceful-shutdown=1", **environment)
    headers = with_key(await sign_in())
    model.default = says("A marked reply.", silence=1)
    whole = asyncio.create_task(send(service.url, headers))
    streamed = asyncio.create_task(send_for_stream(service.url, headers))
    await model.until_answering(1)

    proxy.lose_answer(b"A marked reply.", "reset")
    await until_stored(database)
    service.process.terminate()

    response, (_, parts) = await whole, await streamed
    await asyncio.to_thread(service.process.wait, 30)
    assert (response.status_code, response.json()) == (503, {"detail": PERHAPS})
    assert response.headers["Retry-After"] == "5"
    assert parts == [{"type": "start"}, *shown("A marked reply."), {"type": "error", "errorText": PERHAPS}]
    assert await count_messages(database) == 2
    assert "Traceback" not in service.log.read_text()
