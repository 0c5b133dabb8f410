"""DATABASE_URL as people paste it, read as libpq would, in the terms of asyncpg."""

import re
import ssl
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from ai_agent.errors import ConfigurationError

_UNREADABLE = (
    "DATABASE_URL cannot be read as a URL: check that it has one host and a port in digits,"
    " and in the password write / as %2F, # as %23, ? as %3F, [ as %5B"
)

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Parameters of libpq, Prisma and SQLAlchemy for the client alone; asyncpg would send them on to the server.
_CLIENT_ONLY = {
    *("channel_binding", "connect_timeout", "fallback_application_name", "gssdelegation", "gssencmode", "keepalives"),
    *("keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts", "max_protocol_version"),
    *("min_protocol_version", "sslcertmode", "sslcompression", "sslsni", "tcp_user_timeout"),
    *("connection_limit", "pgbouncer", "pool_timeout", "schema"),
    *("prepared_statement_cache_size", "statement_cache_size"),
}

# How Prisma, asyncpg and SQLAlchemy are told that a pooler in transaction mode answers, and how Neon and Supabase
# name theirs: ep-cool-name-pooler.eu-central-1.aws.neon.tech, aws-0-eu-central-1.pooler.supabase.com.
_POOLER_PARAMETERS = {("pgbouncer", "true"), ("statement_cache_size", "0"), ("prepared_statement_cache_size", "0")}
_POOLER_HOST = re.compile(r"[-.]pooler\.")


def connect_arguments(database_url: str) -> dict[str, Any]:
    """asyncpg's arguments for a PostgreSQL URL as a provider prints it; ConfigurationError if it cannot be used.

    asyncpg reads the URL as libpq would, except for what is mended here: the schemes of SQLAlchemy, parameters
    it does not know, and `verify-*` without a root certificate, which means the system's certificates.
    """
    parts, query = _read(database_url)
    mode = _ssl_mode(query)
    kept = {name: value for name, value in query.items() if name not in _CLIENT_ONLY}
    arguments: dict[str, Any] = {
        "dsn": parts._replace(scheme="postgresql", query=urlencode(kept)).geturl(),
        # Columns without a time zone hold UTC, and JSON made by the server prints UTC.
        "server_settings": {"timezone": "UTC", "application_name": query.get("application_name", "ai-agent")},
    }
    root = query.get("sslrootcert", "system")
    context = _read_certificates(root, query)
    if mode in ("verify-ca", "verify-full") and root == "system":
        context.check_hostname = mode == "verify-full"
        arguments["ssl"] = context
    return arguments


def names_pooler(database_url: str) -> bool:
    """Whether the URL itself says that a pooler in transaction mode stands before the server."""
    parts, query = _read(database_url)
    return _POOLER_HOST.search(parts.hostname or "") is not None or not _POOLER_PARAMETERS.isdisjoint(query.items())


def _read(database_url: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(database_url.strip())
        parts.port  # noqa: B018  # Reading it checks it.
        if not (host := unquote(parts.hostname or "")).startswith("/"):  # As the path of a socket does.
            host.encode("idna")
    except ValueError:  # Its text quotes what it took for the port, which may be the beginning of the password.
        raise ConfigurationError(_UNREADABLE) from None
    if parts.scheme not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise ConfigurationError("DATABASE_URL must begin with postgresql://")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" not in parts.netloc and any("@" in text for text in (parts.path, parts.fragment, *query)):
        raise ConfigurationError(_UNREADABLE)  # The netloc has ended in the middle of the password.
    if "require_auth" in query:
        raise ConfigurationError("DATABASE_URL has require_auth, which the driver cannot enforce: leave it out")
    return parts, query


def _ssl_mode(query: dict[str, str]) -> str | None:
    """Settle on one sslmode in the query; `ssl=` is how asyncpg's own URLs spell it."""
    mode = query.pop("ssl", None) or query.get("sslmode")
    if mode == "true":
        mode = "require"
    if query.get("sslrootcert") == "system":  # As in libpq: a weaker mode would let anyone with a certificate in.
        mode = mode or "verify-full"
        if mode != "verify-full":
            raise ConfigurationError("DATABASE_URL has sslrootcert=system, which needs sslmode=verify-full")
    if query.get("channel_binding") == "require" and mode in (None, "allow", "prefer"):
        mode = "require"  # Channel binding itself is beyond asyncpg, but it implies TLS.
    if mode is not None and mode not in _SSL_MODES:
        raise ConfigurationError(f"DATABASE_URL has an unknown sslmode; use one of {', '.join(_SSL_MODES)}")
    if mode is not None:
        query["sslmode"] = mode
    return mode


def _read_certificates(root: str, query: dict[str, str]) -> ssl.SSLContext:
    """Read the files now: asyncpg does so when it connects, and then a wrong path would look like an outage."""
    try:
        context = ssl.create_default_context(cafile=None if root == "system" else root)
        if "sslcert" in query:
            context.load_cert_chain(query["sslcert"], query.get("sslkey"), query.get("sslpassword", ""))
    except OSError as error:
        raise ConfigurationError(f"DATABASE_URL names a certificate that cannot be read: {error}") from None
    return context
