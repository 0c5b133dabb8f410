"""Real parts for every test: a PostgreSQL server, a migrated database, the app over HTTP, and signed-in users."""

import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from ai_agent.config import Settings
from ai_agent.local_postgres import run_postgres
from ai_agent.main import create_app
from tests.service import Service, run_service

PROJECT = Path(__file__).parent.parent

# What better-auth's own migration makes, without the foreign key to its table of users.
USER_SESSIONS = """
    CREATE TABLE user_sessions (
        id text PRIMARY KEY,
        "expiresAt" timestamptz NOT NULL,
        token text NOT NULL UNIQUE,
        "createdAt" timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "updatedAt" timestamptz NOT NULL,
        "ipAddress" text,
        "userAgent" text,
        "userId" text NOT NULL
    )
"""

# A test's server may forget everything when the machine loses power.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")

type Headers = dict[str, str]
type SignIn = Callable[..., Awaitable[Headers]]
type Chat = Callable[..., Awaitable[dict[str, Any]]]
type NewDatabase = Callable[..., Awaitable[str]]
type StartService = Callable[..., Service]


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server with a role that may create databases."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    with run_postgres(tmp_path_factory.mktemp("postgres") / "data", *FAST) as url:
        yield url


@pytest.fixture(scope="session")
async def new_database(server_url: str) -> AsyncIterator[NewDatabase]:
    """Make a database, empty or like another, and return its URL; all of them are dropped at the end."""
    made: list[str] = []

    async def new(*statements: str, template: str = "template1") -> str:
        name = f"ai_agent_test_{secrets.token_hex(4)}"
        await run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
        await run_sql(url, *statements)
        return url

    yield new
    await run_sql(server_url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in made))


@pytest.fixture(scope="session")
async def migrated_database(new_database: NewDatabase) -> NewDatabase:
    """Make a database with every migration, and return its URL."""
    url = await new_database()
    migrate(url)
    return partial(new_database, template=urlsplit(url).path[1:])


async def run_sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real command, in its own process, against a database."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def migrate(url: str) -> None:
    migrated = alembic(url, "upgrade", "head")
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr


@pytest.fixture(scope="session")
async def database_url(migrated_database: NewDatabase) -> str:
    """A database with better-auth's table and every migration."""
    return await migrated_database(USER_SESSIONS)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own, to look at what is really stored; every table is empty."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE conversations, messages, idempotency_keys, user_sessions")
    yield connection
    await connection.close()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url=database_url)


def make_settings(**values: object) -> Settings:
    """Settings from these values and the defaults alone, whatever the developer's `.env` says."""
    return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]  # pydantic-settings' own argument.


@pytest.fixture
async def app(settings: Settings, database: asyncpg.Connection) -> AsyncIterator[FastAPI]:
    async with running(settings) as app:
        yield app


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """The app between its start-up and its shutdown."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.test", **options) as client:
        yield client


@pytest.fixture
def sign_in(database: asyncpg.Connection) -> SignIn:
    """Store a session as better-auth does and return the header that a front end sends with it."""

    async def sign_in(user_id: str = "ada", *, token: str | None = None, lifetime: str = "1 hour") -> Headers:
        token = token or secrets.token_hex(16)
        await database.execute(
            'INSERT INTO user_sessions (id, token, "userId", "expiresAt", "updatedAt")'
            " VALUES ($1, $2, $3, now() + $4::text::interval, now())",
            *(secrets.token_hex(16), token, user_id, lifetime),
        )
        return {"Authorization": f"Bearer {token}"}

    return sign_in


@pytest.fixture
def chat(client: httpx.AsyncClient) -> Chat:
    """Send a message and return the answer's body."""

    async def chat(headers: Headers, message: str = "Hello", conversation_id: int | None = None) -> dict[str, Any]:
        response = await client.post(
            "/api/chat", headers=headers, json={"message": message, "conversation_id": conversation_id}
        )
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    return chat


@pytest.fixture
async def unlucky(database: asyncpg.Connection) -> AsyncIterator[str]:
    """A message that the database refuses as nobody expects it to: no outage, and no fault of the client's."""
    await database.execute("ALTER TABLE messages ADD CONSTRAINT lucky CHECK (content NOT LIKE '%thirteen%')")
    yield "thirteen"
    await database.execute("ALTER TABLE messages DROP CONSTRAINT lucky")


@pytest.fixture
def start_service(database_url: str, tmp_path: Path) -> Iterator[StartService]:
    """Start the service as a process of its own, on the test's database unless told otherwise."""
    with ExitStack() as services:

        def start(*arguments: str, **environment: str) -> Service:
            settings = {"DATABASE_URL": database_url, **environment}
            return services.enter_context(run_service(tmp_path, *arguments, **settings))

        yield start


@pytest.fixture(scope="session")
def service_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for all tests that only need its address."""
    with run_service(tmp_path_factory.mktemp("service"), DATABASE_URL=database_url) as service:
        yield service.url
