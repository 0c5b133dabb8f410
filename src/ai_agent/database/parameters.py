"""The parameters of a connection: which are honored, dropped or refused, and the variables that set them."""

import os
import re

from ai_agent.errors import ConfigurationError

# The first kind: they are honored in libpq's way. `ssl`, `database` and the caches are names of asyncpg and SQLAlchemy;
# `schema` and `pgbouncer` are Prisma's.
_HONORED = {
    *("host", "hostaddr", "port", "user", "password", "passfile", "dbname", "database", "target_session_attrs"),
    *("sslmode", "ssl", "requiressl", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcertmode", "sslcrl"),
    *("sslcrldir", "ssl_min_protocol_version", "ssl_max_protocol_version", "sslnegotiation", "channel_binding"),
    *("application_name", "options", "schema", "krbsrvname"),
    *("pgbouncer", "statement_cache_size", "prepared_statement_cache_size"),
}

# Settings of the server that a URL may reasonably carry. They are honored too, and so is any name with a dot in it.
SERVER_SETTINGS = {
    *("search_path", "role", "statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout"),
    *("idle_in_transaction_session_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
    *("work_mem", "maintenance_work_mem", "temp_buffers", "jit", "plan_cache_mode", "default_tablespace", "geqo"),
    *("log_statement", "log_min_duration_statement", "client_min_messages", "lc_messages", "random_page_cost"),
}

# The second kind: they are another client's, or about waiting and formats, which the service decides. They are dropped.
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

# The third kind: dropping one would send the connection elsewhere, or make it less safe than asked. They are refused.
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

# Values of refused parameters that ask for nothing.
_HARMLESS = {("gssencmode", "disable"), ("gssencmode", "prefer"), ("sslaccept", "accept_invalid_certs")}

# libpq's environment variables, each with the parameter whose default it is.
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


class Parameters(dict[str, str]):
    """Values by libpq's names, which the PG* variables set first. `source` names where a value comes from."""

    def __init__(self) -> None:
        super().__init__({name: value for variable, name in VARIABLES.items() if (value := os.environ.get(variable))})
        self._sources = {name: variable for variable, name in VARIABLES.items() if name in self}

    def source(self, name: str) -> str:
        return self._sources.get(name, "DATABASE_URL")

    def set(self, name: str, value: str) -> None:
        self[name] = value
        self._sources.pop(name, None)


def is_honored(name: str, value: str, source: str) -> bool:
    """Whether the parameter is honored rather than dropped; raises ConfigurationError for any of the third kind.

    A parameter that nobody knows is refused too.
    """
    if "\0" in value:
        raise ConfigurationError(f"{source} has %00 in it, which PostgreSQL cannot take")
    if (name, value) in _HARMLESS or name in _DROPPED:
        return False
    check_option(name, source)
    if name not in _HONORED | SERVER_SETTINGS and "." not in name:
        # What is not a name may be the rest of a password.
        shown = name if re.fullmatch(r"[a-z0-9_ -]{1,40}", name) else "a parameter"
        raise ConfigurationError(f"{source} has {shown}, which neither the service nor the server knows: leave it out")
    return True


def check_option(name: str, source: str) -> None:
    """Raise ConfigurationError for a setting that is refused, in the query or among the `options`."""
    if name in _REFUSED:
        raise ConfigurationError(f"{source} has {name}, {_REFUSED[name]}")
