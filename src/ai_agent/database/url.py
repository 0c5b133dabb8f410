"""DATABASE_URL as people paste it, and libpq's PG* variables, as one set of parameters: the query wins, as in libpq."""

import os
import re
from collections.abc import Iterator
from urllib.parse import SplitResult, unquote, urlsplit

from ai_agent.errors import ConfigurationError

# The first kind of parameter: honoured as libpq does. `ssl`, `database` and the caches are names of asyncpg and
# SQLAlchemy, `schema` and `pgbouncer` are Prisma's.
_HONOURED = {
    *("host", "hostaddr", "port", "user", "password", "passfile", "dbname", "database", "target_session_attrs"),
    *("sslmode", "ssl", "requiressl", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcertmode", "sslcrl"),
    *("sslcrldir", "ssl_min_protocol_version", "ssl_max_protocol_version", "sslnegotiation", "channel_binding"),
    *("application_name", "options", "schema", "krbsrvname"),
    *("pgbouncer", "statement_cache_size", "prepared_statement_cache_size"),
}

# Honoured too: the settings of the server that a URL may reasonably carry, and any other whose name has a dot.
SERVER_SETTINGS = {
    *("search_path", "role", "statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout"),
    *("idle_in_transaction_session_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
    *("work_mem", "maintenance_work_mem", "temp_buffers", "jit", "plan_cache_mode", "default_tablespace", "geqo"),
    *("log_statement", "log_min_duration_statement", "client_min_messages", "lc_messages", "random_page_cost"),
}

# The second kind: for another client, or about waiting and formats that the service decides. They are dropped.
_DROPPED = {
    # libpq
    *("connect_timeout", "fallback_application_name", "client_encoding", "timezone", "datestyle", "intervalstyle"),
    *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout", "sslsni"),
    *("sslcompression", "gssdelegation", "gsslib", "load_balance_hosts", "min_protocol_version"),
    *("max_protocol_version", "extra_float_digits", "bytea_output", "sslkeylogfile"),
    # Prisma, Supabase and Vercel
    *("connection_limit", "pool_timeout", "socket_timeout", "supa", "workaround"),
    # node-postgres and postgres.js
    *("uselibpqcompat", "max", "min", "idle_timeout", "max_lifetime", "prepare", "keepalive", "query_timeout"),
    *("connectiontimeoutmillis", "idletimeoutmillis", "allowexitonidle", "fetch_types"),
    # pgx, lib/pq and sqlx
    *("pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time", "binary_parameters"),
    *("pool_health_check_period", "pool_max_conn_lifetime_jitter", "default_query_exec_mode", "statement_cache_mode"),
    *("statement_cache_capacity", "description_cache_capacity", "statement-cache-capacity"),
    # JDBC
    *("preparethreshold", "preparedstatementcachequeries", "preferquerymode", "rewritebatchedinserts", "logintimeout"),
    *("connecttimeout", "sockettimeout", "canceltimeout", "tcpkeepalive", "applicationname", "defaultrowfetchsize"),
    *("assumeminserverversion", "autosave", "stringtype", "binarytransfer", "loggerlevel"),
    # Npgsql
    *("pooling", "minpoolsize", "maxpoolsize", "minimum pool size", "maximum pool size", "timeout", "command timeout"),
    *("commandtimeout", "include error detail", "no reset on close", "max auto prepare", "connection idle lifetime"),
    # asyncpg, SQLAlchemy, psycopg, Django and Rails
    *("command_timeout", "max_cached_statement_lifetime", "max_cacheable_statement_size", "prepare_threshold"),
    *("prepared_statement_name_func", "async_fallback", "conn_max_age", "conn_health_checks", "pool", "pool_size"),
    *("max_overflow", "pool_recycle", "pool_pre_ping", "checkout_timeout", "reaping_frequency", "prepared_statements"),
    *("disable_server_side_cursors", "advisory_locks", "statement_limit"),
}

_UNENFORCED = "which the driver cannot enforce: leave it out"
_PINNED = "which the service sets itself, because its promises rest on it: leave it out"
_UNREAD = "which is not read here: write out the host, the user and the database that it stands for"

# The third kind: without one of these the connection would go elsewhere, or be less safe than asked. They are refused.
_REFUSED = {
    "require_auth": _UNENFORCED,
    "requirepeer": _UNENFORCED,
    "gssencmode": "which the driver cannot enforce: leave it out, or write gssencmode=disable",
    "service": _UNREAD,
    "servicefile": _UNREAD,
    "replication": "which is not for queries: leave it out",
    "default_transaction_isolation": _PINNED,
    "default_transaction_deferrable": _PINNED,
    "row_security": _PINNED,
    "synchronous_commit": _PINNED,
    "default_transaction_read_only": "with which the service could not write: leave it out",
    "session_replication_role": "with which the database would drop its own rules: leave it out",
    "currentschema": "which is another client's: write search_path",
    "targetservertype": "which is another client's: write target_session_attrs=read-write",
    "sslaccept": "which is another client's: write sslmode=verify-full to have the certificate checked",
    "sslidentity": "which is another client's: write sslcert and sslkey",
    "sslfactory": "which is another client's: write sslmode",
    "trust server certificate": "which is another client's: write sslmode=require",
}

# Values of theirs that ask for nothing.
_HARMLESS = {("gssencmode", "disable"), ("gssencmode", "prefer"), ("sslaccept", "accept_invalid_certs")}

# libpq's environment variables, each with the parameter that it is the default of.
VARIABLES = {
    **{f"PG{name.upper()}": name for name in ("host", "hostaddr", "port", "user", "password", "passfile", "options")},
    **{f"PG{name.upper()}": name for name in ("sslmode", "requiressl", "sslrootcert", "sslcert", "sslkey", "sslcrl")},
    **{f"PG{name.upper()}": name for name in ("sslcrldir", "sslcertmode", "sslnegotiation", "gssencmode", "service")},
    **{f"PG{name.upper()}": name for name in ("requirepeer", "krbsrvname")},
    "PGDATABASE": "dbname",
    "PGREQUIREAUTH": "require_auth",
    "PGCHANNELBINDING": "channel_binding",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
}

_UNREADABLE = (
    "DATABASE_URL cannot be read as a URL: check that every port is in digits,"
    " and in the password write / as %2F, # as %23, ? as %3F, @ as %40, [ as %5B, % as %25"
)


class Parameters(dict[str, str]):
    """Values by libpq's names. Each comes from DATABASE_URL, or from the variable that `source` names."""

    def __init__(self) -> None:
        super().__init__({name: value for variable, name in VARIABLES.items() if (value := os.environ.get(variable))})
        self._sources = {name: variable for variable, name in VARIABLES.items() if name in self}

    def source(self, name: str) -> str:
        return self._sources.get(name, "DATABASE_URL")

    def set(self, name: str, value: str) -> None:
        self[name] = value
        self._sources.pop(name, None)


def read_parameters(database_url: str) -> Parameters:
    """Everything that a URL and the PG* variables say; ConfigurationError for what can be neither done nor dropped."""
    parameters = Parameters()
    try:
        parts = _split(database_url.strip())
        for name, value in (*_read_parts(parts), *_read_query(parts.query)):
            parameters.set(name, value)
        "".join(parameters.values()).encode()
    except ConfigurationError:
        raise
    except ValueError:  # Its text quotes what may be a piece of the password.
        raise ConfigurationError(_UNREADABLE) from None
    for name, value in list(parameters.items()):
        _check(name, value, parameters.source(name))
        if name in _DROPPED or (name, value) in _HARMLESS:
            del parameters[name]
    return parameters


def _check(name: str, value: str, source: str) -> None:
    """Raise ConfigurationError for a parameter of the third kind, and for one that nobody knows."""
    if "\0" in value:
        raise ConfigurationError(f"{source} has %00 in it, which PostgreSQL cannot take")
    if (name, value) in _HARMLESS:
        return
    check_option(name, source)
    if name not in _HONOURED | SERVER_SETTINGS | _DROPPED and "." not in name:
        # A name that is not one may be the rest of a password.
        shown = name if re.fullmatch(r"[a-z0-9_ -]{1,40}", name) else "a parameter"
        raise ConfigurationError(f"{source} has {shown}, which neither the service nor the server knows: leave it out")


def check_option(name: str, source: str) -> None:
    """Raise ConfigurationError for what must not be set, in the query or among the `options`."""
    if name in _REFUSED:
        raise ConfigurationError(f"{source} has {name}, {_REFUSED[name]}")


def _split(database_url: str) -> SplitResult:
    parts = urlsplit(database_url)
    if parts.scheme not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise ConfigurationError("DATABASE_URL must begin with postgresql://")
    # The netloc has ended in the middle of the password.
    astray = "@" not in parts.netloc and any("@" in text for text in (parts.path, re.sub("=[^&]*", "", parts.query)))
    if astray or parts.fragment:
        raise ConfigurationError(_UNREADABLE)
    return parts


def _read_parts(parts: SplitResult) -> Iterator[tuple[str, str]]:
    credentials, _, addresses = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    hosts, ports = split_addresses(addresses)
    found = {"user": unquote(user, errors="strict"), "password": unquote(password, errors="strict")}
    found |= {"host": ",".join(hosts), "port": ",".join(ports) if any(ports) else ""}
    found["dbname"] = unquote(parts.path[1:], errors="strict")
    yield from ((name, value) for name, value in found.items() if value)


def split_addresses(addresses: str) -> tuple[list[str], list[str]]:
    """The hosts and ports of `h1:p1,[::1]:p2`; a port that is not given is empty. ValueError if it is none."""
    hosts, ports = [], []
    for address in addresses.split(","):
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.%a-z]+\]|[^\[\]:]*)(?::([0-9]*))?", address)
        if found is None:
            raise ValueError
        hosts.append(unquote(found[1].strip("[]"), errors="strict"))
        ports.append(found[2] or "")
    return hosts, ports


def _read_query(query: str) -> Iterator[tuple[str, str]]:
    """As libpq reads it, which takes a plus sign for itself."""
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        yield unquote(name, errors="strict").lower(), unquote(value, errors="strict")
