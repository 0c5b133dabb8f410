"""A PostgreSQL server that a test may break."""

import secrets
from collections.abc import AsyncIterator

import pytest

from tests.support.database import USER_SESSIONS, migrate, run_sql
from tests.support.postgres import OwnServer, Server


@pytest.fixture(scope="session")
async def _prepared(tmp_path_factory: pytest.TempPathFactory) -> OwnServer:
    server = Server(tmp_path_factory.mktemp("own") / "postgres")
    token = secrets.token_hex(16)
    signed_in = (
        'INSERT INTO user_sessions (id, token, "userId", "expiresAt", "updatedAt")'
        f" VALUES ('1', '{token}', 'ada', now() + interval '1 hour', now())"
    )
    server.start()
    await run_sql(server.url, USER_SESSIONS, signed_in)
    migrate(server.url)
    server.stop()
    return OwnServer(server, {"Authorization": f"Bearer {token}"})


@pytest.fixture
async def own_server(_prepared: OwnServer) -> AsyncIterator[OwnServer]:
    """A server of the test's own, with PostgreSQL's default settings and no conversations."""
    _prepared.server.start()
    await run_sql(_prepared.server.url, "TRUNCATE conversations, messages, idempotency_keys")
    yield _prepared
    _prepared.server.stop()
