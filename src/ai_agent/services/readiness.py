"""Whether the database has the schema that this release was written for."""

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.database.connection import read_first
from ai_agent.errors import NotMigrated

# Alembic's head. Kept here so that a running service needs neither Alembic nor its files; a test compares the two.
REQUIRED_REVISION = "0003"

_REVISION = text("SELECT version_num FROM alembic_version")


async def check(session: AsyncConnection) -> None:
    """Raise NotMigrated unless the database is at REQUIRED_REVISION."""
    try:
        revision = await read_first(session, _REVISION, {})
    except ProgrammingError as error:  # Alembic has never run here.
        raise NotMigrated from error
    if revision != REQUIRED_REVISION:
        raise NotMigrated
