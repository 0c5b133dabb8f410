from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import asyncpg
import httpx
import pytest

from ai_agent.errors import NotMigrated
from tests.support.app import client_of, make_settings, running

UNAVAILABLE = "The database is not available at the moment; try again shortly."


async def test_health_answers_without_a_token(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")

    assert (response.status_code, response.json()) == (200, {"status": "healthy", "service": "ai-agent"})


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_monitors_that_send_head_get_the_status_alone(path: str, client: httpx.AsyncClient) -> None:
    response = await client.head(path)

    assert (response.status_code, response.content) == (200, b"")


async def test_health_never_asks_the_database() -> None:
    async with running(make_settings(database_url="postgresql://127.0.0.1:1/none")) as app, client_of(app) as client:
        response = await client.get("/health")

    assert response.status_code == 200


async def test_ready_is_200_on_a_migrated_database(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (200, {"status": "ready", "service": "ai-agent"})


async def test_ready_says_that_the_database_is_away() -> None:
    async with running(make_settings(database_url="postgresql://127.0.0.1:1/none")) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert response.status_code == 503
    assert response.json() == {"detail": UNAVAILABLE}
    assert response.headers["Retry-After"].isdecimal()


@pytest.fixture
async def set_revision(database: asyncpg.Connection) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    head = await database.fetchval("SELECT version_num FROM alembic_version")
    yield partial(database.execute, "UPDATE alembic_version SET version_num = $1")
    await database.execute("UPDATE alembic_version SET version_num = $1", head)


@pytest.mark.parametrize("revision", ["0001", "of another project"])
async def test_ready_says_that_migrations_are_missing(
    revision: str, set_revision: Callable[[str], Awaitable[str]], client: httpx.AsyncClient
) -> None:
    await set_revision(revision)

    response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (503, {"detail": NotMigrated.detail})


async def test_ready_stays_200_while_the_next_release_has_migrated_but_not_started(
    set_revision: Callable[[str], Awaitable[str]], client: httpx.AsyncClient
) -> None:
    await set_revision("0999")

    assert (await client.get("/health/ready")).status_code == 200


async def test_ready_says_that_the_database_refuses_to_tell(
    client: httpx.AsyncClient, database: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await database.execute("ALTER TABLE alembic_version RENAME version_num TO hidden")
    try:
        response = await client.get("/health/ready")
    finally:
        await database.execute("ALTER TABLE alembic_version RENAME hidden TO version_num")

    assert (response.status_code, response.json()) == (503, {"detail": UNAVAILABLE})
    assert 'column "version_num" does not exist' in caplog.text
