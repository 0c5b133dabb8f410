"""HTTP as bytes: requests that no client library would send, and exchanges that cost less than what they load."""

import asyncio
import http.client
import io
import json
import socket
from contextlib import suppress
from email.message import Message
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """A response as it came over the wire."""

    status: int
    headers: Message
    body: bytes


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """A request with these lines; the length of a body is added unless it comes in chunks."""
    if body and b"Transfer-Encoding: chunked" not in headers:
        headers = (*headers, b"Content-Length: %d" % len(body))
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: service.test", *headers, b"", body])


def compose(method: str, path: str, headers: dict[str, str], body: object = None) -> bytes:
    """A request with a body in JSON, after which the server closes the connection."""
    lines = ("Connection: close", "Content-Type: application/json", *(f"{name}: {headers[name]}" for name in headers))
    content = b"" if body is None else json.dumps(body).encode()
    return request(f"{method} {path}".encode(), *(line.encode() for line in lines), body=content)


def exchange(url: str, data: bytes) -> Answer:
    """Send the bytes on a connection of their own and read one response."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        with suppress(ConnectionError):  # The server may answer before it has read everything.
            connection.sendall(data)
        with connection.makefile("rb") as received:
            return _parse(received, data)


async def exchange_async(url: str, data: bytes) -> Answer:
    """Do the same as one of many clients; the request must ask the server to close the connection."""
    reader, writer = await connect(url)
    try:
        writer.write(data)
        return _parse(io.BytesIO(await reader.read()), data)
    finally:
        writer.close()


async def connect(url: str, limit: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port, limit=limit)


def _parse(received: BinaryIO, data: bytes) -> Answer:
    status = int(received.readline().split()[1])
    headers = http.client.parse_headers(received)
    if data.startswith(b"HEAD ") or status == 204:
        return Answer(status, headers, b"")
    return Answer(status, headers, received.read(int(headers.get("Content-Length", -1))))
