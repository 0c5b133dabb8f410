"""HTTP as bytes, for requests that no client library would send."""

import http.client
import socket
from contextlib import suppress
from email.message import Message
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: Message
    body: bytes


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """A request with these lines; the length of a body is added unless it comes in chunks."""
    if body and b"Transfer-Encoding: chunked" not in headers:
        headers = (*headers, b"Content-Length: %d" % len(body))
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: service.test", *headers, b"", body])


def exchange(url: str, data: bytes) -> Answer:
    """Send the bytes over a connection of their own and read one answer."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        with suppress(ConnectionError):  # The server need not read to the end to answer.
            connection.sendall(data)
        response = http.client.HTTPResponse(connection, method=data.split(b" ", 1)[0].decode("latin-1"))
        response.begin()
        return Answer(response.status, response.headers, response.read())
