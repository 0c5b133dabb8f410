import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from ai_agent.database.parameters import VARIABLES
from ai_agent.database.target import Target, read_target
from ai_agent.errors import ConfigurationError

# A pasted URL, and the hosts, user, password and database that it stands for.
TARGETS = {
    "postgres": ("postgres://ada:pw@db/app", [("db", 5432)], "ada", "pw", "app"),
    "postgresql": ("postgresql://ada:pw@db:5433/app", [("db", 5433)], "ada", "pw", "app"),
    "SQLAlchemy's scheme": ("postgresql+asyncpg://ada:pw@db/app", [("db", 5432)], "ada", "pw", "app"),
    "percent-encoded password": ("postgres://ada:p%40%2F%25%3A@db/app", [("db", 5432)], "ada", "p@/%:", "app"),
    "white space around": (" postgres://ada@db/app\n", [("db", 5432)], "ada", None, "app"),
    "an at sign in the password": ("postgres://ada:p@w@db/app", [("db", 5432)], "ada", "p@w", "app"),
    "no database": ("postgres://ada:pw@db", [("db", 5432)], "ada", "pw", "ada"),
    "IPv6": ("postgres://ada:pw@[::1]:5433/app", [("::1", 5433)], "ada", "pw", "app"),
    "a long path of a socket": (
        "postgres://ada:pw@%2Fcloudsql%2Fa-long-name-of-a-project%3Aeurope-west1%3Aa-long-name-of-a-database/app",
        [("/cloudsql/a-long-name-of-a-project:europe-west1:a-long-name-of-a-database", 5432)],
        *("ada", "pw", "app"),
    ),
    "a socket in the query": ("postgres://ada@/app?host=/run/pg", [("/run/pg", 5432)], "ada", None, "app"),
    "an address in the query": ("postgres://db/app?user=ada@corp", [("db", 5432)], "ada@corp", None, "app"),
    "a plus sign": ("postgres://db/app?user=ada&password=a+b", [("db", 5432)], "ada", "a+b", "app"),
    "the query before the URL's own": (
        "postgres://ada:pw@db:5433/app?host=other&user=bob&password=secret&dbname=theirs",
        [("other", 5433)],
        *("bob", "secret", "theirs"),
    ),
    "an address before a name": ("postgres://ada@db/app?hostaddr=10.0.0.1", [("10.0.0.1", 5432)], "ada", None, "app"),
    "several hosts": ("postgres://ada@h1:5433,h2/app", [("h1", 5433), ("h2", 5432)], "ada", None, "app"),
    "several hosts, one without a port": (
        "postgres://ada@h1,h2:5433/app",
        [("h1", 5432), ("h2", 5433)],
        *("ada", None, "app"),
    ),
    "several hosts in the query": (
        "postgres://ada@/app?host=h1,h2&port=5433,5434",
        [("h1", 5433), ("h2", 5434)],
        *("ada", None, "app"),
    ),
    "several hosts with one port": (
        "postgres://ada@/app?host=h1,h2&port=5433",
        [("h1", 5433), ("h2", 5433)],
        *("ada", None, "app"),
    ),
    "several hosts in asyncpg's way": (
        "postgres://ada@/app?host=h1:5433,[::1]:5434",
        [("h1", 5433), ("::1", 5434)],
        *("ada", None, "app"),
    ),
}

