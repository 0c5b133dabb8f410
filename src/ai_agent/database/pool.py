"""The pool of connections: directly on PostgreSQL, or through a pooler in transaction mode."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg
from asyncpg.exceptions import ProtocolViolationError
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ai_agent.config import Settings
from ai_agent.database.url import connect_arguments, names_pooler

# For a pooler in transaction mode, which may run the next statement on another server: asyncpg then names none, and
# sends each together with its text. A kept statement still costs one round trip, because its types are known.
UNPREPARED: dict[str, Any] = {"statement_cache_size": 0}

# Milliseconds after which the server closes a connection that a burst has left idle.
_IDLE_TIMEOUT = 300_000

# Seconds that a server has to say goodbye.
_CLOSE_TIMEOUT = 0.4


class _Connection(asyncpg.Connection):
    """Waits for nobody for long: neither a request nor the end of the process has time for a silent server."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's name.
        if timeout is not None:  # SQLAlchemy terminates a connection, and would wait for a goodbye first.
            self.terminate()
        with suppress(TimeoutError):  # The connection is dropped then.
            await super().close(timeout=_CLOSE_TIMEOUT)


def create_engine(settings: Settings) -> AsyncEngine:
    """The engine with its pool, which keeps the connections of a burst until the server finds them idle.

    SQLAlchemy would close those beyond the pool's size each time they come back, and open others for the next request.
    Last in, first out, so that those which are not needed stay idle.
    """
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=_connector(settings),
        isolation_level="AUTOCOMMIT",
        pool_size=settings.database_pool_size + settings.database_max_overflow,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        pool_use_lifo=True,
        pool_reset_on_return=None,  # There is no transaction to roll back.
        hide_parameters=True,
    )


async def close_engine(engine: AsyncEngine) -> None:
    """Say goodbye on the connections of the pool, for as long as the server listens."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CLOSE_TIMEOUT

    @event.listens_for(engine.sync_engine, "close")
    def hurry(connection: Any, _: ConnectionPoolEntry) -> None:
        if loop.time() >= deadline:
            connection.driver_connection.terminate()

    await engine.dispose()


def _connector(settings: Settings) -> Callable[[], Awaitable[asyncpg.Connection]]:
    """How the pool connects: as to a server itself, unless the URL names a pooler, until a pooler refuses that."""
    database_url = settings.database_url.get_secret_value()
    arguments = connect_arguments(database_url) | {"connection_class": _Connection}
    pooled = names_pooler(database_url)
    server_timeout = str(round((settings.database_timeout + 1) * 1000))
    direct_settings = {
        # The server ends what this process has given up or left behind, and lets go of its locks.
        "statement_timeout": server_timeout,
        "idle_in_transaction_session_timeout": server_timeout,
        "idle_session_timeout": str(_IDLE_TIMEOUT),
        # An idle connection says something before firewalls and address translators forget it.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }

    async def connect() -> asyncpg.Connection:
        nonlocal pooled
        if not pooled:
            server_settings = arguments["server_settings"] | direct_settings
            try:
                connection: _Connection = await asyncpg.connect(**arguments | {"server_settings": server_settings})
            except ProtocolViolationError:
                pass  # PgBouncer's "unsupported startup parameter"; PostgreSQL itself knows all of them.
            else:
                return connection
        connection = await asyncpg.connect(**arguments | UNPREPARED)
        pooled = True
        return connection

    return connect
