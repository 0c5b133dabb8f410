"""One request's use of the database: a connection of the pool for a while, and the 503 that its failures become.

Each statement commits by itself: there is no transaction around two of them. A statement is sent again only if it is a
read, or if the server refused it before it did anything.
"""

import asyncio
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any, Self

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy.exc import DBAPIError, EmulatedDBAPIException
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection

from ai_agent.database.pool import Pool
from ai_agent.database.statements import Statement
from ai_agent.errors import Cause, DatabaseUnavailable

# The share of the time after which a statement is given up. asyncpg then cancels it in the server, where it would
# otherwise go on. The rest of the time is for the server to confirm the cancellation.
_GIVE_UP_AFTER = 0.9

# SQLSTATE classes and codes that say "not now" or "not set up" rather than "this statement is wrong".
_UNAVAILABLE_CLASSES = frozenset({"08", "25", "40", "53", "55", "57", "58"})
_UNAVAILABLE_CODES = frozenset({"42501", "42703", "42883", "42P01"})

# What asyncpg raises when the connection is unusable, or was interrupted in the middle of a statement.
_LOST = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError)


class Connection:
    """A connection of the pool, taken when the block begins and given back when it ends, for `seconds` at most.

    The block raises DatabaseUnavailable when no connection is free in time, or when the database cannot be reached, is
    too slow, refuses, or loses the connection.
    """

    def __init__(self, engine: AsyncEngine, seconds: float) -> None:
        self._engine = engine
        self._deadline = asyncio.timeout(_GIVE_UP_AFTER * seconds)
        self._line: asyncio.Semaphore | None = None
        self._pooled: PoolProxiedConnection | None = None
        self.had_to_wait = False
        """Whether every connection was in use, so that the client may have left meanwhile."""

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        try:
            await self._line_up()
            self._pooled = await self._take()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    @property
    def _pool(self) -> Pool:
        pool = self._engine.pool
        assert isinstance(pool, Pool)
        return pool

    async def _line_up(self) -> None:
        pool = self._pool
        self.had_to_wait = pool.line.locked()
        try:
            async with asyncio.timeout(pool.timeout()) if self.had_to_wait else nullcontext():
                await pool.line.acquire()
        except TimeoutError as error:
            raise PoolTimeoutError("no connection was free in time") from error
        self._line = pool.line

    async def _take(self) -> PoolProxiedConnection:
        pooled = await self._engine.raw_connection()
        while _driver(pooled).is_closed():  # The server closed it. Unlike a ping, asking costs no round trip.
            pooled.invalidate()
            pooled = await self._engine.raw_connection()
        return pooled

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._deadline.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            error = late
            await self._cancel_statement()
        if self._pooled is not None:
            self._give_back(self._pooled, error)
        if self._line is not None:
            self._line.release()
        cause = self._find_cause(error)
        if cause is not None:
            self._pool.forget_lost()
            raise DatabaseUnavailable(cause) from error

    async def _cancel_statement(self) -> None:
        """Wait briefly until the server confirms that it has stopped the statement."""
        if self._pooled is not None:
            with suppress(*_LOST):
                await _driver(self._pooled).close()

    def _give_back(self, pooled: PoolProxiedConnection, error: BaseException | None) -> None:
        match error:
            case TimeoutError() | asyncpg.ReadOnlySQLTransactionError():
                # The pool's other connections may be silent too, or lead to a server that no longer takes writes. Like
                # SQLAlchemy's engine, this makes the pool replace every connection that is as old as the lost one.
                self._pool._invalidate(pooled, error)  # noqa: SLF001
            case None | Exception() if not isinstance(error, _LOST):
                pooled.close()
            case _:  # A canceled task, for example, may have been in the middle of a statement.
                pooled.invalidate(error)

    def _find_cause(self, error: BaseException | None) -> Cause | None:
        """The metrics' label for the database's failure; None for any other error."""
        connecting = self._pooled is None
        match error:
            case PoolTimeoutError():
                return "pool_exhausted"
            case DBAPIError(orig=cause) | EmulatedDBAPIException(driver_exception=cause):
                return self._find_cause(cause)  # SQLAlchemy wraps what asyncpg raises while it connects.
            case _ if isinstance(error, _LOST) and self._deadline.expired():
                return "too_slow"
            case _ if isinstance(error, _LOST):
                return "unreachable" if connecting else "connection_lost"
            case asyncpg.PostgresError(sqlstate=str(state)):
                known = state[:2] in _UNAVAILABLE_CLASSES or state in _UNAVAILABLE_CODES
                return "refused" if known or connecting else None
            case _:
                return None

    async def fetch[Row](self, statement: Statement[Row], **values: object) -> Row | None:
        """The first row of the result, or None when there is none."""
        record = await self._run(statement, [values[name] for name in statement.parameters])
        return None if record is None else statement.row(*record)

    async def fetch_first[Row](self, statement: Statement[Row], **values: object) -> Row | None:
        """Like `fetch`, for a block's first read: it is repeated when the connection proves dead.

        A server or a network may drop every connection of the pool silently, and only using one reveals it.
        """
        try:
            return await self.fetch(statement, **values)
        except (*_LOST, asyncpg.AdminShutdownError) as error:
            if self._pooled is None or self._deadline.expired():
                raise
            self._pooled.invalidate(error)
        self._pooled = None  # From here on, a failure counts as one of connecting.
        self._pooled = await self._take()
        return await self.fetch(statement, **values)

    async def _run[Row](self, statement: Statement[Row], arguments: list[Any]) -> asyncpg.Record | None:
        assert self._pooled is not None
        prepared: dict[Statement[Any], PreparedStatement[asyncpg.Record]] = self._pooled.info
        if statement not in prepared:
            prepared[statement] = await _driver(self._pooled).prepare(statement.sql)
        try:
            return await prepared[statement].fetchrow(*arguments)
        except asyncpg.InvalidCachedStatementError:
            # A migration has changed what the statement returns, so the server refused it before it did anything.
            del prepared[statement]
            return await self._run(statement, arguments)


def _driver(pooled: PoolProxiedConnection) -> asyncpg.Connection:
    connection: asyncpg.Connection | None = pooled.driver_connection
    assert connection is not None  # It is None only once the connection has been given back.
    return connection
