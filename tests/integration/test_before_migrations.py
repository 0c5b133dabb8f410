"""A service that starts before its migrations reports that they are missing, and serves once they have run."""

import asyncio

import httpx
import pytest
from sqlmodel import SQLModel

from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS, alembic
from tests.support.rows import user_session
from tests.support.types import NewDatabase

NOT_MIGRATED = {
    "detail": "The database is not at the migration that this release needs: it has no table conversations."
    " Run 'alembic upgrade head'."
}
UNAVAILABLE = {"detail": "The database is not available at the moment; try again shortly."}
HEADERS = {"Authorization": "Bearer some-token"}
SIGNED_IN = user_session("ada", "some-token")
REQUESTS = [
    ("POST", "/api/chat", {"message": "Hello"}),
    ("POST", "/api/chat", {"message": "Hello", "conversation_id": 1}),
    ("GET", "/api/conversations", None),
    ("GET", "/api/conversations/1", None),
    ("PATCH", "/api/conversations/1", {"title": "Holiday plans"}),
    ("DELETE", "/api/conversations/1", None),
]


async def assert_unavailable(client: httpx.AsyncClient) -> None:
    for method, path, body in REQUESTS:
        response = await client.request(method, path, json=body)
        assert (response.status_code, response.json()) == (503, UNAVAILABLE)
        assert "Retry-After" in response.headers


@pytest.mark.parametrize("seeds", [(), (USER_SESSIONS, SIGNED_IN)], ids=["empty", "better-auth's tables alone"])
async def test_without_our_tables_readiness_says_so_and_requests_are_a_503(
    seeds: tuple[str | SQLModel, ...], new_database: NewDatabase
) -> None:
    settings = make_settings(database_url=await new_database(*seeds))
    async with running(settings) as app, client_of(app, headers=HEADERS) as client:
        health, ready = await client.get("/health"), await client.get("/health/ready")

        assert health.status_code == 200
        assert (ready.status_code, ready.json()) == (503, NOT_MIGRATED)
        await assert_unavailable(client)


async def test_without_better_auths_table_requests_are_a_503_with_the_cause_in_the_log(
    migrated_database: NewDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    url = await migrated_database()
    async with running(make_settings(database_url=url)) as app, client_of(app, headers=HEADERS) as client:
        await assert_unavailable(client)

    assert 'relation "user_sessions" does not exist' in caplog.text


async def test_the_service_that_was_started_before_two_migrations_at_once_serves_after_them(
    new_database: NewDatabase,
) -> None:
    url = await new_database(USER_SESSIONS, SIGNED_IN)
    async with running(make_settings(database_url=url)) as app, client_of(app, headers=HEADERS) as client:
        await assert_unavailable(client)

        ended = await asyncio.gather(*(asyncio.to_thread(alembic, url, "upgrade", "head") for _ in range(2)))

        assert [process.returncode for process in ended] == [0, 0]
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.post("/api/chat", json={"message": "Hello"})).status_code == 200
