"""A PostgreSQL server that a test may break, and what holds of the database whatever was broken."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from itertools import groupby
from typing import NamedTuple

import asyncpg
import pytest

from tests.conftest import USER_SESSIONS, Headers, migrate, run_sql
from tests.postgres import Server

# The statements in this database that wait for another transaction to end; a transaction sees pg_stat_activity only as
# it was at its first look. A lock on a transaction belongs to no database, but who waits has locks on tables too.
WAITING = """
    FROM pg_locks
    WHERE NOT granted AND pid IN (
        SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE datname = current_database()
    )
"""


class OwnServer(NamedTuple):
    """A running server with a migrated database, and the header of a user who is signed in there."""

    server: Server
    headers: Headers


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


async def stored_questions(database: asyncpg.Connection) -> dict[int, list[str]]:
    """The questions of each conversation in their order, once it is sure that all turns are whole and in order."""
    rows = await database.fetch("SELECT * FROM messages ORDER BY conversation_id, id")
    conversations = {key: list(messages) for key, messages in groupby(rows, lambda row: row["conversation_id"])}
    assert [row["id"] for row in await database.fetch("SELECT id FROM conversations ORDER BY id")] == [*conversations]
    for messages in conversations.values():
        questions, answers = messages[::2], messages[1::2]
        assert {row["role"] for row in questions} == {"user"}
        assert {row["role"] for row in answers} == {"assistant"}
        assert [row["content"] for row in answers] == [f"Echo: {row['content']}" for row in questions]
        times = [row["created_at"] for row in messages]
        assert times == sorted(times)
    return {key: [row["content"] for row in messages[::2]] for key, messages in conversations.items()}


async def until_waiting_for_locks(database: asyncpg.Connection, statements: int = 1) -> None:
    """Wait until so many statements in this database wait for another transaction to end."""
    await until(database, f"SELECT count(*) >= {statements} {WAITING}")


async def until_the_service_is_gone(database: asyncpg.Connection, name: str = "ai-agent") -> None:
    """Wait until no connection with this application name is left in the database."""
    mine = f"datname = current_database() AND application_name = '{name}'"
    await until(database, f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {mine}")


async def until(database: asyncpg.Connection, question: str) -> None:
    async with asyncio.timeout(10):
        while not await database.fetchval(question):  # noqa: ASYNC110  # The event is in another process.
            await asyncio.sleep(0.01)
