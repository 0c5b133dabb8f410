"""What the tests of heavy load share: exchanges over bare sockets, which cost less than what they load, and memory."""

import asyncio
import json
from collections.abc import Awaitable
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import Service

MIB = 1024 * 1024


class Answer(NamedTuple):
    status: int
    head: str
    body: bytes


def compose(method: str, path: str, headers: dict[str, str], body: object = None) -> bytes:
    """The bytes of a request after which the server closes the connection."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: service.test", "Connection: close", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


async def exchange(url: str, request: bytes) -> Answer:
    """Send a request on a connection of its own and read the answer to its end."""
    reader, writer = await connect(url)
    try:
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return Answer(int(head.split()[1]), head.decode().lower(), body)


async def scrape(url: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """The metrics of the service, by name and label values."""
    async with httpx.AsyncClient(timeout=30) as client:
        text = (await client.get(f"{url}/metrics")).text
    families = text_string_to_metric_families(text)
    return {(line.name, tuple(line.labels.values())): line.value for family in families for line in family.samples}


async def connections_in_use(url: str) -> float:
    return (await scrape(url))["database_connections", ("in_use",)]


async def wait_for_requests(url: str, number: int) -> None:
    """Return when the service is busy with so many requests, besides the one that asks."""
    for _ in range(1000):
        if (await scrape(url))["http_requests_in_progress", ()] == number + 1:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the service never had {number} requests in progress")


async def measure_growth[T](service: Service, work: Awaitable[T]) -> tuple[T, int]:
    """Await the work; the second value is by how many bytes the memory of the service grew at most meanwhile."""
    process = psutil.Process(service.process.pid)
    before = peak = process.memory_info().rss
    task = asyncio.ensure_future(work)
    while not task.done():
        peak = max(peak, process.memory_info().rss)
        await asyncio.wait([task], timeout=0.01)
    return await task, peak - before
