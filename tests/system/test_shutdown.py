"""SIGTERM ends the service in order and in time, no matter what its clients do."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from tests.support.database import until_the_service_is_gone, until_waiting_for_locks
from tests.support.pages import add_texts
from tests.support.proxy import run_proxy
from tests.support.raw import connect
from tests.support.service import Service
from tests.support.types import Headers, SignIn, StartService

# uvicorn raises the signal again at the end, so that a shell shows 143; with several workers it exits with 0.
IN_ORDER = {0, -signal.SIGTERM}

HEAD = (
    "POST /api/chat HTTP/1.1\r\nHost: service.test\r\nAuthorization: Bearer invented\r\n"
    "Content-Type: application/json\r\nContent-Length: 1000\r\n"
)


@asynccontextmanager
async def requests_in_flight(
    service: Service, headers: Headers, database: asyncpg.Connection
) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """Four messages to one conversation; a lock keeps the service from storing them until the block ends."""
    async with httpx.AsyncClient(base_url=service.url, headers=headers) as client:
        conversation_id = (await client.post("/api/chat", json={"message": "Hello"})).json()["conversation_id"]
        body = {"message": "Hello", "conversation_id": conversation_id}
        async with database.transaction():
            await database.execute("SELECT FROM conversations FOR UPDATE")
            answers = [asyncio.create_task(client.post("/api/chat", json=body)) for _ in range(4)]
            await until_waiting_for_locks(database, 4)
            yield answers
        await asyncio.wait(answers)


async def assert_ended_in_order(service: Service) -> None:
    assert await asyncio.to_thread(service.process.wait, 10) in IN_ORDER
    assert "Traceback" not in service.log.read_text()
    assert "database.pool" not in service.log.read_text()


@pytest.mark.parametrize("arguments", [(), ("--workers=2",)], ids=["one process", "two workers"])
async def test_requests_in_flight_are_answered_and_the_pool_is_closed(
    arguments: tuple[str, ...],
    start_service: StartService,
    sign_in: SignIn,
    database: asyncpg.Connection,
    database_url: str,
) -> None:
    service = start_service(*arguments, DATABASE_URL=f"{database_url}?application_name=stopped")
    async with requests_in_flight(service, await sign_in(), database) as answers:
        service.process.terminate()
        await until_shutting_down(service, processes=2 if arguments else 1)

    assert [answer.result().status_code for answer in answers] == [200] * 4
    await assert_ended_in_order(service)
    await until_the_service_is_gone(database, "stopped")


async def until_shutting_down(service: Service, processes: int) -> None:
    async with asyncio.timeout(5):
        while service.log.read_text().count("Shutting down") < processes:  # noqa: ASYNC110  # Another process writes it.
            await asyncio.sleep(0.02)  # Reading without a pause would hold up the requests in flight.


async def test_new_connections_are_refused_while_the_last_requests_are_answered(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    service = start_service()
    async with requests_in_flight(service, await sign_in(), database) as answers:
        service.process.terminate()
        await until_refused(service)

    assert [answer.result().status_code for answer in answers] == [200] * 4
    await assert_ended_in_order(service)


async def until_refused(service: Service) -> None:
    async with asyncio.timeout(3):
        while True:
            try:
                _, writer = await connect(service.url)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # It was waiting to be accepted when the service closed its socket.
            writer.close()
            await asyncio.sleep(0.02)  # Each try is a connection that the service has to close.


async def test_a_request_that_never_arrives_whole_is_a_408_and_holds_up_nothing(start_service: StartService) -> None:
    service = start_service()
    half_a_head = begin_to_send(service, HEAD, dripping=False)
    half_a_body = begin_to_send(service, f"{HEAD}\r\n{{", dripping=False)
    drops = begin_to_send(service, f"{HEAD}\r\n", dripping=True)
    answers = asyncio.gather(half_a_head, half_a_body, drops)
    await asyncio.sleep(0.5)  # Nothing shows from outside that the service has read half a request.

    service.process.terminate()

    await assert_ended_in_order(service)
    assert list(await answers) == ["", "HTTP/1.1 408", "HTTP/1.1 408"]


async def begin_to_send(service: Service, beginning: str, *, dripping: bool) -> str:
    """Send this beginning and never the rest, or only a drop now and then; return the start of the response."""
    reader, writer = await connect(service.url)
    writer.write(beginning.encode())
    answer = asyncio.create_task(reader.read())
    while not answer.done():
        if dripping:
            writer.write(b" ")
        await asyncio.sleep(0.2)  # The time between two drops.
    writer.close()
    return answer.result()[:12].decode()


async def test_a_database_that_no_longer_answers_holds_up_nothing(
    start_service: StartService, sign_in: SignIn, database_url: str
) -> None:
    async with run_proxy(database_url) as proxy:
        # The service looks at the database when it starts, and this thread is the proxy.
        service, headers = await asyncio.to_thread(start_service, DATABASE_URL=proxy.url), await sign_in()
        async with httpx.AsyncClient(base_url=service.url, headers=headers) as client:
            await asyncio.gather(*(client.get("/api/conversations") for _ in range(5)))
        proxy.swallow()

        service.process.terminate()

        assert await asyncio.to_thread(service.process.wait, 10) in IN_ORDER
    assert "Traceback" not in service.log.read_text()


async def test_clients_that_do_not_read_their_answers_hold_up_nothing_beyond_the_graceful_timeout(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    service = start_service("--timeout-graceful-shutdown=2")
    id_ = await add_texts(database, messages=40, text="a", length=100_000)
    authorization = (await sign_in())["Authorization"]
    reader, writer = await connect(service.url, limit=1024)
    head = f"GET /api/conversations/{id_} HTTP/1.1\r\nHost: service.test\r\nAuthorization: {authorization}\r\n\r\n"
    writer.write(head.encode())
    assert await reader.readexactly(12) == b"HTTP/1.1 200"  # The rest is more than all buffers hold, and is not read.

    service.process.terminate()

    await assert_ended_in_order(service)
    writer.close()
