"""The page in `examples/web` with an agent behind the service: a reply that takes its time, and calls tools."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.assistant import with_agent
from tests.support.model_server import Call, ModelServer, says
from tests.support.node import install_packages
from tests.support.proxy import Proxy, run_proxy
from tests.support.service import run_service
from tests.support.types import NewDatabase
from tests.support.web import WEB, log, run_web, send, sign_up, texts


@pytest.fixture(scope="module")
async def database_url(migrated_database: NewDatabase) -> str:
    return await migrated_database()


@pytest.fixture(scope="module")
def service_url(
    shared_model: ModelServer, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    with run_service(folder, DATABASE_URL=database_url, **with_agent(shared_model)) as service:
        yield service.url


@pytest.fixture(scope="module")
async def network(service_url: str) -> AsyncIterator[Proxy]:
    async with run_proxy(service_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def web_url(database_url: str, network: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_web(install_packages(WEB)[0], tmp_path_factory.mktemp("web"), database_url, network) as url:
        yield url


@pytest.fixture
async def everyone(web_url: str, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the database, in which nobody has an account; better-auth has made its tables."""
    connection = await asyncpg.connect(database_url)
    await connection.execute('TRUNCATE "user", conversations, messages, idempotency_keys CASCADE')
    yield connection
    await connection.close()


@pytest.fixture
async def page(chromium: Browser, web_url: str, everyone: asyncpg.Connection) -> AsyncIterator[Page]:
    """The page of Ada, who has just signed up."""
    page = await chromium.new_page()
    await sign_up(page, web_url)
    yield page
    await page.context.close()


async def test_a_reply_is_shown_while_it_comes_with_its_tool_call_and_the_same_after_a_reload(
    page: Page, model: ModelServer
) -> None:
    model.script = [says(calls=(Call("clock", '{"city": "Karachi"}'),)), says("Half past ", "**nine**.", pause=2)]

    await send(page, "What time is it?")
    await expect(log(page)).to_contain_text("Half past")
    await expect(log(page)).to_have_attribute("aria-busy", "true")
    await expect(log(page)).to_have_attribute("aria-busy", "false")

    shown = 'What time is it?clock done{\n  "city": "Karachi"\n}09:30 in KarachiHalf past nine.'
    await expect(log(page)).to_have_text(shown)  # assistant-ui shows the last letters one by one.
    assert await log(page).text_content() == shown
    await page.reload()
    await expect(log(page)).to_have_text(shown)
    assert await log(page).text_content() == shown


async def test_a_page_that_is_reloaded_meanwhile_goes_on_with_the_same_reply(
    page: Page, everyone: asyncpg.Connection, model: ModelServer
) -> None:
    model.script = [says("Half past ", "nine.", pause=3)]
    await send(page, "What time is it?")
    await expect(log(page)).to_contain_text("Half past")

    await page.reload()

    await expect(log(page)).to_have_text("What time is it?Half past nine.")
    await expect(log(page)).to_have_attribute("aria-busy", "false")
    assert len(model.asked) == 1
    assert await texts(everyone) == [["What time is it?", "Half past nine."]]


async def test_a_connection_that_breaks_within_the_reply_is_said_and_another_try_goes_on_with_it(
    page: Page, everyone: asyncpg.Connection, model: ModelServer, network: Proxy
) -> None:
    model.script = [says("Half past ", "nine.", pause=3)]
    await send(page, "What time is it?")
    await expect(log(page)).to_contain_text("Half past")

    network.reset()
    await expect(page.locator(".unsent p")).to_have_text("Not sent: The connection broke off.")
    await page.get_by_role("button", name="Try again").click()

    await expect(log(page)).to_have_text("What time is it?Half past nine.")
    await expect(log(page)).to_have_attribute("aria-busy", "false")
    assert len(model.asked) == 1
    assert await texts(everyone) == [["What time is it?", "Half past nine."]]


async def test_an_agent_that_fails_is_said_and_asked_again_by_another_try(
    page: Page, everyone: asyncpg.Connection, model: ModelServer
) -> None:
    model.script = [says(calls=(Call("breaks"),)), says("Half past nine.")]
    await send(page, "What time is it?")
    failed = "Not sent: The assistant failed to reply, and nothing was stored."
    await expect(page.locator(".unsent p")).to_have_text(failed)
    assert await texts(everyone) == []

    await page.get_by_role("button", name="Try again").click()

    await expect(log(page)).to_have_text("What time is it?Half past nine.")
    await expect(log(page)).to_have_attribute("aria-busy", "false")
    assert await texts(everyone) == [["What time is it?", "Half past nine."]]
