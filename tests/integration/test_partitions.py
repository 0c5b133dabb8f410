"""The commands of docs/operations.md that split the tables by user change nothing that anybody sees."""

from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS, run_sql
from tests.support.partitions import DROP_COPY, PARTITION, TABLES, USERS, rows_of_twenty_users
from tests.support.types import AppRole, NewDatabase


@pytest.fixture
async def plain_database_url(migrated_database: NewDatabase) -> str:
    """A database whose tables hold rows and are not split."""
    return await migrated_database(USER_SESSIONS, *rows_of_twenty_users())


async def read_everything(client: httpx.AsyncClient) -> list[Any]:
    """What the API shows to all users: every page of their lists and of their conversations."""
    shown = []
    for user in USERS:
        client.headers["Authorization"] = f"Bearer token-{user}"
        listed = await read_pages(client, "/api/conversations?limit=4")
        shown += listed
        for page in listed:
            for conversation in page:
                shown += await read_pages(client, f"/api/conversations/{conversation['id']}?limit=5")
    return shown


async def read_pages(client: httpx.AsyncClient, path: str) -> list[Any]:
    pages = []
    following: str | None = path
    while following is not None:
        response = await client.get(following)
        assert response.status_code == 200, response.text
        pages.append(response.json())
        following = response.links["next"]["url"] if "Link" in response.headers else None
    return pages


async def test_the_api_shows_the_same_before_and_after_and_takes_turns_without_a_restart(
    plain_database_url: str, app_role: AppRole
) -> None:
    settings = make_settings(database_url=await app_role(plain_database_url))
    async with running(settings) as app, client_of(app) as client:
        before = await read_everything(client)

        await run_sql(plain_database_url, PARTITION)
        after = await read_everything(client)
        await run_sql(plain_database_url, DROP_COPY)
        ready = await client.get("/health/ready")
        sent = await client.post("/api/chat", json={"message": "Hello"})

    assert len(before) == 20 * (2 + 6 * 2)
    assert after == before
    assert ready.status_code == 200, ready.text
    assert (sent.status_code, sent.json()["conversation_id"]) == (200, 121)


DEFINITIONS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE conrelid = ANY($1::text[]::regclass[]) AND conparentid = 0
    UNION
    SELECT indrelid::regclass::text, relname, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
    FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = ANY($1::text[]::regclass[])
    UNION
    SELECT table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default, is_identity)
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = ANY($1)
    ORDER BY 1, 2, 3
"""


async def test_columns_constraints_and_indexes_are_those_of_the_migrations(plain_database_url: str) -> None:
    connection = await asyncpg.connect(plain_database_url)
    migrated = await connection.fetch(DEFINITIONS, TABLES)

    await connection.execute(PARTITION)

    partitioned = await connection.fetch(DEFINITIONS, TABLES)
    await connection.close()
    assert len(migrated) > 20
    assert partitioned == migrated


async def test_privileges_on_single_columns_are_kept(plain_database_url: str, app_role: AppRole) -> None:
    role = urlsplit(await app_role(plain_database_url)).username
    given = f"GRANT SELECT (id, title), UPDATE (title) ON conversations TO {role} WITH GRANT OPTION"
    await run_sql(plain_database_url, f"REVOKE ALL ON conversations FROM {role}", given)
    connection = await asyncpg.connect(plain_database_url)
    before = await connection.fetch(COLUMN_PRIVILEGES, role)

    await connection.execute(PARTITION)

    after = await connection.fetch(COLUMN_PRIVILEGES, role)
    await connection.close()
    assert len(before) > 3
    assert after == before


COLUMN_PRIVILEGES = """
    SELECT table_name, column_name, privilege_type, is_grantable
    FROM information_schema.role_column_grants
    WHERE grantee = $1 AND table_schema = 'public' AND table_name = ANY('{conversations,messages,idempotency_keys}')
    ORDER BY 1, 2, 3
"""