# Queries that must not change where and how the service connects: they concern other clients.
DROPPED = {
    "Supabase": "supa=base-pooler.x",
    "node-postgres": "uselibpqcompat=true&max=10&idleTimeoutMillis=1000&keepAlive=true&maxUses=7&binary=false",
    "postgres.js": "max_pipeline=10&keep_alive=60&backoff=1&publications=alltables&fetch_types=false",
    "Prisma": "connection_limit=1&pool_timeout=0&socket_timeout=3&sslaccept=accept_invalid_certs",
    "Prisma's pool": "single_use_connections=true&max_connection_lifetime=60&max_idle_connection_lifetime=9",
    "pgx": "pool_max_conns=10&pool_min_conns=1&default_query_exec_mode=simple_protocol&pool_ping_timeout=1s",
    "golang-migrate": "x-migrations-table=versions&x-statement-timeout=1000",
    "sqlx": "statement-cache-capacity=0",
    "Ecto": "pool_size=10&queue_target=500&timeout=15000",
    "Doctrine": "serverVersion=16&charset=utf8",
    "Rails": "encoding=unicode&min_messages=warning&pool=5&checkout_timeout=5&insert_returning=true",
    "Django": "conn_max_age=600&conn_health_checks=true&atomic_requests=true&server_side_binding=true",
    "R2DBC": "forceBinary=true&fetchSize=10&preparedStatementCacheQueries=0",
    "JDBC": "prepareThreshold=0&reWriteBatchedInserts=true&ApplicationName=x&tcpKeepAlive=true&loginTimeout=5",
    "JDBC's buffers": "sendBufferSize=9&maxResultBuffer=1M&adaptiveFetch=true&binaryTransferDisable=numeric",
    "JDBC's defaults": "readOnly=false&replication=false&gssEncMode=allow&loadBalanceHosts=true&sslResponseTimeout=9",
    "Npgsql": "Pooling=true&Maximum%20Pool%20Size=50&Timeout=15",
    "Npgsql, in one word": "MaxPoolSize=50&MaxAutoPrepare=9&Multiplexing=true&PersistSecurityInfo=true&Enlist=false",
    "SQLAlchemy": "prepared_statement_cache_size=500&pool_size=5",
    "libpq's own": "sslcertmode=disable&fallback_application_name=x&connect_timeout=5&sslsni=1&gssencmode=prefer",
    "time zone and encoding": "timezone=Europe/Rome&client_encoding=latin1&options=-c%20client_encoding%3Dlatin1",
}

# What a URL asks of the server.
SETTINGS = {
    "nothing": ("", {}),
    "a name": ("application_name=chat", {"application_name": "chat"}),
    "Prisma's schema": ("schema=my%22app", {"search_path": '"my""app"'}),
    "a search path": ("search_path=app,public", {"search_path": "app,public"}),
    "options": (
        "options=-c%20search_path%3Dapp%20--statement-timeout%3D5s%20-cwork_mem%3D8MB",
        {"search_path": "app", "statement_timeout": "5s", "work_mem": "8MB"},
    ),
    "an option with a space": ("options=-c%20search_path%3Da,%5C%20b", {"search_path": "a, b"}),
    "an option after two spaces and a tab": (
        "options=-c%20%20search_path%3Dapp%20-c%09work_mem%3D8MB",
        {"search_path": "app", "work_mem": "8MB"},
    ),
    "an option given twice": ("options=-c%20search_path%3Dother%20-c%20search_path%3Dapp", {"search_path": "app"}),
    "a setting and an option": ("search_path=app&options=-csearch_path%3Dother", {"search_path": "app"}),
    "Neon's endpoint": ("options=endpoint%3Dep-a", {"options": "endpoint=ep-a"}),
    "a setting of somebody's extension": ("app.tenant=7", {"app.tenant": "7"}),
}

