"""A PostgreSQL server that a test may break."""

from collections.abc import AsyncIterator

import pytest

from tests.support.database import USER_SESSIONS, migrate, run_sql
from tests.support.postgres import OwnServer, Server
from tests.support.rows import seed, user_session


@pytest.fixture(scope="session")
async def _prepared(tmp_path_factory: pytest.TempPathFactory) -> OwnServer:
    server = Server(tmp_path_factory.mktemp("own") / "postgres")
    server.start()
    await seed(server.url, USER_SESSIONS, user_session("ada", "token"))
    migrate(server.url)
    server.stop()
    return OwnServer(server, {"Authorization": "Bearer token"})


@pytest.fixture
async def own_server(_prepared: OwnServer) -> AsyncIterator[OwnServer]:
    """A server of the test's own, with PostgreSQL's default settings and no conversations."""
    _prepared.server.start()
    await run_sql(_prepared.server.url, "TRUNCATE conversations, messages, idempotency_keys")
    yield _prepared
    _prepared.server.stop()
