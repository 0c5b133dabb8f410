"""The fixtures of every test: a PostgreSQL server, a migrated database, the app over HTTP, and signed-in users."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from playwright.async_api import Browser, async_playwright
from sqlmodel import SQLModel

from ai_agent.config import Settings
from ai_agent.local.postgres import run_postgres
from tests.support.app import client_of, make_settings, running
from tests.support.database import FAST, GRANTS, USER_SESSIONS, migrate, run_sql
from tests.support.rows import add, seed, user_session
from tests.support.service import Service, run_service
from tests.support.types import AppRole, Chat, Headers, NewDatabase, SignIn, StartService


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
    """Make a database, empty or like another, and return its URL; a server that outlives the tests keeps none."""
    made: list[str] = []

    async def new(*seeds: str | SQLModel, template: str = "template1") -> str:
        name = f"ai_agent_test_{secrets.token_hex(4)}"
        await run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
        await seed(url, *seeds)
        return url

    yield new
    if os.environ.get("TEST_DATABASE_URL"):
        await run_sql(server_url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in made))


@pytest.fixture(scope="session")
async def migrated_database(new_database: NewDatabase) -> NewDatabase:
    """Make a database with every migration, and return its URL."""
    url = await new_database()
    migrate(url)
    return partial(new_database, template=urlsplit(url).path[1:])


@pytest.fixture(scope="session")
async def database_url(migrated_database: NewDatabase) -> str:
    """A database with better-auth's table and every migration."""
    return await migrated_database(USER_SESSIONS)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own to a database with empty tables, to see what is really stored."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE conversations, messages, idempotency_keys, user_sessions")
    yield connection
    await connection.close()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url=database_url)


@pytest.fixture
async def app(settings: Settings, database: asyncpg.Connection) -> AsyncIterator[FastAPI]:
    async with running(settings) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.fixture
def sign_in(database: asyncpg.Connection) -> SignIn:
    """Store a user session like better-auth's, and return the header that a front end sends with it."""

    async def sign_in(user_id: str = "ada", *, token: str | None = None) -> Headers:
        token = token or secrets.token_hex(16)
        await add(database, user_session(user_id, token))
        return {"Authorization": f"Bearer {token}"}

    return sign_in


@pytest.fixture
def chat(client: httpx.AsyncClient) -> Chat:
    """Send a message and return the response's body."""

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
    """A message that a constraint refuses: neither an outage nor the client's mistake, so nobody expects the error."""
    await database.execute("ALTER TABLE messages ADD CONSTRAINT lucky CHECK (content NOT LIKE '%thirteen%')")
    yield "thirteen"
    await database.execute("ALTER TABLE messages DROP CONSTRAINT lucky")


@pytest.fixture
def start_service(database_url: str, tmp_path: Path) -> Iterator[StartService]:
    """Start the service as a process of its own; a DATABASE_URL may replace that of the test's database."""
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


@pytest.fixture
async def app_role() -> AsyncIterator[AppRole]:
    """Make a role with just the privileges of the document in a database, and return the database's URL for it."""
    made: list[tuple[str, str]] = []

    async def app_role(database_url: str) -> str:
        role = f"app_{secrets.token_hex(4)}"
        await run_sql(database_url, *(grant.format(role=role) for grant in GRANTS))
        made.append((database_url, role))
        parts = urlsplit(database_url)
        return parts._replace(netloc=f"{role}:app@{parts.netloc.rpartition('@')[2]}").geturl()

    yield app_role
    for database_url, role in made:
        await run_sql(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The installed Chromium, because Playwright is not to download its own."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium on PATH, and CHROMIUM names none")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--disable-gpu"])
        yield browser
        await browser.close()
