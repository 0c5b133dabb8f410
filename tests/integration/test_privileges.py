"""The role of the service needs no more than the README says."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from tests.conftest import SignIn, client_of, make_settings, run_sql, running

GRANTS = [
    "GRANT SELECT, INSERT, UPDATE, DELETE ON conversations, messages, idempotency_keys TO app",
    "GRANT USAGE ON SEQUENCE conversations_id_seq TO app",
    "GRANT SELECT ON user_sessions, alembic_version TO app",
]


@pytest.fixture
async def app_url(database_url: str) -> AsyncIterator[str]:
    """The database's URL for a role with just those privileges."""
    await run_sql(database_url, "CREATE ROLE app LOGIN PASSWORD 'app'", *GRANTS)
    parts = urlsplit(database_url)
    yield parts._replace(netloc=f"app:app@{parts.hostname}:{parts.port}").geturl()
    await run_sql(database_url, "DROP OWNED BY app", "DROP ROLE app")


async def test_a_role_with_the_privileges_of_the_readme_serves_every_kind_of_request(
    app_url: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in() | {"Idempotency-Key": "key"}
    async with running(make_settings(database_url=app_url)) as app, client_of(app, headers=headers) as client:
        sent = await client.post("/api/chat", json={"message": "Hello"})
        again = await client.post("/api/chat", json={"message": "Hello"})
        path = f"/api/conversations/{sent.json()['conversation_id']}"
        answers: list[httpx.Response] = [
            await client.get("/health/ready"),
            await client.get("/api/conversations"),
            await client.get(path),
            await client.patch(path, json={"title": "Holiday plans"}),
            await client.delete(path),
        ]

    assert (again.status_code, again.json()) == (200, sent.json())
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 204]
    assert await database.fetchval("SELECT count(*) FROM messages") == 0
