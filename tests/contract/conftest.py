"""A service that trusts others, and the programs that speak to it: Node with npm's packages, and a real browser."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.service import run_service

SERVICE_TOKEN = "a-service-token-of-more-than-32-characters"


@pytest.fixture(scope="session")
def service_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for all of these tests that need no other settings."""
    settings = {"DATABASE_URL": database_url, "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_service(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service.url


def install_packages(folder: Path) -> tuple[str, str]:
    """Install the folder's locked packages, unless they are there, and return the paths of `node` and `npm`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is missing")
    installed = folder / "node_modules/.package-lock.json"  # npm writes it last.
    if not installed.exists() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return node, npm


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The Chromium that is installed, driven by Playwright, which downloads none."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium on PATH, and CHROMIUM names none")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--disable-gpu"])
        yield browser
        await browser.close()
