"""The page in `examples/web`, in a real browser, with its better-auth server and the service on one database."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from playwright.async_api import Browser, BrowserContext, Page

from tests.support.node import install_packages
from tests.support.proxy import Proxy, run_proxy
from tests.support.service import SERVICE_TOKEN, run_service
from tests.support.types import NewDatabase
from tests.support.web import WEB, run_web, sign_up


@pytest.fixture(scope="package")
def node() -> tuple[str, str]:
    """The paths of `node` and `npm`, with the example's packages installed."""
    return install_packages(WEB)


@pytest.fixture(scope="package")
async def database_url(migrated_database: NewDatabase) -> str:
    """A database with every migration, in which better-auth makes its own tables."""
    return await migrated_database()


@pytest.fixture(scope="package")
def service_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"DATABASE_URL": database_url, "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_service(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service.url


@pytest.fixture(scope="package")
async def network(service_url: str) -> AsyncIterator[Proxy]:
    """What lies between the page's server and the service."""
    async with run_proxy(service_url) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def web_url(
    node: tuple[str, str], database_url: str, network: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with run_web(node[0], tmp_path_factory.mktemp("web"), database_url, network) as url:
        yield url


@pytest.fixture
async def everyone(web_url: str, network: Proxy, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the database, in which nobody has an account, and a network that works."""
    await network.forward()
    connection = await asyncpg.connect(database_url)
    await connection.execute('TRUNCATE "user", conversations, messages, idempotency_keys CASCADE')
    yield connection
    await connection.close()


@pytest.fixture(scope="package")
async def context(chromium: Browser) -> AsyncIterator[BrowserContext]:
    """One for all tests, because its cache makes pages open in a fraction of the time."""
    context = await chromium.new_context(viewport={"width": 1000, "height": 640})
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext, web_url: str, everyone: asyncpg.Connection) -> AsyncIterator[Page]:
    """The page of Ada, who has just signed up."""
    await context.clear_cookies()
    page = await context.new_page()
    await sign_up(page, web_url)
    yield page
    await page.close()
