"""A proxy between a client and PostgreSQL that counts what the client sends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class CountingProxy:
    """Passes bytes on to the database, and keeps the types of the messages that clients send."""

    def __init__(self, database_url: str) -> None:
        self.sent = b""
        self._server = urlsplit(database_url)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """Listen, and give the database's address behind the proxy."""
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            user, _, _ = self._server.netloc.rpartition("@")
            yield self._server._replace(netloc=f"{user}@127.0.0.1:{port}", query="sslmode=disable").geturl()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        await asyncio.gather(self._pass_on(upstream_reader, writer), self._count(reader, upstream_writer))

    async def _count(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        """Read the frontend protocol: one message without a type, then those that have one, each with its length."""
        typed = b""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(length) - 4)
                upstream.write(typed + length + body)
                self.sent += typed
                typed = await reader.readexactly(1)
        upstream.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while some := await reader.read(65536):
                writer.write(some)
        writer.close()
