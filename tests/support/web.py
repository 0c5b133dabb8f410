"""The example's page: its server as its own process, and what a person does on it."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from playwright.async_api import Locator, Page, expect

from tests.support.better_auth import SECRET
from tests.support.proxy import Proxy

WEB = Path(__file__).parents[2] / "examples/web"

AWAY = re.compile(r"Not sent: The chat service does not answer at http://127\.0\.0\.1:\d+\. Is it running\?")

expect.set_options(timeout=30_000)  # A page that is opened for the first time is built first.


@contextmanager
def run_web(node: str, folder: Path, database_url: str, network: Proxy) -> Iterator[str]:
    """Serve as `npm start` does until the block ends, and yield the address; `network` leads to the service."""
    settings = {
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SECRET,
        "AI_AGENT_URL": f"http://127.0.0.1:{urlsplit(network.url).port}",
        "PORT": "0",
        "BROWSER": "none",
    }
    errors = folder / "web.log"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [node, "server.mjs"],
            cwd=WEB,
            env={"PATH": os.environ["PATH"], **settings},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = next((line.split()[-1] for line in process.stdout if "Chat at " in line), None)
            assert url is not None, errors.read_text()
            yield url
        finally:
            process.terminate()


async def sign_up(page: Page, url: str) -> None:
    """Open the page as Ada, who has no account yet."""
    await page.goto(url)
    await page.get_by_label("Name").fill("Ada Lovelace")
    await fill_in_account(page)
    await page.get_by_role("button", name="Sign up").click()
    await expect(composer(page)).to_be_visible()


async def fill_in_account(page: Page) -> None:
    await page.get_by_label("Email").fill("ada@example.com")
    await page.get_by_label("Password").fill("correct horse")


def composer(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message", exact=True)


def log(page: Page) -> Locator:
    return page.get_by_role("log")


def conversations(page: Page) -> Locator:
    return page.locator(".thread-title")


async def send(page: Page, text: str) -> None:
    await composer(page).fill(text)
    await composer(page).press("Enter")


async def say(page: Page, text: str) -> None:
    """Send a message, and wait for the end of its echo."""
    await send(page, text)
    await replied(page, text)


async def replied(page: Page, text: str) -> None:
    await expect(log(page)).to_contain_text(f"Echo: {text}")
    await expect(log(page)).to_have_attribute("aria-busy", "false")


async def choose(page: Page, position: int, action: str) -> None:
    """Choose from the options of a conversation; the one that was used last is in position 0."""
    await page.get_by_role("button", name="Options of").nth(position).click()
    await page.get_by_role("menuitem", name=action).click()


async def rename(page: Page, title: str) -> None:
    """Rename the conversation that was used last."""
    await choose(page, 0, "Rename")
    await page.get_by_label("Title").fill(title)
    await page.get_by_role("button", name="Save").click()
    await expect(conversations(page).filter(has_text=title)).to_be_visible()


async def stored(database: asyncpg.Connection) -> list[tuple[str, str, list[str]]]:
    """Each conversation's owner, title and texts, the oldest conversation first."""
    rows = await database.fetch("""
        SELECT email, title, array(SELECT content FROM messages WHERE conversation_id = c.id ORDER BY id) AS texts
        FROM conversations c JOIN "user" u ON u.id = c.user_id
        ORDER BY c.id
    """)
    return [(row["email"], row["title"], row["texts"]) for row in rows]


async def texts(database: asyncpg.Connection) -> list[list[str]]:
    return [said for _, _, said in await stored(database)]
