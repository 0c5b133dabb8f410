import asyncpg
import httpx

from ai_agent.errors import NotMigrated
from tests.conftest import client_of, make_settings, running


async def test_health_answers_without_a_token(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")

    assert (response.status_code, response.json()) == (200, {"status": "healthy", "service": "ai-agent"})


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
    assert response.json() == {"detail": "The database is not available at the moment; try again shortly."}
    assert response.headers["Retry-After"].isdecimal()


async def test_ready_says_that_migrations_are_missing(client: httpx.AsyncClient, database: asyncpg.Connection) -> None:
    head = await database.fetchval("SELECT version_num FROM alembic_version")
    await database.execute("UPDATE alembic_version SET version_num = 'older'")
    try:
        response = await client.get("/health/ready")
    finally:
        await database.execute("UPDATE alembic_version SET version_num = $1", head)

    assert (response.status_code, response.json()) == (503, {"detail": NotMigrated.detail})
