"""Connecting in time: to the host that takes writes, with the server settings that the service's promises rest on."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from ai_agent.database.dial import dial
from ai_agent.database.settings import Level, make_levels
from ai_agent.database.target import Target

# The share of the time that connecting may take; the hosts divide it.
_CONNECT_WITHIN = 0.9

# What a host that cannot be used raises.
_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# A refusal of these classes of SQLSTATE is about credentials, the database or its availability, not about settings.
_NOT_ABOUT_SETTINGS = ("28", "3D", "53", "57")

_UNSETTLED = (
    "a pooler drops the time zone UTC, or the search_path or role that DATABASE_URL asks for: give them to the role"
    " that logs in, with ALTER ROLE ... SET timezone = 'UTC', and SET search_path and SET role likewise"
)

_TAKES_WRITES = """
SELECT WHERE NOT pg_is_in_recovery() AND ('{sessions}' = 'primary' OR current_setting('transaction_read_only') = 'off')
"""


class Connector:
    """Opens connections to one target. It remembers which host answered, and which settings a pooler refused."""

    def __init__(
        self,
        target: Target,
        seconds: float,
        *,
        for_migrations: bool = False,
        connection_class: type[asyncpg.Connection] = asyncpg.Connection,
    ) -> None:
        """Each connection is made within `seconds`. For migrations, statements get no time-out from the service."""
        self._target = target
        self._seconds = seconds
        self._class = connection_class
        self._hosts = list(target.hosts)
        self._levels = make_levels(target.settings, seconds)
        if for_migrations or target.pooled:
            self._levels = self._levels[1:]

    @property
    def pooled(self) -> bool:
        """Whether a pooler in transaction mode may run the next statement on another server."""
        return not self._levels[0].direct

    async def connect(self) -> asyncpg.Connection:
        """A connection to the first usable host; if there is none, raises the error of the last one.

        A silent host uses up its share of the time and moves to the end of the line. A read-only host is passed over;
        when all of them are read-only, target_session_attrs decides whether one will do.
        """
        failure: Exception = ConnectionError("no host of DATABASE_URL takes writes at the moment")
        read_only: list[asyncpg.Connection] = []
        deadline = asyncio.get_running_loop().time() + _CONNECT_WITHIN * self._seconds
        hosts = list(self._hosts)
        try:
            for tried, host in enumerate(hosts):
                try:
                    share = (deadline - asyncio.get_running_loop().time()) / (len(hosts) - tried)
                    async with asyncio.timeout(share):
                        connection, usable = await self._try(host)
                except _FAILURES as error:
                    failure = error
                else:
                    if usable:
                        self._move(host, 0)
                        return connection
                    read_only.append(connection)
                self._move(host, len(hosts))
            if read_only and self._target.sessions == "any":
                return read_only.pop()
        finally:
            for connection in read_only:
                connection.terminate()
        raise failure

    def _move(self, host: tuple[str, int], place: int) -> None:
        self._hosts.remove(host)
        self._hosts.insert(place, host)

    async def _try(self, host: tuple[str, int]) -> tuple[asyncpg.Connection, bool]:
        """A connection, and whether it is usable: it takes writes, or it is the only host and need not."""
        connection = await self._open(host)
        if self._target.sessions == "any" and len(self._hosts) == 1:
            return connection, True
        with _terminating(connection):
            return connection, await _is_true(connection, _TAKES_WRITES.format(sessions=self._target.sessions))

    async def _open(self, host: tuple[str, int]) -> asyncpg.Connection:
        """Connect with as many settings as are accepted; the next call begins with those."""
        refusal: Exception | None = None
        levels = self._levels
        for number, level in enumerate(levels):
            marker = secrets.token_hex(8)
            try:
                connection = await dial(self._target, host, level, marker, self._seconds, self._class)
            except (asyncpg.PostgresError, asyncpg.InternalClientError) as error:
                if level is levels[-1] or not _is_about_settings(error):
                    raise
                refusal = error
                continue
            with _terminating(connection):
                if await self._is_settled(connection, level, marker, refusal):
                    self._levels = levels[number:]
                    return connection
            connection.terminate()
        raise ConnectionError(_UNSETTLED) from refusal

    async def _is_settled(
        self, connection: asyncpg.Connection, level: Level, marker: str, refusal: Exception | None
    ) -> bool:
        gone = isinstance(refusal, asyncpg.ConnectionDoesNotExistError)
        if refusal is not None and (gone or not self._target.settings.keys() <= level.startup.keys()):
            itself = f"SELECT WHERE pg_backend_pid() = {connection.get_server_pid()}"
            if await _is_true(connection, itself):
                raise refusal  # This is no pooler: the server was away briefly, or does not know what the URL asks for.
        return not level.question or await _is_true(connection, level.question.replace("{marker}", marker))


def _is_about_settings(error: Exception) -> bool:
    return not str(getattr(error, "sqlstate", "")).startswith(_NOT_ABOUT_SETTINGS)


async def _is_true(connection: asyncpg.Connection, question: str) -> bool:
    """Whether a statement returns rows. It uses the simple protocol, which no pooler can split."""
    status: str = await connection.execute(question)
    return not status.endswith(" 0")


@contextmanager
def _terminating(connection: asyncpg.Connection) -> Iterator[None]:
    """Close the connection at once when an exception makes it unusable."""
    try:
        yield
    except BaseException:
        connection.terminate()
        raise
