"""Whether the database has the schema that this release was written for."""

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.database.connection import read_first
from ai_agent.errors import NotMigrated

# Alembic's head. Kept here so that a running service needs neither Alembic nor its files; a test compares the two.
REQUIRED_REVISION = "0004"

_UNDEFINED_TABLE = "42P01"

_REVISION = text("SELECT version_num FROM alembic_version")


async def check(session: AsyncConnection) -> None:
    """Raise NotMigrated unless the database has REQUIRED_REVISION.

    It may be at a later one: between the migrations of the next release and its start, this one is still needed.
    """
    try:
        revision: str | None = await read_first(session, _REVISION, {})
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _UNDEFINED_TABLE:
            raise
        raise NotMigrated from error  # Alembic has never run here.
    if revision is None or not revision.isdecimal() or revision < REQUIRED_REVISION:
        raise NotMigrated
