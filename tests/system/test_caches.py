"""No cache keeps a response of the API, and behind a proxy nothing changes but the address."""

from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from tests.support.middlemen import run_nginx
from tests.support.pages import add_conversations
from tests.support.service import run_service
from tests.support.types import SignIn


@pytest.fixture(scope="module")
def proxy_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx, whose cache keeps whatever may be kept."""
    folder, arguments = tmp_path_factory.mktemp("nginx"), ("--root-path=/chat", "--forwarded-allow-ips=127.0.0.1")
    with run_service(folder, *arguments, DATABASE_URL=database_url) as service, run_nginx(folder, service.url) as url:
        yield url


async def test_a_cache_hands_nobody_the_list_of_another_user(
    proxy_url: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    async with httpx.AsyncClient() as client:
        responses = [
            await client.get(f"{proxy_url}/api/conversations", headers=headers)
            for headers in (await sign_in("ada"), await sign_in("bob"), {})
        ]

    assert [response.status_code for response in responses] == [200, 200, 401]
    assert [len(response.json()) for response in responses[:2]] == [2, 0]
    assert [response.headers["X-Cache"] for response in responses] == ["MISS"] * 3


@pytest.mark.parametrize("path", ["/api/nowhere", "/api/chat", "/api/conversations/1", "/health", "/health/ready"])
async def test_a_cache_keeps_no_error_and_no_state_of_health(path: str, proxy_url: str) -> None:
    async with httpx.AsyncClient() as client:
        responses = [await client.get(proxy_url + path) for _ in range(2)]

    assert [response.headers["X-Cache"] for response in responses] == ["MISS"] * 2


async def test_a_cache_may_keep_the_files_of_the_documentation(proxy_url: str) -> None:
    async with httpx.AsyncClient() as client:
        responses = [await client.get(f"{proxy_url}/docs/static/swagger-ui/index.css") for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    assert [response.headers["X-Cache"] for response in responses] == ["MISS", "HIT"]


async def test_behind_a_proxy_with_a_prefix_link_and_documentation_have_the_clients_address(
    proxy_url: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    async with httpx.AsyncClient() as client:
        page = await client.get(f"{proxy_url}/api/conversations?limit=1", headers=await sign_in("ada"))
        document = (await client.get(f"{proxy_url}/openapi.json")).json()
        docs = await client.get(f"{proxy_url}/docs")

    next_page = page.links["next"]["url"].partition("&cursor=")[0]
    assert next_page == f"{proxy_url}/api/conversations?limit=1".replace("http:", "https:")
    assert document["servers"] == [{"url": "/chat"}]
    assert (docs.status_code, 'src="docs/static/docs.js?' in docs.text) == (200, True)
