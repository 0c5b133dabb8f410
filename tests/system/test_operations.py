"""What the page for operators says is done here: its SQL and its commands."""

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
import pytest

from ai_agent.database.models import Conversation, IdempotencyKey, Message
from ai_agent.local.programs import find_postgres
from tests.support import operations
from tests.support.database import USER_SESSIONS, migrate, run_sql, until_waiting_for_locks
from tests.support.middlemen import run_pgbouncer
from tests.support.partitions import DROP_COPY, PARTITION
from tests.support.rows import add, user_session
from tests.support.types import AppRole, Headers, NewDatabase, SignIn, StartService

PROJECT = Path(__file__).parents[2]

ROWS = """
    SELECT json_build_array(
        (SELECT json_agg(conversations ORDER BY id) FROM conversations),
        (SELECT json_agg(messages ORDER BY id) FROM messages),
        (SELECT json_agg(idempotency_keys ORDER BY key) FROM idempotency_keys),
        (SELECT json_agg(ai_agent_alembic_version) FROM ai_agent_alembic_version)
    )::text
"""


async def send(url: str, headers: Headers, message: str, **more: object) -> int:
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        key = {"Idempotency-Key": quote(message)}
        response = await client.post("/api/chat", json={"message": message, **more}, headers=key)
    assert response.status_code == 200, response.text
    id_: int = response.json()["conversation_id"]
    return id_


async def readiness(url: str) -> int:
    async with httpx.AsyncClient(base_url=url) as client:
        return (await client.get("/health/ready")).status_code


async def test_the_role_is_all_that_the_service_needs(
    database_url: str, app_role: AppRole, start_service: StartService, sign_in: SignIn
) -> None:
    headers = await sign_in()
    service = start_service(DATABASE_URL=await app_role(database_url))

    await send(service.url, headers, "Hello")

    assert await readiness(service.url) == 200


async def test_the_function_is_granted_where_it_is_not_for_everybody(
    migrated_database: NewDatabase, app_role: AppRole, start_service: StartService
) -> None:
    url = await migrated_database(USER_SESSIONS, "REVOKE EXECUTE ON FUNCTION store_turn_1 FROM PUBLIC")
    role_url = await app_role(url)
    service = start_service(DATABASE_URL=role_url)
    before = await readiness(service.url)
    [grant] = operations.statements("Where PUBLIC may not execute new functions")

    await run_sql(url, grant.replace(operations.ROLE, urlsplit(role_url).username or ""))

    assert [before, await readiness(service.url)] == [503, 200]


async def test_a_poolers_role_has_the_settings_and_the_service_works_with_them(
    database_url: str, app_role: AppRole, start_service: StartService, sign_in: SignIn, tmp_path: Path
) -> None:
    headers, role_url = await sign_in(), await app_role(database_url)
    role = urlsplit(role_url).username or ""
    settings = [one.replace(operations.ROLE, role) for one in operations.statements("### Behind a pooler")]
    await run_sql(database_url, *settings)

    with run_pgbouncer(tmp_path, role_url, operations.block("ini", "Take PgBouncer")) as pooled_url:
        connection = await asyncpg.connect(pooled_url, statement_cache_size=0)
        shown = {one.split()[4]: await connection.fetchval(f"SHOW {one.split()[4]}") for one in settings}
        await connection.close()
        await send(start_service(DATABASE_URL=pooled_url).url, headers, "Hello")

    assert shown == {
        "default_transaction_isolation": "read committed",
        "default_transaction_deferrable": "off",
        "statement_timeout": "4s",
        "idle_in_transaction_session_timeout": "4s",
        "lock_timeout": "0",
        "row_security": "off",
        "synchronous_commit": "on",
        "timezone": "UTC",
    }


async def test_retention_deletes_what_was_not_used_for_a_year(database: asyncpg.Connection) -> None:
    for title, begun, used in (("old", 1100, 400), ("old and used", 1100, 330), ("new", 0, 0)):
        created_at, updated_at = (datetime.now(UTC) - timedelta(days=days) for days in (begun, used))
        conversation = Conversation(user_id="ada", title=title, created_at=created_at, updated_at=updated_at)
        [id_] = await add(database, conversation)
        await add(database, Message(conversation_id=id_, user_id="ada", role="user", content=title))
    [statement] = operations.statements("**Retention by last use.**")

    deleted = [await database.execute(statement), await database.execute(statement)]

    assert deleted == ["DELETE 1", "DELETE 0"]
    kept = await database.fetch("SELECT content FROM messages ORDER BY content")
    assert [row["content"] for row in kept] == ["new", "old and used"]


async def test_retention_keeps_what_is_used_while_it_waits(database: asyncpg.Connection, database_url: str) -> None:
    epoch = datetime.fromtimestamp(0, UTC)
    await add(database, Conversation(user_id="ada", created_at=epoch, updated_at=epoch))
    [statement] = operations.statements("**Retention by last use.**")
    user = await asyncpg.connect(database_url)

    async with user.transaction():
        await user.execute("UPDATE conversations SET updated_at = now()")
        deleting = asyncio.create_task(database.execute(statement))
        await until_waiting_for_locks(user)
    await user.close()

    assert await deleting == "DELETE 0"


