"""Runs the migrations, with the service's DATABASE_URL and its TLS."""

import asyncio
import logging
from collections.abc import Iterable

from alembic import context
from alembic.command import revision
from alembic.migration import MigrationContext
from alembic.operations import MigrationScript
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

from ai_agent.config import load_settings
from ai_agent.database import models  # noqa: F401  # Importing it fills the metadata.
from ai_agent.database.hosts import Connector
from ai_agent.database.target import read_target
from ai_agent.errors import ConfigurationError

# Any number will do, if all replicas that start at the same time use the same one.
MIGRATION_LOCK = 7_202_611_22

CONNECT_TIMEOUT = 10  # Seconds.

# A table of our own, because other programs that share the database keep their revisions in Alembic's default one.
VERSION_TABLE = "ai_agent_alembic_version"

# By SQLSTATE, the remedy for an error whose own text names none.
MAKE_ROOM = (
    "; if that is another program's, give the service a schema of its own: CREATE SCHEMA chat,"
    " and add search_path=chat,public to the query of DATABASE_URL"
)
REMEDIES = {
    **dict.fromkeys(("42P07", "42710", "42723"), MAKE_ROOM),
    "25006": (
        "; name the primary in DATABASE_URL, or if default_transaction_read_only is on, RESET it with ALTER ROLE or"
        " ALTER DATABASE"
    ),
    "3F000": "; CREATE SCHEMA first, with the name that DATABASE_URL or the role's search_path gives",
    "42501": "; migrate as the owner of the database, or GRANT CREATE ON SCHEMA public to this role",
    "55P03": "; another transaction has locked a table, and nothing was changed: try again once it has ended",
}

NEWER_RELEASE = (
    "The database is at migration {revisions}, which only a newer release has. If that is the release after this one,"
    " this one serves the database as it is: run ai-agent-serve without migrating, and ask /health/ready."
)

# The role's own limits are meant for requests, and would end even the wait for another migration.
LIFT_TIMEOUTS = """
    SELECT set_config(name, '0', true)
    FROM pg_settings
    WHERE name IN (
        'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'
    )
"""

# Version 0.1 kept its revision in the default table. The index shows that this revision is ours.
TAKE_REVISION_OVER = """
    DO $$
    BEGIN
        IF to_regclass('ai_agent_alembic_version') IS NULL
            AND to_regclass('alembic_version') IS NOT NULL
            AND to_regclass('ix_conversations_user_id_updated_at_id') IS NOT NULL
        THEN
            CREATE TABLE ai_agent_alembic_version (
                version_num varchar(32) NOT NULL,
                CONSTRAINT ai_agent_alembic_version_pkc PRIMARY KEY (version_num)
            );
            WITH ours AS (
                DELETE FROM alembic_version WHERE version_num IN ('0001', '0002', '0003', '0004') RETURNING version_num
            )
            INSERT INTO ai_agent_alembic_version SELECT version_num FROM ours;
        END IF;
    END
    $$
"""


def ours(name: str | None, kind: str, parents: object) -> bool:
    """Whether autogenerate looks at this table: only at our own, and neither at better-auth's nor at anybody else's."""
    return kind != "table" or name in SQLModel.metadata.tables


def number(_: MigrationContext, __: str | Iterable[str | None] | Iterable[str], scripts: list[MigrationScript]) -> None:
    """Give a new migration the number after the newest one, unless `--rev-id` gives it another."""
    asked = getattr(context.config.cmd_opts, "rev_id", None)  # `alembic check` has no such option.
    head = ScriptDirectory.from_config(context.config).get_current_head() or "0"
    for script in scripts:
        script.rev_id = asked or f"{int(head) + 1:04}"


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        include_name=ours,
        version_table=VERSION_TABLE,
        process_revision_directives=number,
    )
    with context.begin_transaction():
        connection.execute(text(LIFT_TIMEOUTS))
        # The lock is the transaction's, because poolers in transaction mode grant a session's lock to two at once.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        # A migration gives up when it cannot lock its table soon, before requests pile up behind it.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        connection.execute(text(TAKE_REVISION_OVER))
        try:
            context.run_migrations()
        except CommandError as error:
            refuse_newer_revision(error)
            raise


def refuse_newer_revision(error: CommandError) -> None:
    """Say what to do after a newer release has migrated the database; Alembic itself only cannot find its revision."""
    known = {script.revision for script in ScriptDirectory.from_config(context.config).walk_revisions()}
    unknown = set(context.get_context().get_current_heads()) - known
    if unknown:
        raise CommandError(NEWER_RELEASE.format(revisions=", ".join(sorted(unknown)))) from error


async def migrate_online(database_url: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=Connector(read_target(database_url), CONNECT_TIMEOUT, for_migrations=True).connect,
        isolation_level="READ COMMITTED",  # The role's default may differ, and a pooler takes no setting for it.
        poolclass=NullPool,
        hide_parameters=True,
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    except (OSError, TimeoutError, DBAPIError) as error:
        cause = getattr(error, "orig", None) or error
        text = str(cause) or f"no answer within {CONNECT_TIMEOUT} seconds"
        remedy = REMEDIES.get(getattr(cause, "sqlstate", ""), "")
        raise CommandError(f"The database that DATABASE_URL names cannot be migrated: {text}{remedy}") from error
    finally:
        await engine.dispose()


def say_what_is_run() -> None:
    console = logging.StreamHandler()
    console.addFilter(lambda record: record.getMessage().startswith("Running"))
    logger = logging.getLogger("alembic.runtime.migration")
    logger.addHandler(console)
    logger.setLevel(logging.INFO)


if context.config.cmd_opts is not None:  # A program that runs migrations logs as it likes.
    say_what_is_run()


def writes_an_empty_file() -> bool:
    """Whether the command is `alembic revision` without `--autogenerate`, which needs no database."""
    options = context.config.cmd_opts
    return options is not None and options.cmd[0] is revision and not options.autogenerate


if writes_an_empty_file():
    context.configure(dialect_name="postgresql", process_revision_directives=number, as_sql=True)
    context.run_migrations()
elif context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        target_metadata=SQLModel.metadata,
        literal_binds=True,
        version_table=VERSION_TABLE,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    try:
        asyncio.run(migrate_online(load_settings().database_url.get_secret_value()))
    except ConfigurationError as error:
        raise CommandError(str(error)) from None