UNUSABLE = {
    "another database": ("mysql://db/app", "must begin with postgresql://"),
    "no scheme": ("db/app", "must begin with postgresql://"),
    "a port that is no number": ("postgres://db:port/app", "cannot be read as a URL"),
    "a slash in the password": ("postgres://ada:secret-word/s@db/app", "%2F"),
    "a hash in the password": ("postgres://ada:secret-word#s@db/app", "%23"),
    "a question mark in the password": ("postgres://ada:secret-word?s@db/app", "%3F"),
    "a slash in a password of digits": ("postgres://ada:123/secret-word@db/app", "%2F"),
    "an impossible host": ("postgres://..db/app", "cannot be read as a URL"),
    "what the driver cannot enforce": ("postgres://db/app?require_auth=scram-sha-256", "require_auth"),
    "a question mark in a password of digits": ("postgres://ada:123?4secret-word@db/app", "%3F"),
    "a bracket in the password": ("postgres://ada:secret-word[s@db/app", "cannot be read as a URL"),
    "unknown mode": ("postgres://db/app?sslmode=strict", "unknown sslmode"),
    "empty mode": ("postgres://db/app?sslmode=", "unknown sslmode"),
    "missing certificate": ("postgres://db/app?sslmode=verify-full&sslrootcert=/no/such/file", "certificate"),
    "missing certificate, also to require": ("postgres://db/app?sslmode=require&sslrootcert=/none", "certificate"),
    "system's certificates without the name": ("postgres://db/app?sslmode=require&sslrootcert=system", "verify-full"),
    "a bad escape": ("postgres://db/app%zz%ff", "cannot be read as a URL"),
    "a zero byte": ("postgres://db/app%00", "%00"),
    "a port beyond all": ("postgres://db:70000/app", "65535"),
    "ports for other hosts": ("postgres://db/app?host=h1,h2&port=1,2,3", "3 ports for 2 hosts"),
    "a fragment": ("postgres://db/app?sslmode=verify-full#x", "%23"),
    "a name that nobody knows": ("postgres://db/app?shard=7", "shard, which the service does not take"),
    "a setting of the server's": ("postgres://db/app?fsync=off", "fsync, which the service does not take"),
    "an isolation": (
        "postgres://db/app?transaction_isolation=serializable",
        "isolation, which the service",
    ),
    "JDBC's read-only": ("postgres://db/app?readOnly=true", "could not write"),
    "JDBC's socket": ("postgres://db/app?socketFactory=com.google.cloud.sql.postgres.SocketFactory", "write host"),
    "JDBC's verifier": ("postgres://db/app?sslhostnameverifier=x", "write sslmode="),
    "Npgsql's user": ("postgres://db/app?User%20Id=ada", "write user"),
    "Npgsql's search path": ("postgres://db/app?Search%20Path=app", "write search_path"),
    "Npgsql's trust": ("postgres://db/app?TrustServerCertificate=true", "write sslmode="),
    "Npgsql's root": ("postgres://db/app?Root%20Certificate=/none", "sslrootcert"),
    "Rails' search path": ("postgres://db/app?schema_search_path=app", "write search_path"),
    "sqlx's mode": ("postgres://db/app?ssl-mode=required", "ssl-mode, which is another client's: write sslmode="),
    "a mode with an underscore": ("postgres://db/app?ssl_mode=require", "write sslmode="),
    "MySQL's TLS": ("postgres://db/app?tls=true", "write sslmode="),
    "SQL Server's TLS": ("postgres://db/app?encrypt=true", "write sslmode="),
    "a password's rest for a name": ("postgres://ada@corp:12?secret-word@db/app", "a parameter"),
    "a service file": ("postgres://db/app?service=prod", "service"),
    "the socket's owner": ("postgres://db/app?requirepeer=postgres", "requirepeer"),
    "GSS encryption": ("postgres://db/app?gssencmode=require", "gssencmode"),
    "a weaker isolation": ("postgres://db/app?default_transaction_isolation=serializable", "leave it out"),
    "a weaker commit, as an option": ("postgres://db/app?options=-c%20synchronous_commit%3Doff", "synchronous_commit"),
    "a weaker commit, after two spaces": (
        "postgres://db/app?options=-c%20%20synchronous_commit%3Doff",
        "synchronous_commit",
    ),
    "a plus sign for a space": ("postgres://db/app?options=-c+search_path%3Dapp", "write a space as %20, not as +"),
    "read-only": ("postgres://db/app?options=--default-transaction-read-only%3Don", "default_transaction_read_only"),
    "JDBC's schema": ("postgres://db/app?currentSchema=app", "search_path"),
    "JDBC's kind of server": ("postgres://db/app?targetServerType=primary", "target_session_attrs"),
    "Prisma's verification": ("postgres://db/app?sslaccept=strict", "sslmode=verify-full"),
    "a standby": ("postgres://db/app?target_session_attrs=standby", "standby, where nothing can be written"),
    "a standby before others": ("postgres://db/app?target_session_attrs=prefer-standby", "prefer-standby"),
    "only reads": ("postgres://db/app?target_session_attrs=read-only", "read-only"),
    "another kind of server": ("postgres://db/app?target_session_attrs=master", "unknown target_session_attrs"),
    "node's mode": ("postgres://db/app?sslmode=no-verify", "unknown sslmode"),
    "missing revocations": ("postgres://db/app?sslmode=verify-full&sslcrl=/none", "sslcrl, /none"),
    "missing revocations, as a folder": ("postgres://db/app?sslmode=verify-ca&sslcrldir=/none", "sslcrldir, /none"),
    "missing certificate of ours": ("postgres://db/app?sslcert=/none", "sslcert, /none"),
    "a key alone": ("postgres://db/app?sslkey=/none", "sslkey without a certificate"),
    "an unknown version of TLS": (
        "postgres://db/app?ssl_min_protocol_version=TLSv2",
        "unknown ssl_min_protocol_version",
    ),
    "an old version of TLS": ("postgres://db/app?ssl_max_protocol_version=TLSv1.1", "no longer safe"),
    "versions of TLS the wrong way round": (
        "postgres://db/app?ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
        "below ssl_min_protocol_version",
    ),
    "channel binding without TLS": ("postgres://db/app?sslmode=disable&channel_binding=require", "channel_binding"),
    "an unknown channel binding": ("postgres://db/app?channel_binding=always", "channel_binding"),
    "a request for our certificate": ("postgres://db/app?sslcertmode=require", "sslcertmode"),
    "direct TLS or none": ("postgres://db/app?sslnegotiation=direct&sslmode=prefer", "sslnegotiation"),
    "an address that the certificate is not for": (
        "postgres://db/app?hostaddr=10.0.0.1&sslmode=verify-full",
        "hostaddr",
    ),
    "missing file of passwords": ("postgres://ada@db/app?passfile=/none", "password file"),
}


