"""The server of the page in `examples/web`: what it says where it cannot start, and what it outlives."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import asyncpg
import httpx
import pytest
from playwright.async_api import Page

from tests.support.better_auth import SECRET
from tests.support.web import WEB, replied, say, texts

NO_DATABASE = "It needs the service's database: start `uv run ai-agent` first, or set DATABASE_URL.\n"


@pytest.fixture
def example(node: tuple[str, str], tmp_path: Path) -> Path:
    """The example in a clone in which nobody has started the service."""
    folder = tmp_path / "examples/web"
    folder.mkdir(parents=True)
    for file in WEB.glob("*.mjs"):
        shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(WEB / "node_modules")
    return folder


def fail(node: tuple[str, str], folder: Path, **settings: str) -> str:
    """Start the server, which must end by itself, and return what it says."""
    environment = {"PATH": os.environ["PATH"], "BROWSER": "none", **settings}
    ended = subprocess.run(
        [node[0], "server.mjs"], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


def test_whoever_has_not_started_the_service_is_told_to(node: tuple[str, str], example: Path) -> None:
    said = fail(node, example)

    missing = example.parents[1] / ".trial/database-url"
    assert said == f"The page cannot be served: ENOENT: no such file or directory, open '{missing}'\n{NO_DATABASE}"


def test_a_database_that_is_away_is_said(node: tuple[str, str], example: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    url = f"postgresql://ai_agent:secret@127.0.0.1:{port}/postgres"
    said = fail(node, example, DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET)

    assert said == f"The page cannot be served: connect ECONNREFUSED 127.0.0.1:{port}\n{NO_DATABASE}"


def test_a_missing_secret_is_named(node: tuple[str, str], example: Path) -> None:
    said = fail(node, example, DATABASE_URL="postgresql://ai_agent:secret@127.0.0.1:1/postgres")

    assert said.startswith("The page cannot be served: BETTER_AUTH_SECRET must be set, as DATABASE_URL is.\n")


def test_a_port_that_is_taken_is_said(node: tuple[str, str], database_url: str) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]

        said = fail(node, WEB, DATABASE_URL=database_url, BETTER_AUTH_SECRET=SECRET, PORT=str(port))

    assert said == (
        f"The page cannot be served: listen EADDRINUSE: address already in use 127.0.0.1:{port}\n"
        "Let PORT name another port.\n"
    )


async def test_a_foreign_host_is_refused_and_the_page_served_on(web_url: str) -> None:
    async with httpx.AsyncClient(base_url=web_url) as client:
        refused = await client.get("/api/auth/get-session", headers={"Host": "elsewhere.example"})
        served = await client.get("/api/auth/get-session", headers={"Host": f"127.0.0.1:{client.base_url.port}"})

    assert refused.status_code == 400
    assert refused.json()["message"].startswith('Host "elsewhere.example" is not in the allowed hosts list.')
    assert (served.status_code, served.json()) == (200, None)


async def test_the_page_outlives_the_connections_to_its_database(page: Page, everyone: asyncpg.Connection) -> None:
    await everyone.execute("""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """)
    await page.wait_for_timeout(300)  # For the server to hear of it.
    await page.reload()

    await say(page, "Good morning!")

    await replied(page, "Good morning!")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]
