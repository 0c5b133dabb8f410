import asyncio
import secrets
from functools import partial
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.support.app import client_of, make_settings, running
from tests.support.database import PROJECT, USER_SESSIONS, alembic, run_sql, until
from tests.support.types import AppRole, NewDatabase

COLUMNS = """
    SELECT column_name, data_type, character_maximum_length, is_nullable, is_identity
    FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position
"""
INDEXES = "SELECT regexp_replace(indexdef, '.* USING ', '') FROM pg_indexes WHERE tablename = $1 ORDER BY 1"


async def describe(connection: asyncpg.Connection, table: str) -> tuple[list[tuple[object, ...]], list[str]]:
    columns = [tuple(row) for row in await connection.fetch(COLUMNS, table)]
    return columns, [row[0] for row in await connection.fetch(INDEXES, table)]


@pytest.fixture(scope="module")
async def database_of_0004(new_database: NewDatabase) -> NewDatabase:
    """Make a database with the schema of version 0.1, and return its URL."""
    url = await new_database()
    assert alembic(url, "upgrade", "0004").returncode == 0
    return partial(new_database, template=urlsplit(url).path[1:])


async def test_better_auths_tables_survive_every_migration_and_are_invisible_to_autogenerate(
    new_database: NewDatabase,
) -> None:
    url = await new_database(USER_SESSIONS, 'CREATE TABLE "user" (id text PRIMARY KEY)')
    connection = await asyncpg.connect(url)
    before = await describe(connection, "user_sessions")

    for arguments in (["upgrade", "head"], ["check"], ["downgrade", "base"], ["upgrade", "head"]):
        ended = alembic(url, *arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    assert await describe(connection, "user_sessions") == before
    await connection.close()


async def test_downgrading_to_base_leaves_nothing_of_ours(new_database: NewDatabase) -> None:
    url = await new_database(USER_SESSIONS)
    alembic(url, "upgrade", "head")

    alembic(url, "downgrade", "base")

    connection = await asyncpg.connect(url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    await connection.close()
    assert [row[0] for row in tables] == ["ai_agent_alembic_version", "user_sessions"]


async def test_whoever_may_store_messages_may_still_do_so_after_an_upgrade(new_database: NewDatabase) -> None:
    url = await new_database()
    alembic(url, "upgrade", "0003")
    connection = await asyncpg.connect(url)
    role = f'App "{secrets.token_hex(4)}"'
    quoted = '"' + role.replace('"', '""') + '"'
    await connection.execute(f"CREATE ROLE {quoted}; GRANT INSERT ON messages TO {quoted}")
    await connection.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")

    ended = alembic(url, "upgrade", "head")

    may = await connection.fetchval(
        "SELECT has_sequence_privilege($1, 'messages_id_seq', 'USAGE')"
        " AND has_function_privilege($1, 'store_turn_1(text, bigint, text, json, text, bytea)', 'EXECUTE')",
        role,
    )
    await connection.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")
    await connection.close()
    assert (ended.returncode, may) == (0, True)


OF_0004 = """
    INSERT INTO conversations (id, user_id, title) VALUES (7, 'ada', 'Old'), (8, 'bob', 'Other');
    INSERT INTO messages (id, conversation_id, role, content, metadata, created_at)
    SELECT id, 7 + id / 15, CASE WHEN id % 2 = 1 THEN 'user' ELSE 'assistant' END, 'text ' || id, '{"n": 1}',
        timestamptz '2026-11-22Z' + (id + 1) / 2 * interval '1 second'
    FROM generate_series(11, 16) AS id;
    INSERT INTO idempotency_keys (user_id, key, fingerprint, conversation_id, message_id, created_at)
    VALUES
        ('ada', 'by its time', 'a', 7, NULL, '2026-11-22 00:00:06Z'),
        ('ada', 'by its message', 'b', 7, 13, '2026-11-20Z'),
        ('bob', 'of a message of an older turn', 'c', 8, 11, '2026-11-22 00:00:08Z'),
        ('bob', 'of messages that are gone', 'd', 8, 1, '2026-11-20Z');
"""
STORED = "SELECT * FROM {} ORDER BY 1, 2"


async def test_an_upgrade_and_a_downgrade_keep_every_conversation_message_and_key(
    database_of_0004: NewDatabase,
) -> None:
    url = await database_of_0004()
    connection = await asyncpg.connect(url)
    await connection.execute(OF_0004)
    tables = ("conversations", "messages")
    before = {table: await connection.fetch(STORED.format(table)) for table in tables}

    upgraded = alembic(url, "upgrade", "head")

    owners = {row["user_id"]: row["ids"] for row in await connection.fetch(OWNERS)}
    keys = [tuple(row) for row in await connection.fetch(KEYS)]
    downgraded = alembic(url, "downgrade", "0004")
    after = {table: await connection.fetch(STORED.format(table)) for table in tables}
    await connection.close()
    assert (upgraded.returncode, downgraded.returncode) == (0, 0)
    assert owners == {"ada": [11, 12, 13, 14], "bob": [15, 16]}
    assert keys == [
        ("by its message", 7, 13, 14),
        ("by its time", 7, 11, 12),
        ("of a message of an older turn", 8, 15, 16),
    ]
    assert after == before


OWNERS = "SELECT user_id, array_agg(id ORDER BY id) AS ids FROM messages GROUP BY user_id"
KEYS = "SELECT key, conversation_id, first_message_id, last_message_id FROM idempotency_keys ORDER BY key"


async def test_another_programs_alembic_and_ours_share_a_database(new_database: NewDatabase) -> None:
    url = await new_database(
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('4f1c2a9be001')",
        "CREATE TABLE documents (id int PRIMARY KEY)",
    )

    ended = [alembic(url, *arguments) for arguments in (["upgrade", "head"], ["check"], ["downgrade", "base"])]

    connection = await asyncpg.connect(url)
    theirs = await connection.fetchval("SELECT array_agg(version_num) FROM alembic_version")
    tables = await connection.fetchval(
        "SELECT array_agg(tablename ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'"
    )
    await connection.close()
    assert [process.returncode for process in ended] == [0, 0, 0], ended
    assert theirs == ["4f1c2a9be001"]
    assert tables == ["ai_agent_alembic_version", "alembic_version", "documents"]


WHERE_0_1_HAS_IT = """
    CREATE TABLE alembic_version (version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY);
    INSERT INTO alembic_version SELECT version_num FROM ai_agent_alembic_version;
    DROP TABLE ai_agent_alembic_version;
"""


@pytest.mark.parametrize("others", [[], ["4f1c2a9be001"]], ids=["alone", "beside another program's"])
async def test_the_revision_of_version_0_1_moves_into_a_table_of_our_own(
    others: list[str], database_of_0004: NewDatabase
) -> None:
    url = await database_of_0004()
    connection = await asyncpg.connect(url)
    await connection.execute(WHERE_0_1_HAS_IT)
    await connection.executemany("INSERT INTO alembic_version VALUES ($1)", [(other,) for other in others])
    await connection.execute("INSERT INTO conversations (id, user_id) VALUES (7, 'ada')")

    upgraded = alembic(url, "upgrade", "head")

    ours = await connection.fetchval("SELECT version_num FROM ai_agent_alembic_version")
    theirs = await connection.fetch("SELECT version_num FROM alembic_version")
    kept = await connection.fetchval("SELECT id FROM conversations")
    await connection.close()
    assert upgraded.returncode == 0, upgraded.stderr
    assert ours == ScriptDirectory.from_config(Config(PROJECT / "alembic.ini")).get_current_head()
    assert [row["version_num"] for row in theirs] == others
    assert kept == 7


def test_a_failure_to_migrate_is_one_sentence_without_the_password() -> None:
    ended = alembic("postgresql://ada:secret-word@127.0.0.1:1/none", "upgrade", "head")

    assert ended.returncode != 0
    assert "The database that DATABASE_URL names cannot be migrated: " in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret-word" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("table", ["conversations", "messages", "idempotency_keys"])
async def test_another_programs_table_of_the_same_name_is_left_alone_and_the_way_out_is_said(
    table: str, new_database: NewDatabase
) -> None:
    url = await new_database(USER_SESSIONS, f"CREATE TABLE {table} (id int)", f"INSERT INTO {table} VALUES (7)")
    refused = alembic(url, "upgrade", "head")
    await run_sql(url, "CREATE SCHEMA chat", "INSERT INTO user_sessions VALUES " + SIGNED_IN)
    url += "?search_path=chat,public"
    ended = [alembic(url, *arguments) for arguments in (["upgrade", "head"], ["check"])]

    headers = {"Authorization": "Bearer some-token"}
    async with running(make_settings(database_url=url)) as app, client_of(app, headers=headers) as client:
        sent = await client.post("/api/chat", json={"message": "Hello"})

    connection = await asyncpg.connect(url.partition("?")[0])
    theirs = await connection.fetch(f"SELECT * FROM public.{table}")
    await connection.close()
    assert refused.returncode != 0
    assert (
        f'relation "{table}" already exists; if that is another program\'s, give the service'
        in refused.stdout + refused.stderr
    )
    assert "Traceback" not in refused.stderr
    assert [process.returncode for process in ended] == [0, 0], ended
    assert (sent.status_code, [row["id"] for row in theirs]) == (200, [7])


SIGNED_IN = "('1', 'infinity', 'some-token', now(), now(), '', '', 'ada')"


async def test_a_schema_that_is_not_there_is_one_sentence_with_the_way_out(new_database: NewDatabase) -> None:
    ended = alembic(await new_database() + "?schema=chat", "upgrade", "head")

    assert ended.returncode != 0
    assert "no schema has been selected to create in; CREATE SCHEMA first" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_role_that_may_make_no_tables_is_one_sentence_with_the_way_out(
    database_of_0004: NewDatabase, app_role: AppRole
) -> None:
    url = await database_of_0004(USER_SESSIONS)
    await run_sql(url, "DROP TABLE ai_agent_alembic_version", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    ended = alembic(await app_role(url), "upgrade", "head")

    assert ended.returncode != 0
    assert (
        "permission denied for schema public; migrate as the owner of the database, or GRANT"
        in ended.stdout + ended.stderr
    )
    assert "Traceback" not in ended.stderr


WAITS_LONGER = """
    SELECT count(*) = 1 FROM pg_locks
    WHERE locktype = 'advisory' AND NOT granted AND clock_timestamp() - waitstart > interval '0.5 seconds'
"""


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout"])
async def test_a_migration_waits_for_another_one_whatever_time_outs_the_database_has(
    name: str, new_database: NewDatabase
) -> None:
    url = await new_database()
    await run_sql(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET {name} = '300ms'")
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(720261122)")
        upgrade = asyncio.create_task(asyncio.to_thread(alembic, url, "upgrade", "head"))
        await until(other, WAITS_LONGER)
    ended = await upgrade
    await other.close()

    assert ended.returncode == 0, ended.stdout + ended.stderr


async def test_a_locked_table_and_a_read_only_server_are_one_sentence_with_the_way_out(
    database_of_0004: NewDatabase,
) -> None:
    url = await database_of_0004()
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("LOCK TABLE messages")
        locked = await asyncio.to_thread(alembic, url, "upgrade", "head")
    await other.execute(f"ALTER DATABASE {urlsplit(url).path[1:]} SET default_transaction_read_only = on")
    await other.close()
    only_reads = await asyncio.to_thread(alembic, url, "upgrade", "head")

    assert [process.returncode for process in (locked, only_reads)] == [255, 255]
    assert (
        "lock timeout; another transaction has locked a table, and nothing was changed: try again"
        in locked.stdout + locked.stderr
    )
    assert "in a read-only transaction; name the primary in DATABASE_URL" in only_reads.stdout + only_reads.stderr


@pytest.mark.parametrize("arguments", [["upgrade", "head"], ["downgrade", "base"], ["current"], ["check"]])
async def test_the_migration_of_a_newer_release_is_one_sentence_with_the_way_back(
    arguments: list[str], migrated_database: NewDatabase
) -> None:
    url = await migrated_database("UPDATE ai_agent_alembic_version SET version_num = '0099'")

    ended = alembic(url, *arguments)

    connection = await asyncpg.connect(url)
    revision = await connection.fetchval("SELECT version_num FROM ai_agent_alembic_version")
    await connection.close()
    assert (ended.returncode != 0, revision) == (True, "0099")
    assert (
        "The database is at migration 0099, which only a newer release has. If that is the release after this one, this"
        " one serves the database as it is: run ai-agent-serve without migrating, and ask /health/ready."
    ) in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_migration_that_no_release_has_is_still_named_and_a_stamp_mends_the_revision(
    migrated_database: NewDatabase,
) -> None:
    url = await migrated_database()

    unknown = alembic(url, "upgrade", "0099")
    await run_sql(url, "UPDATE ai_agent_alembic_version SET version_num = '0099'")
    stamped = alembic(url, "stamp", "--purge", "head")
    upgraded = alembic(url, "upgrade", "head")

    assert unknown.returncode != 0
    assert "Can't locate revision identified by '0099'" in unknown.stdout + unknown.stderr
    assert [process.returncode for process in (stamped, upgraded)] == [0, 0]
