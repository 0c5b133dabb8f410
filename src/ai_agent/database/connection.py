"""The engine and its sessions: directly on PostgreSQL, or through a pooler in transaction mode."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from asyncpg.exceptions import ProtocolViolationError
from sqlalchemy import Executable, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError, EmulatedDBAPIException
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from ai_agent.config import Settings
from ai_agent.database.url import connect_arguments, names_pooler
from ai_agent.errors import DatabaseUnavailable

type Connect = Callable[[Dialect, ConnectionPoolEntry, list[Any], dict[str, Any]], DBAPIConnection]

# For a pooler in transaction mode, which may run the next statement on another server: asyncpg then names none, and
# sends each together with its text. SQLAlchemy still keeps what it learnt of the parameters and columns of a statement,
# so behind a pooler too it costs one round trip, and needs no transaction around it.
UNPREPARED: dict[str, Any] = {"statement_cache_size": 0}

# The part of a session's time after which its statement is cancelled; the rest is for the server to confirm it.
_CANCEL_AFTER = 0.9

# Seconds that a server has to confirm that a statement is cancelled, or to say goodbye.
_CLOSE_TIMEOUT = 0.4

_PING = text("SELECT 1")

# SQLSTATE classes and codes that say "not now" or "not set up" rather than "this statement is wrong".
_UNAVAILABLE_CLASSES = frozenset({"08", "25", "40", "53", "55", "57", "58"})
_UNAVAILABLE_CODES = frozenset({"42501", "42703", "42P01"})


class _Connection(asyncpg.Connection):
    """Does not wait for a silent server as long as SQLAlchemy asks it to, which is 2 s and too long for a 503."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's name.
        with suppress(TimeoutError):  # The connection is dropped then.
            await super().close(timeout=_CLOSE_TIMEOUT)


def create_engine(settings: Settings) -> AsyncEngine:
    """The engine with its pool. Each statement commits by itself: every use case writes with one statement."""
    database_url = settings.database_url.get_secret_value()
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={**connect_arguments(database_url), "connection_class": _Connection},
        isolation_level="AUTOCOMMIT",
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=settings.database_pool_timeout,
        hide_parameters=True,
    )
    connect = _connector(settings.database_timeout, pooled=names_pooler(database_url))
    event.listen(engine.sync_engine, "do_connect", connect)
    _watch_connections(engine.sync_engine)
    return engine


async def close_engine(engine: AsyncEngine) -> None:
    """Say goodbye on the connections of the pool, for as long as the server listens."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CLOSE_TIMEOUT

    @event.listens_for(engine.sync_engine, "close")
    def hurry(connection: Any, _: ConnectionPoolEntry) -> None:
        if loop.time() >= deadline:
            connection.driver_connection.terminate()

    await engine.dispose()


def _connector(timeout: float, *, pooled: bool) -> Connect:
    """How the engine connects: as to a server itself, unless `pooled`, until a pooler refuses that."""
    server_timeout = str(round((timeout + 1) * 1000))
    direct_settings = {
        # The server ends what this process has given up or left behind, and lets go of its locks.
        "statement_timeout": server_timeout,
        "idle_in_transaction_session_timeout": server_timeout,
        # An idle connection says something before firewalls and address translators forget it.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }

    def connect(
        dialect: Dialect, _: ConnectionPoolEntry, args: list[Any], arguments: dict[str, Any]
    ) -> DBAPIConnection:
        nonlocal pooled
        if not pooled:
            server_settings = arguments["server_settings"] | direct_settings
            try:
                return dialect.connect(*args, **arguments | {"server_settings": server_settings})
            except EmulatedDBAPIException as error:
                # PgBouncer's "unsupported startup parameter"; PostgreSQL itself knows all of them.
                if not isinstance(error.driver_exception, ProtocolViolationError):
                    raise
        connection = dialect.connect(*args, **arguments | UNPREPARED)
        pooled = True
        return connection

    return connect


def _watch_connections(engine: Engine) -> None:
    """Let the pool open a new connection for one that will not do; unlike a ping, that costs no round trip."""
    distrusted_at = -math.inf

    @event.listens_for(engine, "checkin")
    def check_in(_: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check_out(_: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        connection: Any = entry.driver_connection  # asyncpg's.
        if entry.info.get("idle_since", math.inf) < distrusted_at:
            connection.terminate()  # Closing it in order could wait for a server that never answers.
        if connection.is_closed():
            raise DisconnectionError

    @event.listens_for(engine, "handle_error")
    def distrust(context: ExceptionContext) -> None:
        nonlocal distrusted_at
        if isinstance(context.original_exception, asyncio.CancelledError):
            distrusted_at = time.monotonic()  # This one was too slow, and the others may be as silent.
        if _is_read_only(context.original_exception):
            context.is_disconnect = True  # All would go on refusing writes when the database no longer does.


def _is_read_only(error: BaseException | None) -> bool:
    return getattr(error, "sqlstate", None) == "25006"


@asynccontextmanager
async def open_session(engine: AsyncEngine, seconds: float) -> AsyncIterator[AsyncConnection]:
    """A connection from the pool for one unit of work of at most so many seconds.

    Raises DatabaseUnavailable when there is none in time, when it is lost or too slow, or the server refuses.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CANCEL_AFTER * seconds
    try:
        # Giving up cancels the statement in the database too, which would else go on with it, or go on waiting.
        async with asyncio.timeout_at(deadline):
            session = await engine.connect()
            try:
                yield session
            finally:
                await session.close()
    except PoolTimeoutError as error:
        raise DatabaseUnavailable("pool_exhausted") from error
    except OSError as error:  # TimeoutError is one of them.
        raise DatabaseUnavailable("too_slow" if loop.time() >= deadline else "unreachable") from error
    except DBAPIError as error:
        if not _is_unavailable(error):
            raise
        lost = "too_slow" if loop.time() >= deadline else "connection_lost"
        dropped = error.connection_invalidated and not _is_read_only(error.orig)
        raise DatabaseUnavailable(lost if dropped else "refused") from error


async def read_first(session: AsyncConnection, statement: Executable, parameters: dict[str, Any]) -> Any:
    """The scalar that a session begins with. It must be a read, as it is repeated when the connection proves dead.

    A server, or a network, may drop every connection of the pool without a word, which only using one will tell.
    """
    try:
        return await session.scalar(statement, parameters)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    await session.rollback()
    await session.get_raw_connection()  # Reconnects; the statement would wrap the errors of that in another of its own.
    return await session.scalar(statement, parameters)


async def ping(session: AsyncConnection) -> None:
    """Begin a session that has no read of its own to begin with."""
    await read_first(session, _PING, {})


def _is_unavailable(error: DBAPIError) -> bool:
    """Whether the database, rather than the statement, is at fault."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return (
        error.connection_invalidated
        or error.statement is None  # It came from connecting.
        or state is None  # Not the server's: asyncpg was interrupted in the middle of something.
        or state[:2] in _UNAVAILABLE_CLASSES
        or state in _UNAVAILABLE_CODES
    )
