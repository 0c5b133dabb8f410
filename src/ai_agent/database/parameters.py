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
# Clients separate words in different ways, so the names here have no underscores, hyphens or spaces.
_DROPPED = {
    # libpq and tokio-postgres
    *("connecttimeout", "fallbackapplicationname", "clientencoding", "timezone", "datestyle", "intervalstyle", "tty"),
    *("keepalives", "keepalivescount", "keepalivesidle", "keepalivesinterval", "keepalivesretries", "tcpusertimeout"),
    *("sslsni", "sslcompression", "sslkeylogfile", "gssdelegation", "gsslib", "loadbalancehosts", "extrafloatdigits"),
    *("minprotocolversion", "maxprotocolversion", "byteaoutput"),
    # Prisma, Supabase and Vercel
    *("connectionlimit", "pooltimeout", "sockettimeout", "singleuseconnections", "maxconnectionlifetime", "supa"),
    *("maxidleconnectionlifetime", "workaround"),
    # node-postgres and postgres.js
    *("uselibpqcompat", "max", "min", "idletimeout", "maxlifetime", "maxlifetimeseconds", "maxuses", "maxpipeline"),
    *("prepare", "keepalive", "keepaliveinitialdelaymillis", "querytimeout", "connectiontimeoutmillis", "backoff"),
    *("idletimeoutmillis", "allowexitonidle", "fetchtypes", "binary", "debug", "publications", "enablechannelbinding"),
    # pgx, lib/pq, sqlx and Ecto
    *("poolmaxconns", "poolminconns", "poolminidleconns", "poolmaxconnlifetime", "poolmaxconnidletime"),
    *("poolmaxconnlifetimejitter", "poolhealthcheckperiod", "poolpingtimeout", "defaultqueryexecmode"),
    *("statementcachemode", "statementcachecapacity", "descriptioncachecapacity", "minreadbuffersize"),
    *("binaryparameters", "disablepreparedbinaryresult", "queuetarget", "queueinterval"),
    # JDBC and R2DBC
    *("preparethreshold", "preparedstatementcachequeries", "preparedstatementcachesizemib", "preferquerymode"),
    *("rewritebatchedinserts", "logintimeout", "canceltimeout", "cancelsignaltimeout", "sslresponsetimeout"),
    *("gssresponsetimeout", "tcpkeepalive", "tcpnodelay", "applicationname", "defaultrowfetchsize", "protocolversion"),
    *("assumeminserverversion", "autosave", "cleanupsavepoints", "stringtype", "unknownlength", "binarytransfer"),
    *("binarytransferenable", "binarytransferdisable", "loggerlevel", "loggerfile", "logunclosedconnections"),
    *("logservererrordetail", "databasemetadatacachefields", "databasemetadatacachefieldsmib", "sendbuffersize"),
    *("maxsendbuffersize", "receivebuffersize", "maxresultbuffer", "adaptivefetch", "adaptivefetchminimum"),
    *("adaptivefetchmaximum", "readonlymode", "disablecolumnsanitiser", "quotereturningidentifiers"),
    *("escapesyntaxcallmode", "hostrecheckseconds", "allowencodingchanges", "forcebinary", "fetchsize"),
    *("autodetectextensions", "compatibilitymode"),
    # Npgsql
    *("pooling", "minpoolsize", "maxpoolsize", "minimumpoolsize", "maximumpoolsize", "connectionlifetime", "timeout"),
    *("commandtimeout", "internalcommandtimeout", "cancellationtimeout", "connectionidlelifetime", "noresetonclose"),
    *("connectionpruninginterval", "includeerrordetail", "logparameters", "persistsecurityinfo", "enlist"),
    *("tcpkeepalivetime", "tcpkeepaliveinterval", "maxautoprepare", "autoprepareminusages", "readbuffersize"),
    *("writebuffersize", "socketreceivebuffersize", "socketsendbuffersize", "multiplexing", "loadtablecomposites"),
    *("arraynullabilitymode", "servercompatibilitymode", "includefailedbatchedcommand"),
    # asyncpg, SQLAlchemy, psycopg and Django
    *("maxcachedstatementlifetime", "maxcacheablestatementsize", "preparedstatementnamefunc", "asyncfallback"),
    *("connmaxage", "connhealthchecks", "atomicrequests", "autocommit", "serversidebinding", "pool", "poolsize"),
    *("maxoverflow", "poolrecycle", "poolpreping", "pooluselifo", "poolresetonreturn", "echo", "echopool"),
    *("disableserversidecursors",),
    # Rails and Doctrine
    *("checkouttimeout", "reapingfrequency", "preparedstatements", "advisorylocks", "statementlimit", "minmessages"),
    *("insertreturning", "minconnections", "maxconnections", "adapter", "encoding", "charset", "serverversion"),
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
    "targetservertype": "which is another client's: write target_session_attrs=read-write",
    "sslaccept": "which is another client's: write sslmode=verify-full to have the certificate checked",
    "sslidentity": "which is another client's: write sslcert and sslkey",
    "readonly": "with which the service could not write: leave it out",
}

# Other clients' names for what is honored, without underscores, hyphens and spaces. They are refused too, because their
# values may mean something else.
_RENAMED = {
    **dict.fromkeys(("username", "userid", "uid"), "user"),
    **dict.fromkeys(("hostname", "server", "socketfactory", "cloudsqlinstance"), "host"),
    **dict.fromkeys(("currentschema", "searchpath", "schemasearchpath"), "search_path"),
    **dict.fromkeys(("kerberosservername", "kerberosservicename"), "krbsrvname"),
    "pwd": "password",
    "db": "dbname",
    "targetsessionattributes": "target_session_attrs",
}
_TLS = re.compile("ssl|tls|cert|encrypt")
_RENAMED_TLS = "sslmode=verify-full, require or disable, and files as sslrootcert, sslcert and sslkey"

# Values of refused parameters that ask for nothing.
_HARMLESS = {
    *(("gssencmode", "disable"), ("gssencmode", "allow"), ("gssencmode", "prefer")),
    *(("sslaccept", "accept_invalid_certs"), ("readonly", "false"), ("replication", "false")),
}

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

    A parameter of no kind is refused too.
    """
    if "\0" in value:
        raise ConfigurationError(f"{source} has %00 in it, which PostgreSQL cannot take")
    if (name, value) in _HARMLESS:
        return False
    check_option(name, source)
    if name in _HONORED | SERVER_SETTINGS or "." in name:
        return True
    plain = re.sub("[ _-]", "", name)
    if plain in _DROPPED or name.startswith("x-"):  # golang-migrate's names begin with x-.
        return False
    if not re.fullmatch(r"[a-z0-9_ -]{1,40}", name):  # It may be the rest of a password.
        raise ConfigurationError(f"{source} has a parameter that the service does not take: leave it out")
    renamed = _RENAMED.get(plain) or (_RENAMED_TLS if _TLS.search(name) else None)
    remedy = f"is another client's: write {renamed}" if renamed else "the service does not take: leave it out"
    raise ConfigurationError(f"{source} has {name}, which {remedy}")


def check_option(name: str, source: str) -> None:
    """Raise ConfigurationError for a setting that is refused, in the query or among the `options`."""
    if name in _REFUSED:
        raise ConfigurationError(f"{source} has {name}, {_REFUSED[name]}")