async def test_the_index_on_created_at_serves_retention(database: asyncpg.Connection) -> None:
    await database.execute(
        "INSERT INTO conversations (user_id, created_at, updated_at)"
        " SELECT n, now() - n * interval '1 hour', now() - n * interval '1 hour' FROM generate_series(1, 9000) AS n"
    )
    await database.execute("ANALYZE conversations")
    [statement] = operations.statements("**Retention by last use.**")

    plan = "\n".join(row[0] for row in await database.fetch(f"EXPLAIN {statement}"))

    assert "Index Scan using ix_conversations_created_at" in plan


async def test_old_keys_are_deleted_and_those_of_a_day_are_kept(database: asyncpg.Connection) -> None:
    for key, hours in (("old", 25), ("new", 23)):
        one: dict[str, Any] = {"user_id": "ada", "key": key, "created_at": datetime.now(UTC) - timedelta(hours=hours)}
        await add(database, IdempotencyKey(**one, fingerprint=b"\0", conversation_id=1))
    [statement] = operations.statements("**Old idempotency keys.**")

    deleted = [await database.execute(statement), await database.execute(statement)]

    assert deleted == ["DELETE 1", "DELETE 0"]
    assert await database.fetchval("SELECT key FROM idempotency_keys") == "new"


def run(commands: str, folder: Path, **environment: str) -> str:
    """Run the commands in the folder, with the migrations in reach, and return what they print."""
    for name in ("alembic", "alembic.ini"):
        if not (folder / name).exists():
            (folder / name).symlink_to(PROJECT / name)
    path = f"{find_postgres()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=os.environ | environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("more", [(), (PARTITION, DROP_COPY)], ids=["plain tables", "partitions"])
async def test_what_was_backed_up_is_restored_and_goes_on(
    more: tuple[str, ...],
    migrated_database: NewDatabase,
    new_database: NewDatabase,
    start_service: StartService,
    tmp_path: Path,
) -> None:
    session = user_session("ada", "token")
    headers = {"Authorization": "Bearer token"}
    lost, found = await migrated_database(USER_SESSIONS, session, *more), await new_database(USER_SESSIONS, session)
    id_ = await send(start_service(DATABASE_URL=lost).url, headers, "Hello")

    run(operations.block("sh", "**Backup.**"), tmp_path, DATABASE_URL=lost)
    run(operations.block("sh", "**Restore.**"), tmp_path, DATABASE_URL=found)

    connections = [await asyncpg.connect(url) for url in (lost, found)]
    before, after = [await connection.fetchval(ROWS) for connection in connections]
    assert after == before
    service = start_service(DATABASE_URL=found)
    assert await send(service.url, headers, "Hello") == id_, "its key is restored too"
    assert await send(service.url, headers, "Go on", conversation_id=id_) == id_
    assert await send(service.url, headers, "Something else") == id_ + 1
    for connection in connections:
        await connection.close()


async def test_a_schema_of_our_own_is_backed_up_with_the_url_of_the_page(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    [query] = re.findall(r"`(\?options=[^`]*)`", operations.PAGE.read_text())
    url = await new_database("CREATE SCHEMA chat")
    migrate(url + query)
    await run_sql(url, "INSERT INTO chat.conversations (user_id) VALUES ('ada')")

    run(operations.block("sh", "**Backup.**"), tmp_path, DATABASE_URL=url + query)

    restored = run("pg_restore --file=- conversations.dump", tmp_path)
    assert re.search(r"COPY chat\.conversations .*\n1\tada\t", restored)


async def test_a_logical_replica_goes_on_with_new_ids_once_its_sequences_are_set(
    migrated_database: NewDatabase, start_service: StartService
) -> None:
    url = await migrated_database(USER_SESSIONS, user_session())
    service, headers = start_service(DATABASE_URL=url), {"Authorization": "Bearer token"}
    taken = await send(service.url, headers, "before")
    # Logical replication carries the rows, but not how far the sequences have come.
    await run_sql(url, *(f"ALTER SEQUENCE {table}_id_seq RESTART" for table in ("conversations", "messages")))

    await run_sql(url, *operations.statements("**A logical replica**"))

    assert await send(service.url, headers, "after") > taken


async def test_the_export_follows_every_link(
    service_url: str, database: asyncpg.Connection, sign_in: SignIn, tmp_path: Path
) -> None:
    headers = await sign_in()
    questions = {f'No. {n}, "id":7' for n in range(5)}
    for question in questions:
        id_ = await send(service_url, headers, question)
        await send(service_url, headers, f"{question}, again", conversation_id=id_)
    await database.execute("""UPDATE conversations SET title = 'A title with "id":7'""")

    token = headers["Authorization"].removeprefix("Bearer ")
    printed = run(str(PROJECT / "examples/export.sh"), tmp_path, API=service_url, TOKEN=token, LIMIT="2")

    pages = [json.loads(line) for line in printed.splitlines()]
    messages = [message["content"] for page in pages if isinstance(page, dict) for message in page["messages"]]
    asked = [*questions, *(f"{question}, again" for question in questions)]
    assert sorted(messages) == sorted([*asked, *(f"Echo: {question}" for question in asked)])
    assert [len(page) for page in pages if isinstance(page, list)] == [2, 2, 1]
