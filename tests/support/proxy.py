"""A TCP proxy between the app and its PostgreSQL: it fails as networks do, and counts what the app sends."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

NO_LINGER = struct.pack("ii", 1, 0)  # Closing such a socket sends a reset rather than an orderly end.


class Proxy:
    """Forwards to the server of `database_url`, until one of its methods says otherwise.

    What a method sets stays until `forward()`, also for the connections that were open before. `sent` holds the type of
    each message that clients sent; every round trip ends with an `S`.
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self.sent = b""
        self._server = (parts.hostname, parts.port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._stranded: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._latency = 0.0
        self._hangs_up = False
        self._marker = b""
        self._fate: Literal["silence", "reset"] = "silence"
        # Bound but never listening, it keeps the port for the times when connections are to be refused.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind(("127.0.0.1", 0))
        credentials = parts.netloc.rpartition("@")[0]
        address = f"{credentials}@127.0.0.1:{self._port.getsockname()[1]}"
        self.url = parts._replace(netloc=address, query="sslmode=disable").geturl()

    async def forward(self) -> None:
        """Be a plain proxy, and deliver what was swallowed before, because a network would do that too."""
        self._latency = 0.0
        self._marker = b""
        self._flowing.set()
        if self._listener is None:
            port = self._port.getsockname()[1]
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", port, reuse_port=True)

    def delay(self, seconds: float) -> None:
        """Hold everything back for this many seconds, in each direction."""
        self._latency = seconds

    def refuse(self) -> None:
        """Reset the connections that are open, and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.reset()

    def reset(self) -> None:
        """Reset the connections that are open; new ones are welcome."""
        for writer in list(self._writers):
            _reset(writer)

    def forget(self) -> None:
        """Reset each open connection at its next use: a gateway that was restarted no longer knows them."""
        self._forgotten |= self._writers

    def strand(self) -> None:
        """Let nothing through the open connections ever again, as after a failover; new ones are welcome."""
        self._stranded |= self._writers

    def swallow(self) -> None:
        """Accept connections, but let nothing through in either direction."""
        self._flowing.clear()

    def lose_answer(self, marker: bytes, fate: Literal["silence", "reset"] = "silence") -> None:
        """Deliver the request that holds the marker, but lose the server's answer to it and all that follow.

        The marker may be the text of a message. With the fate `reset`, the answer resets the connection.
        """
        self._marker = marker
        self._fate = fate

    def hang_up_once(self) -> None:
        """Take the next connection and end it in order, without a word."""
        self._hangs_up = True

    async def close(self) -> None:
        self.refuse()
        self._flowing.set()
        self._port.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        lost = asyncio.Event()
        if self._hangs_up:
            self._hangs_up = False
            await reader.read(1)
            self._discard(writer)
            return
        try:
            await self._flowing.wait()
            from_server, to_server = await asyncio.open_connection(*self._server)
            self._writers.add(to_server)
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._ask(reader, to_server, lost))
                    pumps.create_task(self._answer(from_server, writer, lost))
            finally:
                self._discard(to_server)
        except* OSError:
            _reset(writer)
        finally:
            self._discard(writer)

    async def _ask(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        unread = bytearray(b" ")  # The first message has no type, so a space stands for it.
        while chunk := await self._next(client):
            self._count(unread, chunk)
            if server in self._forgotten:
                raise ConnectionResetError
            if server in self._stranded:
                continue
            if self._marker and self._marker in chunk:
                lost.set()
            server.write(chunk)
            await server.drain()
        server.close()

    def _count(self, unread: bytearray, chunk: bytes) -> None:
        """Keep the type of each message that is whole; the length after the type does not include the type."""
        unread += chunk
        while len(unread) > 4 and len(unread) > (length := int.from_bytes(unread[1:5])):
            self.sent += unread[:1].strip()
            del unread[: length + 1]

    async def _answer(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while chunk := await self._next(server):
            if not lost.is_set():
                client.write(chunk)
                await client.drain()
            elif self._fate == "reset":
                _reset(client)
        client.close()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        chunk = await reader.read(65536)
        await asyncio.sleep(self._latency)  # The way through the network takes this long.
        await self._flowing.wait()
        return chunk

    def _discard(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        self._writers.discard(writer)
        self._forgotten.discard(writer)
        self._stranded.discard(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()


@asynccontextmanager
async def run_proxy(database_url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(database_url)
    await proxy.forward()
    try:
        yield proxy
    finally:
        await proxy.close()
