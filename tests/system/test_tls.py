"""TLS to the database is never weaker than DATABASE_URL asks for."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from ai_agent.database.connection import Connection
from ai_agent.database.pool import create_engine
from ai_agent.database.statements import Statement
from ai_agent.errors import DatabaseUnavailable
from ai_agent.local.postgres import run_postgres
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
    "the newest version": ("127.0.0.1", "sslmode=require&ssl_min_protocol_version=TLSv1.3"),
    "nothing revoked": ("127.0.0.1", "sslmode=verify-full&sslrootcert={root}&sslcrl={none_revoked}"),
    "nothing revoked, as a folder": ("127.0.0.1", "sslmode=verify-ca&sslrootcert={root}&sslcrldir={folder}"),
}
REFUSED = {
    "require, with another root": ("127.0.0.1", "sslmode=require&sslrootcert={other_root}"),
    "verify-ca, with another root": ("127.0.0.1", "sslmode=verify-ca&sslrootcert={other_root}"),
    "verify-full, with another root": ("127.0.0.1", "sslmode=verify-full&sslrootcert={other_root}"),
    "verify-full, with the system's roots": ("127.0.0.1", "sslmode=verify-full"),
    "verify-full, of another name": ("localhost", "sslmode=verify-full&sslrootcert={root}"),
    "verify-full, beside ssl=true": ("localhost", "ssl=true&sslmode=verify-full&sslrootcert={root}"),
    "verify-full, beside ssl=false": ("localhost", "sslmode=verify-full&ssl=false&sslrootcert={root}"),
    "verify-ca, beside ssl=allow": ("127.0.0.1", "sslmode=verify-ca&ssl=allow&sslrootcert={other_root}"),
    "verify-full, revoked": ("127.0.0.1", "sslmode=verify-full&sslrootcert={root}&sslcrl={revoked}"),
    "verify-ca, revoked": ("127.0.0.1", "sslmode=verify-ca&sslrootcert={root}&sslcrl={revoked}"),
    "require, revoked": ("127.0.0.1", "sslmode=require&sslrootcert={root}&sslcrl={revoked}"),
    "verify-full, without the root's list": ("127.0.0.1", "sslmode=verify-full&sslrootcert={root}&sslcrl={root}"),
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
    authority.cert_pem.write_to_path(folder / "root.crt")
    trustme.CA().cert_pem.write_to_path(folder / "other_root.crt")
    server = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
    revoke(authority, folder / "revoked.crl", server.serial_number)
    revoke(authority, folder / "none.crl")
    (folder / "lists").mkdir()
    revoke(authority, folder / "lists" / f"{name_hash(folder / 'root.crt')}.r0")
    with ExitStack() as running_server:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("POSTGRES_BIN", str(DEBIAN[-1]))
            with run_postgres(folder / "postgres", *FAST):
                data = folder / "postgres/data"  # Where the server may read them, and looks for them by itself.
            (data / "server.key").touch(mode=0o600)
            certificate.private_key_pem.write_to_path(data / "server.key")
            certificate.cert_chain_pems[0].write_to_path(data / "server.crt")
            for file in data.glob("server.*"):
                os.chown(file, data.stat().st_uid, -1)
            url = running_server.enter_context(run_postgres(folder / "postgres", *FAST, "ssl=on"))
        files = {
            "root": "root.crt",
            "other_root": "other_root.crt",
            "revoked": "revoked.crl",
            "none_revoked": "none.crl",
        }
        yield SecureServer(url, {name: folder / file for name, file in {**files, "folder": "lists"}.items()})


def revoke(authority: trustme.CA, file: Path, *serial_numbers: int) -> None:
    """Write the list of certificates that the authority has revoked."""
    now = datetime.now(UTC)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    entries = (x509.RevokedCertificateBuilder(number, now) for number in serial_numbers)
    builder = x509.CertificateRevocationListBuilder(issuer, now, now + timedelta(days=1), [], [])
    for entry in entries:
        builder = builder.add_revoked_certificate(entry.build())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def name_hash(certificate: Path) -> str:
    """The name under which OpenSSL looks for an authority's lists in a folder."""
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(certificate)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


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
