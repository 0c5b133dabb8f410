"""TLS to the database is never weaker than DATABASE_URL asks for."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import trustme
from sqlalchemy import text

from ai_agent.database.connection import Connection
from ai_agent.database.pool import create_engine
from ai_agent.database.statements import Statement
from ai_agent.errors import DatabaseUnavailable
from ai_agent.local_postgres import run_postgres
from tests.support.app import client_of, make_settings, running
from tests.support.database import FAST, alembic

# The wheel's PostgreSQL is built without TLS, Debian's is built with it.
DEBIAN = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name))

# {root} is the authority that issued the server's certificate, which is for 127.0.0.1 and not for localhost.
ENCRYPTED = {
    "no mode": ("127.0.0.1", ""),
    "prefer": ("127.0.0.1", "sslmode=prefer"),
    "require": ("127.0.0.1", "sslmode=require"),
    "require, with the root": ("localhost", "sslmode=require&sslrootcert={root}"),
    "verify-ca": ("127.0.0.1", "sslmode=verify-ca&sslrootcert={root}"),
    "verify-ca, of another name": ("localhost", "sslmode=verify-ca&sslrootcert={root}"),
    "verify-full": ("127.0.0.1", "sslmode=verify-full&sslrootcert={root}"),
}
REFUSED = {
    "require, with another root": ("127.0.0.1", "sslmode=require&sslrootcert={other_root}"),
    "verify-ca, with another root": ("127.0.0.1", "sslmode=verify-ca&sslrootcert={other_root}"),
    "verify-full, with another root": ("127.0.0.1", "sslmode=verify-full&sslrootcert={other_root}"),
    "verify-full, with the system's roots": ("127.0.0.1", "sslmode=verify-full"),
    "verify-full, of another name": ("localhost", "sslmode=verify-full&sslrootcert={root}"),
}


class SecureServer(NamedTuple):
    url: str
    roots: dict[str, Path]

    def url_at(self, host: str, query: str) -> str:
        parts = urlsplit(self.url)
        netloc = parts.netloc.replace("@127.0.0.1:", f"@{host}:")
        return parts._replace(netloc=netloc, query=query.format(**self.roots)).geturl()


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServer]:
    if not DEBIAN:
        pytest.skip("Debian's PostgreSQL is not installed")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    (folder / "server.key").touch(mode=0o600)
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    authority.cert_pem.write_to_path(folder / "root.crt")
    trustme.CA().cert_pem.write_to_path(folder / "other_root.crt")
    files = (f"ssl_cert_file={folder}/server.crt", f"ssl_key_file={folder}/server.key")
    with ExitStack() as running_server:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("POSTGRES_BIN", str(DEBIAN[-1]))
            url = running_server.enter_context(run_postgres(folder / "postgres", *FAST, "ssl=on", *files))
        yield SecureServer(url, {"root": folder / "root.crt", "other_root": folder / "other_root.crt"})


@pytest.fixture(scope="module")
def plain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_postgres(tmp_path_factory.mktemp("plain") / "postgres", *FAST) as url:
        yield url


ENCRYPTION = Statement(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), bool)


async def is_encrypted(url: str) -> bool:
    """Whether the service's connection is; DatabaseUnavailable when it gets none."""
    engine = create_engine(make_settings(database_url=url))
    try:
        async with Connection(engine, 4) as connection:
            encrypted = await connection.fetch(ENCRYPTION)
    finally:
        await engine.dispose()
    assert encrypted is not None
    return encrypted


@pytest.mark.parametrize(("host", "query"), ENCRYPTED.values(), ids=ENCRYPTED.keys())
async def test_the_connection_is_encrypted(host: str, query: str, secure_server: SecureServer) -> None:
    assert await is_encrypted(secure_server.url_at(host, query))


@pytest.mark.parametrize(("host", "query"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_server_that_cannot_be_verified_is_refused(host: str, query: str, secure_server: SecureServer) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        await is_encrypted(secure_server.url_at(host, query))

    assert "CERTIFICATE_VERIFY_FAILED" in str(refusal.value.__cause__)


async def test_a_server_that_cannot_be_verified_is_a_503(secure_server: SecureServer) -> None:
    settings = make_settings(database_url=secure_server.url_at("localhost", "sslmode=verify-full"))

    async with running(settings) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (503, {"detail": DatabaseUnavailable.detail})


def test_the_migrations_verify_the_server_too(secure_server: SecureServer) -> None:
    verified = alembic(secure_server.url_at("127.0.0.1", "sslmode=verify-full&sslrootcert={root}"), "current")
    refused = alembic(secure_server.url_at("localhost", "sslmode=verify-full&sslrootcert={root}"), "current")

    assert (verified.returncode, refused.returncode) == (0, 255)
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stdout


async def test_disable_uses_no_tls(secure_server: SecureServer) -> None:
    assert not await is_encrypted(secure_server.url_at("127.0.0.1", "sslmode=disable"))


@pytest.mark.parametrize("mode", ["allow", "prefer"])
async def test_only_the_modes_that_ask_for_no_more_do_without_tls(mode: str, plain_url: str) -> None:
    assert not await is_encrypted(f"{plain_url}?sslmode={mode}")


@pytest.mark.parametrize("query", ["sslmode=require", "sslmode=verify-full", "channel_binding=require", "ssl=true"])
async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(query: str, plain_url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        await is_encrypted(f"{plain_url}?{query}")

    assert "rejected SSL upgrade" in str(refusal.value.__cause__)
