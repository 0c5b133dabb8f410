"""The pool of connections: how it is made, in which order requests get a connection, and how it is closed."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from ai_agent.config import Settings
from ai_agent.database.hosts import Connector
from ai_agent.database.target import read_target

# Seconds that a server has to close a connection cleanly.
_CLOSE_TIMEOUT = 0.4


class Pool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, plus a line in which requests wait for a connection in the order of their arrival.

    Without the line, a newer request may take a returned connection before the oldest waiting request wakes up.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.line = asyncio.Semaphore(self.size())

    def forget_lost(self) -> None:
        """Drop the idle entries that have lost their connection, so that the next request takes a good one.

        SQLAlchemy puts them on top. While no new connection works, every request would try in vain to replace one.
        """
        entries = [self._pool.get(block=False) for _ in range(self._pool.qsize())]
        for entry in reversed(entries):
            if entry.dbapi_connection is None:
                self._dec_overflow()
            else:
                self._pool.put(entry, block=False)


# SQLAlchemy names the pool's logger after its class, and would log how it works among the service's own lines.
logging.getLogger(f"{Pool.__module__}.{Pool.__name__}").setLevel(logging.WARNING)


class _Connection(asyncpg.Connection):
    """Closes quickly, because neither a request nor a stopping process has time for a silent server."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's name.
        if timeout is not None:  # SQLAlchemy wants it terminated, but would first wait for a clean close.
            self.terminate()
        with suppress(TimeoutError):  # asyncpg drops the connection then.
            await super().close(timeout=_CLOSE_TIMEOUT)


def create_engine(settings: Settings) -> AsyncEngine:
    """The engine, whose pool keeps the connections of a burst until the server closes them as idle.

    Raises ConfigurationError if DATABASE_URL cannot be used; it connects to nothing yet.

    Beyond the pool's size, SQLAlchemy would close a connection each time it comes back, and open another for the next
    request. The pool is last in, first out, so that the connections that are not needed stay idle.
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
    """Close the pool's connections cleanly while there is time, and drop the others."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CLOSE_TIMEOUT

    @event.listens_for(engine.sync_engine, "close")
    def hurry(connection: Any, _: ConnectionPoolEntry) -> None:
        if loop.time() >= deadline:
            connection.driver_connection.terminate()

    await engine.dispose()
