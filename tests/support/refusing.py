"""A pooler, as far as a client can tell: it takes only some of the settings that a connection begins with."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

# What PgBouncer takes, and the least that there can be.
USUAL = frozenset({"user", "database", "client_encoding", "timezone", "application_name"})
LEAST = frozenset({"user", "database", "client_encoding"})


_SERVER_KEY = b"K\0\0\0\x0c"  # The server's process follows, for which a pooler gives a number of its own.


class Refusing:
    """Stands before a server. `fate` is the SQLSTATE of its refusal, or what it does in silence."""

    def __init__(self, database_url: str, taken: frozenset[str], fate: str | Literal["close", "forget"]) -> None:
        self._server = urlsplit(database_url)
        self._taken = taken
        self._fate = fate
        self.startups: list[set[str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = struct.unpack("!i", await reader.readexactly(4))[0]
        words = (await reader.readexactly(length - 4))[4:].split(b"\0")
        settings = {name.decode(): value for name, value in zip(words[::2], words[1::2], strict=False) if name}
        self.startups.append(set(settings))
        refused = settings.keys() - self._taken
        if refused and self._fate != "forget":
            if self._fate != "close":
                fields = f"SFATAL\0C{self._fate}\0Mno {refused.pop()} here\0\0".encode()
                writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)
            writer.close()
            return
        taken = b"".join(
            name.encode() + b"\0" + value + b"\0" for name, value in settings.items() if name in self._taken
        )
        start = struct.pack("!ii", len(taken) + 9, 196608) + taken + b"\0"
        from_server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        to_server.write(start)
        await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            before, key, after = chunk.partition(_SERVER_KEY)
            writer.write(before + key + (b"\0\0\0\1" + after[4:] if key else b""))
    except OSError:
        pass  # One side is gone, and the other follows.
    writer.close()


@asynccontextmanager
async def run_refusing(
    database_url: str, taken: frozenset[str], fate: str, query: str = ""
) -> AsyncIterator[tuple[Refusing, str]]:
    """A pooler and its URL."""
    pooler = Refusing(database_url, taken, fate)
    listener = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    parts = urlsplit(database_url)
    address = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield pooler, parts._replace(netloc=address, query=f"sslmode=disable{query}").geturl()
