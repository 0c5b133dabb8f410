"""The tests of this folder are those of the modules that they import, in a database whose tables are split by user."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.database import USER_SESSIONS
from tests.support.partitions import PARTITION
from tests.support.types import NewDatabase


@pytest.fixture(scope="session")
async def database_url(migrated_database: NewDatabase) -> str:
    return await migrated_database(USER_SESSIONS, PARTITION)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own to empty tables; TRUNCATE would replace the files of 48 partitions each time."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM conversations; DELETE FROM idempotency_keys; DELETE FROM user_sessions")
    yield connection
    await connection.close()
