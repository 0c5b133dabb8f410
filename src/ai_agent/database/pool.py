"""The pool of connections, and how it ends."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from ai_agent.config import Settings
from ai_agent.database.hosts import Connector
from ai_agent.database.target import read_target

# Seconds that a server has to say goodbye.
_CLOSE_TIMEOUT = 0.4


class Pool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool with a line before it, in which requests wait for a connection in the order of their coming.

    Without it, a connection that comes back may be taken by a newer request before the oldest one is awake.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.line = asyncio.Semaphore(self.size())


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
    target = read_target(settings.database_url.get_secret_value())
    connector = Connector(target, settings.database_timeout, connection_class=_Connection)
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connector.connect,
        isolation_level="AUTOCOMMIT",
        poolclass=Pool,
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
