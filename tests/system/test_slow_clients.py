"""Clients that send or read one byte a second hold no connection, and block nobody else."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from tests.support.metrics import connections_in_use, wait_for_requests
from tests.support.pages import add_texts
from tests.support.raw import compose, exchange_async
from tests.support.types import Headers, SignIn, StartService

CLIENTS = 200

type Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect_narrowly(url: str) -> Connection:
    """A connection with small buffers, so that the server soon has to wait for the reader."""
    address = urlsplit(url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (address.hostname, address.port))
    return await asyncio.open_connection(sock=client, limit=1)


@asynccontextmanager
async def slow_clients(url: str, dawdle: Callable[[Connection], Awaitable[None]]) -> AsyncIterator[None]:
    connections = [await connect_narrowly(url) for _ in range(CLIENTS)]
    tasks = [asyncio.ensure_future(dawdle(connection)) for connection in connections]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        for _, writer in connections:
            writer.transport.abort()


async def serve_others(url: str, headers: Headers) -> set[int]:
    """Send ordinary requests for two seconds, expect each response within five, and return the statuses."""
    chat, read = compose("POST", "/api/chat", headers, {"message": "Hi"}), compose("GET", "/api/conversations", headers)
    statuses: set[int] = set()
    for n in range(20):
        async with asyncio.timeout(5):
            statuses.add((await exchange_async(url, (chat, read)[n % 2])).status)
        await asyncio.sleep(0.1)  # Spreads the requests over two seconds of slow traffic.
    return statuses


async def test_clients_that_send_one_byte_a_second_hold_no_connection_and_stop_nobody(
    start_service: StartService, sign_in: SignIn
) -> None:
    service, headers = start_service(), await sign_in("ada")
    head, separator, body = compose("POST", "/api/chat", headers, {"message": "a" * 1000}).partition(b"\r\n\r\n")

    async def send_slowly(connection: Connection) -> None:
        connection[1].write(head + separator)
        for byte in body:
            connection[1].write(bytes([byte]))
            await asyncio.sleep(1)  # This is how slow the client is.

    async with slow_clients(service.url, send_slowly):
        await wait_for_requests(service.url, CLIENTS)
        assert await connections_in_use(service.url) == 0
        assert await serve_others(service.url, headers) == {200}


async def test_clients_that_read_one_byte_a_second_hold_no_connection_and_stop_nobody(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    service, headers = start_service(), await sign_in("ada")
    id_ = await add_texts(database, messages=10, text="a", length=100_000)
    turn, begun = asyncio.Semaphore(10), asyncio.Semaphore(0)

    async def read_slowly(connection: Connection) -> None:
        async with turn:  # Ten at a time, for the sake of a busy machine.
            connection[1].write(compose("GET", f"/api/conversations/{id_}", headers))
            assert await connection[0].readexactly(12) == b"HTTP/1.1 200"
        begun.release()
        for _ in range(1000):
            await connection[0].readexactly(1)
            await asyncio.sleep(1)  # This is how slow the client is.

    async with slow_clients(service.url, read_slowly):
        for _ in range(CLIENTS):
            await asyncio.wait_for(begun.acquire(), 30)
        assert await connections_in_use(service.url) == 0
        assert await serve_others(service.url, headers) == {200}
