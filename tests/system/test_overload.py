"""More clients than the pool has connections: each gets a response, and afterwards everything is as before."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from ai_agent.database.models import Conversation
from tests.support.memory import MIB, measure_growth
from tests.support.metrics import connections_in_use, scrape_at, wait_for_requests
from tests.support.raw import Answer, compose, connect, exchange_async
from tests.support.rows import add
from tests.support.types import Headers, SignIn, StartService

CLIENTS = 500
POOL_OF_ONE = {
    "DATABASE_POOL_SIZE": "1",
    "DATABASE_MAX_OVERFLOW": "0",
    "DATABASE_POOL_TIMEOUT": "4",
    "DATABASE_TIMEOUT": "4.5",
}


async def burst(url: str, headers: Headers) -> list[Answer]:
    """All clients at the same moment: every other one sends a message, the rest list their conversations."""
    requests = [
        compose("POST", "/api/chat", headers, {"message": "Hello"}),
        compose("GET", "/api/conversations", headers),
    ]
    return await asyncio.gather(*(exchange_async(url, requests[n % 2]) for n in range(CLIENTS)))


@asynccontextmanager
async def locked(database: asyncpg.Connection, id_: int) -> AsyncIterator[None]:
    """Make every message to the conversation wait."""
    async with database.transaction():
        await database.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", id_)
        yield


async def test_500_clients_at_once_are_served_or_told_to_come_back(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    service, headers = start_service(), await sign_in()

    answers, growth = await measure_growth(service, burst(service.url, headers))

    statuses = Counter(answer.status for answer in answers)
    assert statuses[200] + statuses[503] == CLIENTS
    assert statuses[200] >= 30  # Even a busy machine serves twice as many as the pool has connections.
    assert all("Retry-After" in answer.headers for answer in answers if answer.status == 503)
    assert growth < 100 * MIB


async def test_liveness_is_answered_during_the_burst(start_service: StartService, sign_in: SignIn) -> None:
    service, headers = start_service(), await sign_in()

    load = asyncio.create_task(burst(service.url, headers))
    while not load.done():
        async with asyncio.timeout(5):
            assert (await exchange_async(service.url, compose("GET", "/health", {}))).status == 200

    assert len(await load) == CLIENTS


async def test_500_clients_that_no_connection_is_left_for_are_told_to_come_back_and_all_is_as_before(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    service, headers = start_service(), await sign_in("ada")
    [id_] = await add(database, Conversation(user_id="ada"))
    append = compose("POST", "/api/chat", headers, {"message": "Hello", "conversation_id": id_})

    async with locked(database, id_):
        answers, growth = await measure_growth(
            service, asyncio.gather(*(exchange_async(service.url, append) for _ in range(CLIENTS)))
        )
    afterwards = [await exchange_async(service.url, append) for _ in range(20)]

    assert {answer.status for answer in answers} == {503}
    assert all("Retry-After" in answer.headers for answer in answers)
    assert growth < 100 * MIB
    assert {answer.status for answer in afterwards} == {200}
    assert await connections_in_use(service.url) == 0


async def test_nothing_is_stored_for_clients_that_left_while_they_waited(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    service = start_service(**POOL_OF_ONE)
    headers = await sign_in("ada")
    [id_] = await add(database, Conversation(user_id="ada"))

    async with locked(database, id_):
        append = compose("POST", "/api/chat", headers, {"message": "I stay", "conversation_id": id_})
        staying = asyncio.create_task(exchange_async(service.url, append))
        await wait_for_requests(service.url, 1)
        leaving = [await connect(service.url) for _ in range(20)]
        for _, writer in leaving:
            writer.write(compose("POST", "/api/chat", headers, {"message": "I leave"}))
        await wait_for_requests(service.url, 21)
        for _, writer in leaving:
            writer.close()
        assert (await exchange_async(service.url, compose("GET", "/health", {}))).status == 200
    assert (await staying).status == 200
    await wait_for_requests(service.url, 0)

    metrics = await scrape_at(service.url)
    contents = await database.fetch("SELECT content FROM messages ORDER BY id")
    assert [row["content"] for row in contents] == ["I stay", "Echo: I stay"]
    assert metrics["http_request_duration_seconds_count", ("POST", "/api/chat", "499")] == 20


async def test_a_client_that_leaves_while_it_sends_is_not_looked_up(start_service: StartService) -> None:
    service = start_service(DATABASE_URL="postgresql://127.0.0.1:1/none")
    _, writer = await connect(service.url)
    writer.write(compose("POST", "/api/chat", {"Authorization": "Bearer token"}, {"message": "I leave"})[:-1])
    await wait_for_requests(service.url, 1)

    writer.close()
    await wait_for_requests(service.url, 0)

    metrics = await scrape_at(service.url)
    assert metrics["http_request_duration_seconds_count", ("POST", "/api/chat", "499")] == 1
    assert not any(name == "database_unavailable_total" and value for (name, _), value in metrics.items())
