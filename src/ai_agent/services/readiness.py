"""Whether the database has the schema that this release was written for."""

import asyncpg
from sqlalchemy import text

from ai_agent.database.connection import Connection
from ai_agent.database.statements import Statement
from ai_agent.errors import NotMigrated

# Alembic's head. Kept here so that a running service needs neither Alembic nor its files; a test compares the two.
REQUIRED_REVISION = "0005"

_REVISION = Statement(text("SELECT version_num FROM alembic_version"), str)


async def check(connection: Connection) -> None:
    """Raise NotMigrated unless the database has REQUIRED_REVISION.

    It may be at a later one: between the migrations of the next release and its start, this one is still needed.
    """
    try:
        revision = await connection.fetch_first(_REVISION)
    except asyncpg.UndefinedTableError as error:
        raise NotMigrated from error  # Alembic has never run here.
    if revision is None or not revision.isdecimal() or revision < REQUIRED_REVISION:
        raise NotMigrated