NAMES_POOLER = {
    "Neon, pooled": ("postgres://ada:pw@ep-a-b-pooler.eu-central-1.aws.neon.tech/app?sslmode=require", True),
    "Neon, direct": ("postgres://ada:pw@ep-a-b.eu-central-1.aws.neon.tech/app?sslmode=require", False),
    "Supabase": ("postgres://ada:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", True),
    "Prisma": ("postgres://db/app?pgbouncer=true", True),
    "asyncpg": ("postgresql+asyncpg://db/app?statement_cache_size=0", True),
    "SQLAlchemy": ("postgresql+asyncpg://db/app?prepared_statement_cache_size=0", True),
    "a larger cache": ("postgresql+asyncpg://db/app?prepared_statement_cache_size=500", False),
    "a password that looks like one": ("postgres://ada:-pooler.@db/app", False),
    "a database that is named like one": ("postgres://db/-pooler.app", False),
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def described(target: Target) -> dict[str, Any]:
    """Everything but the contexts, which compare by identity."""
    return {
        **{name: value for name, value in vars(target).items() if name != "tls"},
        "tls": [context and (context.verify_mode, context.check_hostname) for context in target.tls],
    }


@pytest.mark.parametrize(("pasted", "hosts", "user", "password", "database"), TARGETS.values(), ids=TARGETS.keys())
def test_a_pasted_url_names_its_target(
    pasted: str, hosts: list[tuple[str, int]], user: str, password: str | None, database: str
) -> None:
    target = read_target(pasted)

    assert target.hosts == tuple(hosts)
    named = {name: target.credentials[name] for name in ("user", "password", "database")}
    assert named == {"user": user, "password": password, "database": database}


@pytest.mark.parametrize("query", DROPPED.values(), ids=DROPPED.keys())
def test_what_concerns_another_client_changes_nothing(query: str) -> None:
    assert described(read_target(f"postgres://ada:pw@db/app?{query}")) == described(
        read_target("postgres://ada:pw@db/app")
    )


@pytest.mark.parametrize(("query", "settings"), SETTINGS.values(), ids=SETTINGS.keys())
def test_what_concerns_the_server_is_asked_of_it(query: str, settings: dict[str, str]) -> None:
    assert read_target(f"postgres://ada@db/app?{query}").settings == {"application_name": "ai-agent", **settings}


@pytest.mark.parametrize(("pasted", "why"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_url_is_refused_with_the_reason_and_without_itself(pasted: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as error:
        read_target(pasted if "@" in pasted else pasted.replace("://", "://ada:secret-word@"))

    assert "DATABASE_URL" in str(error.value)
    assert "secret-word" not in str(error.value)
    assert "\n" not in str(error.value)


WRONG_VARIABLES = {
    "PGSSLMODE": "no-verify",
    "PGPORT": "abc",
    "PGTARGETSESSIONATTRS": "standby",
    "PGSSLROOTCERT": "/none",
    "PGSSLCERT": "/none",
    "PGSSLKEY": "/none",
    "PGSSLCRL": "/none",
    "PGSSLCRLDIR": "/none",
    "PGSSLMINPROTOCOLVERSION": "TLSv2",
    "PGSSLMAXPROTOCOLVERSION": "TLSv1",
    "PGSSLNEGOTIATION": "later",
    "PGCHANNELBINDING": "always",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGGSSENCMODE": "require",
    "PGSERVICE": "prod",
    "PGPASSFILE": "/none",
    "PGOPTIONS": "-c row_security=on",
    "PGHOST": "..db",
}


@pytest.mark.parametrize(("variable", "value"), WRONG_VARIABLES.items(), ids=WRONG_VARIABLES.keys())
def test_a_variable_of_libpq_that_cannot_be_used_is_named(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=f"^{variable} "):
        read_target("postgres://ada@/app")


def test_the_variables_of_libpq_are_the_defaults_and_the_url_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"PGHOST": "h1,h2", "PGPORT": "5433", "PGUSER": "ada", "PGPASSWORD": "pw", "PGSSLMODE": "require"}
    for variable, value in (values | {"PGDATABASE": "app", "PGTARGETSESSIONATTRS": "primary"}).items():
        monkeypatch.setenv(variable, value)

    given = read_target("postgres://")
    overruled = read_target("postgres://bob@db:5432/theirs?sslmode=disable&target_session_attrs=any")

    assert described(given) == described(
        read_target("postgres://ada:pw@h1:5433,h2:5433/app?sslmode=require&target_session_attrs=primary")
    )
    assert (overruled.hosts, overruled.tls, overruled.sessions) == ((("db", 5432),), (None,), "any")
    assert (overruled.credentials["user"], overruled.credentials["database"]) == ("bob", "theirs")


NOTHING, ANY, ISSUED, NAMED = (
    None,
    (ssl.CERT_NONE, False),
    (ssl.CERT_REQUIRED, False),
    (ssl.CERT_REQUIRED, True),
)

TLS = {
    "": [ANY, NOTHING],
    "sslmode=disable": [NOTHING],
    "sslmode=allow": [NOTHING, ANY],
    "sslmode=prefer": [ANY, NOTHING],
    "sslmode=require": [ANY],
    "sslmode=verify-ca": [ISSUED],
    "sslmode=verify-full": [NAMED],
    "sslrootcert=system": [NAMED],
    "ssl=require": [ANY],
    "ssl=true": [ANY],
    "sslmode=require&channel_binding=require": [ANY],  # As Neon prints it.
    "channel_binding=require": [ANY],
    "channel_binding=require&sslmode=verify-full": [NAMED],
    "uselibpqcompat=true&sslmode=require": [ANY],
    "requiressl=1": [ANY],
    "sslmode=require&sslrootcert={root}": [ISSUED],
    "sslmode=verify-full&sslrootcert={root}&sslcrl={root}": [NAMED],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("authority") / "root.crt"
    trustme.CA().cert_pem.write_to_path(file)
    return file


@pytest.mark.parametrize(("query", "attempts"), TLS.items(), ids=TLS.keys())
def test_tls_is_what_the_url_asks_for(query: str, attempts: list[Any], root: Path) -> None:
    assert described(read_target(f"postgres://ada@db/app?{query.format(root=root)}"))["tls"] == attempts


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full", "prefer"])
def test_versions_of_tls_count_in_every_mode(mode: str) -> None:
    target = read_target(
        f"postgres://ada@db/app?sslmode={mode}&ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=tlsv1.3"
    )

    versions = [(context.minimum_version, context.maximum_version) for context in target.tls if context]
    assert versions == [(ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)]


def test_libpqs_own_file_of_authorities_is_trusted_alone(tmp_path: Path, root: Path) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").write_bytes(root.read_bytes())

    [context] = read_target("postgres://ada@db/app?sslmode=verify-full").tls

    assert context is not None
    assert len(context.get_ca_certs()) == 1


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of ours, its key, the same key under a password, and another key."""
    folder, authority = tmp_path_factory.mktemp("own"), trustme.CA()
    issued, other = authority.issue_cert("ada@example.org"), authority.issue_cert("bob@example.org")
    issued.cert_chain_pems[0].write_to_path(folder / "own.crt")
    issued.private_key_pem.write_to_path(folder / "own.key")
    other.private_key_pem.write_to_path(folder / "other.key")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    form, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = key.private_bytes(form, kind, serialization.BestAvailableEncryption(b"secret-word"))
    (folder / "locked.key").write_bytes(locked)
    return folder


KEYLESS = {
    "no key": "sslcert={own}/own.crt",
    "another key": "sslcert={own}/own.crt&sslkey={own}/other.key",
    "no password": "sslcert={own}/own.crt&sslkey={own}/locked.key",
    "another password": "sslcert={own}/own.crt&sslkey={own}/locked.key&sslpassword=other",
}


@pytest.mark.parametrize("query", KEYLESS.values(), ids=KEYLESS.keys())
def test_a_certificate_of_ours_that_lacks_its_key_is_refused_with_the_remedy(query: str, own: Path) -> None:
    remedy = f"name the key of {own}/own.crt with sslkey, and the key's password with sslpassword"
    with pytest.raises(ConfigurationError, match=f"^DATABASE_URL names .*: {remedy}$"):
        read_target(f"postgres://ada@db/app?{query.format(own=own)}")


def test_a_key_of_ours_may_have_a_password_and_a_missing_one_is_named(own: Path) -> None:
    url = f"postgres://ada@db/app?sslcert={own}/own.crt&sslpassword=secret-word&sslkey={own}"

    assert read_target(f"{url}/locked.key").tls
    with pytest.raises(ConfigurationError, match=f"sslkey, {own}/none: No such file"):
        read_target(f"{url}/none")


def test_a_file_of_passwords_must_be_private(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text("*:*:*:*:secret-word\n")
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_target(f"postgres://ada@db/app?passfile={file}")

    file.chmod(0o600)
    assert read_target(f"postgres://ada@db/app?passfile={file}").credentials["passfile"] == str(file)


PASSWORDS = {
    "latin-1": (b"*:*:*:*:secret-w\xf6rd\n", "is not UTF-8: save it again as UTF-8"),
    "a line without a password": (b"# host by host\n\ndb:*:app\n", "has no host:port:database:user:password in line 3"),
}


@pytest.mark.parametrize(("text", "why"), PASSWORDS.values(), ids=PASSWORDS.keys())
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "in the home"])
def test_a_file_of_passwords_that_the_driver_would_fail_at_is_refused(
    is_named: bool, text: bytes, why: str, tmp_path: Path
) -> None:
    file = tmp_path / ".pgpass"
    file.touch(mode=0o600)
    file.write_bytes(text)
    query = f"?passfile={file}" if is_named else ""
    source = "DATABASE_URL names a password file that" if is_named else "~/.pgpass"

    with pytest.raises(ConfigurationError, match=f"^{source} {why}"):
        read_target(f"postgres://ada@db/app{query}")
    assert read_target(f"postgres://ada:pw@db/app{query}").credentials["password"] == "pw"


def test_a_target_does_not_show_its_password() -> None:
    assert "secret-word" not in repr(read_target("postgres://ada:secret-word@db/app"))


@pytest.mark.parametrize(("url", "pooled"), NAMES_POOLER.values(), ids=NAMES_POOLER.keys())
def test_a_url_may_say_that_a_pooler_answers(url: str, pooled: bool) -> None:
    assert read_target(url).pooled is pooled
