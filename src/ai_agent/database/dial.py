"""One attempt to connect: to one host, with one level of settings, with or without TLS."""

import ssl

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from ai_agent.database.passwords import find_password
from ai_agent.database.settings import MARKER, Level
from ai_agent.database.target import Target


async def dial(
    target: Target,
    host: tuple[str, int],
    level: Level,
    marker: str,
    seconds: float,
    connection_class: type[asyncpg.Connection],
) -> asyncpg.Connection:
    """Connect with or without TLS: the first way that the sslmode allows and the server accepts.

    Raises what asyncpg raises for the last way. The marker goes to the server with a direct level's settings.
    """
    address, port = host
    who = target.credentials
    password = who["password"] or find_password(who["passfile"], address, port, who["database"], who["user"])
    attempts = (None,) if address.startswith("/") else target.tls
    for context in attempts:
        try:
            connection: asyncpg.Connection = await asyncpg.connect(
                host=address,
                port=port,
                **{**who, "password": password},
                ssl=False if context is None else context,
                direct_tls=target.direct_tls and context is not None,
                server_settings={**level.startup, **({MARKER: marker} if level.direct else {})},
                statement_cache_size=100 if level.direct else 0,
                target_session_attrs=SessionAttribute.any,
                timeout=seconds,
                connection_class=connection_class,
            )
        except (OSError, asyncpg.PostgresError) as error:
            if context is attempts[-1] or not _is_about_tls(error):
                raise
        else:
            return connection
    raise AssertionError("there is always an attempt")


def _is_about_tls(error: Exception) -> bool:
    """Whether the other way, with or without TLS, may work. asyncpg raises a bare ConnectionError if TLS is refused."""
    if isinstance(error, asyncpg.InvalidPasswordError):
        return False
    return type(error) is ConnectionError or isinstance(
        error, ssl.SSLError | ConnectionResetError | asyncpg.InvalidAuthorizationSpecificationError
    )
