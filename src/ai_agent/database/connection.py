"""The engine, its sessions, and DATABASE_URL as people paste it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from ai_agent.config import Settings
from ai_agent.errors import ConfigurationError, DatabaseUnavailable

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Parameters of libpq, Prisma and SQLAlchemy for the client alone; asyncpg would send them on to the server.
_CLIENT_ONLY = {
    *("channel_binding", "connect_timeout", "gssencmode", "keepalives", "keepalives_count", "keepalives_idle"),
    *("keepalives_interval", "sslcompression", "sslsni", "tcp_user_timeout"),
    *("connection_limit", "pgbouncer", "pool_timeout", "schema"),
    *("prepared_statement_cache_size", "statement_cache_size"),
}

# Statements without names: a pooler in transaction mode may run the next one on another server.
UNPREPARED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": str,
}

# SQLSTATE classes and codes that say "not now" or "not set up" rather than "this statement is wrong".
_UNAVAILABLE_CLASSES = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58"})
_UNAVAILABLE_CODES = frozenset({"42501", "42703", "42P01"})


def connect_arguments(database_url: str) -> dict[str, Any]:
    """asyncpg's arguments for a PostgreSQL URL as a provider prints it; ConfigurationError if it cannot be used.

    asyncpg reads the URL as libpq would, except for what is mended here: the schemes of SQLAlchemy, parameters
    it does not know, and `verify-*` without a root certificate, which means the system's certificates.
    """
    try:
        parts = urlsplit(database_url.strip())
        parts.port  # noqa: B018  # Reading it checks it.
    except ValueError as error:
        raise ConfigurationError(f"DATABASE_URL cannot be read as a URL: {error}") from None
    if parts.scheme not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise ConfigurationError("DATABASE_URL must begin with postgresql://")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    mode = _ssl_mode(query)
    kept = {name: value for name, value in query.items() if name not in _CLIENT_ONLY}
    arguments: dict[str, Any] = {
        "dsn": parts._replace(scheme="postgresql", query=urlencode(kept)).geturl(),
        # Columns without a time zone hold UTC, and JSON made by the server prints UTC.
        "server_settings": {"timezone": "UTC", "application_name": query.get("application_name", "ai-agent")},
    }
    if mode in ("verify-ca", "verify-full"):
        arguments["ssl"] = _verifying_context(query, check_hostname=mode == "verify-full")
    return arguments


def _ssl_mode(query: dict[str, str]) -> str | None:
    """Settle on one sslmode in the query; `ssl=` is how asyncpg's own URLs spell it."""
    mode = query.pop("ssl", None) or query.get("sslmode")
    if mode == "true":
        mode = "require"
    if query.get("channel_binding") == "require" and mode in (None, "allow", "prefer"):
        mode = "require"  # Channel binding itself is beyond asyncpg, but it implies TLS.
    if mode is not None and mode not in _SSL_MODES:
        raise ConfigurationError(f"DATABASE_URL has an unknown sslmode; use one of {', '.join(_SSL_MODES)}")
    if mode is not None:
        query["sslmode"] = mode
    return mode


def _verifying_context(query: dict[str, str], *, check_hostname: bool) -> ssl.SSLContext:
    root = query.get("sslrootcert", "system")
    try:
        context = ssl.create_default_context(cafile=None if root == "system" else root)
        if "sslcert" in query:
            context.load_cert_chain(query["sslcert"], query.get("sslkey"))
    except OSError as error:
        raise ConfigurationError(f"DATABASE_URL names a certificate that cannot be read: {error}") from None
    context.check_hostname = check_hostname
    return context


def create_engine(settings: Settings) -> AsyncEngine:
    """The engine with its pool. Each statement commits by itself: every use case writes with one statement."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=connect_arguments(settings.database_url.get_secret_value()),
        isolation_level="AUTOCOMMIT",
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=settings.database_pool_timeout,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    return engine


def _replace_closed(connection: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
    """Let the pool open a new connection for one that the server has closed; unlike a ping it costs no round trip."""
    if entry.driver_connection.is_closed():  # type: ignore[union-attr]  # asyncpg's connection.
        raise DisconnectionError


@asynccontextmanager
async def open_session(engine: AsyncEngine, timeout: float) -> AsyncIterator[AsyncConnection]:
    """A connection from the pool for one unit of work of at most `timeout` seconds.

    Raises DatabaseUnavailable when there is none in time, when it is lost or too slow, or the server refuses.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        async with asyncio.timeout_at(deadline):
            session = await engine.connect()
        # Cancelling a query waits for the server to agree. Dropping the connection needs nobody's answer.
        watchdog = loop.call_at(deadline, _drop, session)
        try:
            yield session
            await session.commit()
        finally:
            watchdog.cancel()
            await session.close()
    except PoolTimeoutError as error:
        raise DatabaseUnavailable("pool_exhausted") from error
    except OSError as error:  # TimeoutError is one of them.
        raise DatabaseUnavailable("too_slow" if loop.time() >= deadline else "unreachable") from error
    except DBAPIError as error:
        if not is_unavailable(error):
            raise
        lost = "too_slow" if loop.time() >= deadline else "connection_lost"
        raise DatabaseUnavailable(lost if error.connection_invalidated else "refused") from error


def _drop(session: AsyncConnection) -> None:
    session.sync_connection.connection.driver_connection.terminate()  # type: ignore[union-attr]  # As above.


def is_unavailable(error: DBAPIError) -> bool:
    """Whether the database, rather than the statement, is at fault."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return (
        error.connection_invalidated
        or state is None
        or state[:2] in _UNAVAILABLE_CLASSES
        or state in _UNAVAILABLE_CODES
    )
