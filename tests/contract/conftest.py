"""A service that trusts others, and a real browser."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.support.service import SERVICE_TOKEN, run_service


@pytest.fixture(scope="session")
def service_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for all contract tests that need no other settings."""
    settings = {"DATABASE_URL": database_url, "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_service(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service.url


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
