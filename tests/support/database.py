"""Preparing a database, better-auth's table and our migrations, and looking at it afterwards."""

import asyncio
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import asyncpg

from tests.support import operations

PROJECT = Path(__file__).parents[2]

# What better-auth's own migration makes, without the foreign key to its table of users.
USER_SESSIONS = """
    CREATE TABLE user_sessions (
        id text PRIMARY KEY,
        "expiresAt" timestamptz NOT NULL,
        token text NOT NULL UNIQUE,
        "createdAt" timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "updatedAt" timestamptz NOT NULL,
        "ipAddress" text,
        "userAgent" text,
        "userId" text NOT NULL
    )
"""

# The role with its privileges, as the page for operators makes it.
GRANTS = tuple(
    statement.replace(operations.ROLE, "{role}").replace("change me", "app")
    for statement in operations.statements("### The role")
)

# A test's server may forget everything when the machine loses power.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")

# The statements in this database that wait for another transaction to end. They are found in pg_locks, because a
# transaction sees pg_stat_activity as it was at its first look. The lock for which they wait names no database, but
# their locks on tables do.
WAITING = """
    FROM pg_locks
    WHERE NOT granted AND pid IN (
        SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE datname = current_database()
    )
"""


async def run_sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real command, in its own process, against a database."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def migrate(url: str) -> None:
    migrated = alembic(url, "upgrade", "head")
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr


async def count_messages(database: asyncpg.Connection) -> int:
    count: int = await database.fetchval("SELECT count(*) FROM messages")
    return count


async def stored_questions(database: asyncpg.Connection) -> dict[int, list[str]]:
    """The questions of each conversation in order, after a check that every turn is whole and in order."""
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
    """Wait until this number of statements in the database wait for another transaction to end."""
    await until(database, f"SELECT count(*) >= {statements} {WAITING}")


async def until_the_service_is_gone(database: asyncpg.Connection, name: str = "ai-agent") -> None:
    """Wait until no connection with this application name is left in the database."""
    mine = f"datname = current_database() AND application_name = '{name}'"
    await until(database, f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {mine}")


async def until(database: asyncpg.Connection, question: str) -> None:
    async with asyncio.timeout(60):
        while not await database.fetchval(question):  # noqa: ASYNC110  # The event is in another process.
            await asyncio.sleep(0.01)  # The question must not slow down what it waits for.
