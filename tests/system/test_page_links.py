"""`Link` is the URL of the next page from the client's side, and can be followed unchanged."""

import asyncpg
import httpx
import pytest

from tests.support import raw
from tests.support.pages import add_conversations, next_url
from tests.support.types import Headers, SignIn, StartService

KEPT_QUERIES = {
    "another name": "limit=1&view=sidebar",
    "a repeated name": "tag=a&limit=1&tag=b&tag=a",
    "no value": "limit=1&flag=",
    "reserved characters": "limit=1&q=a%26b%3Dc%3F%2F%23%3E+%2B",
    "UTF-8": "limit=1&q=%C3%A9%F0%9F%8F%96",
    "bytes that are no UTF-8": "limit=1&q=%FF%00",
    "escapes that could be written otherwise": "limit=1&q=a%20b%7e+c",
    "an escaped name of the cursor's kind": "limit=1&cursors=%63",
}


@pytest.mark.parametrize("query", KEPT_QUERIES.values(), ids=KEPT_QUERIES.keys())
async def test_the_link_keeps_the_other_parameters_of_the_query(
    query: str, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2, 3])
    headers = await sign_in("ada")

    first = await client.get(f"/api/conversations?{query}", headers=headers)
    second = await client.get(first.links["next"]["url"], headers=headers)

    urls = [response.links["next"]["url"].partition("&cursor=") for response in (first, second)]
    assert [url for url, _, _ in urls] == [f"http://service.test/api/conversations?{query}"] * 2
    assert urls[0] != urls[1]


class ReverseProxy(httpx.AsyncBaseTransport):
    """Ends TLS, removes a prefix from the path, and forwards to the service, like an ingress."""

    def __init__(self, service_url: str, prefix: bytes) -> None:
        self._service = httpx.AsyncHTTPTransport()
        self._url = httpx.URL(service_url)
        self._prefix = prefix

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path.startswith(self._prefix)
        path = request.url.raw_path.removeprefix(self._prefix)
        headers = {**request.headers, "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": request.url.scheme}
        passed_on = httpx.Request(request.method, self._url.copy_with(raw_path=path), headers=headers)
        return await self._service.handle_async_request(passed_on)

    async def aclose(self) -> None:
        await self._service.aclose()


async def walk_through_proxy(service_url: str, url: str, headers: Headers) -> list[str]:
    """The URLs of all pages that a client follows through a proxy."""
    urls = [url]
    proxy = ReverseProxy(service_url, httpx.URL(url).raw_path.partition(b"/api/")[0])
    async with httpx.AsyncClient(transport=proxy) as client:
        while following := next_url(await client.get(urls[-1], headers=headers)):
            urls.append(following)
    return [url.partition("&cursor=")[0] for url in urls]


@pytest.mark.parametrize("prefix", ["", "/chat", "/my chat"])
async def test_the_link_is_the_url_that_the_client_sees_behind_a_proxy(
    prefix: str, start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2, 3])
    service = start_service("--forwarded-allow-ips=127.0.0.1", f"--root-path={prefix}")
    url = str(httpx.URL(f"https://chat.example.com:8443{prefix}/api/conversations?limit=1"))

    urls = await walk_through_proxy(service.url, url, await sign_in("ada"))

    assert urls == [url] * 3


async def test_a_proxy_that_is_not_trusted_cannot_change_the_scheme_of_the_link(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    service = start_service("--forwarded-allow-ips=192.0.2.1")
    headers = {**await sign_in("ada"), "X-Forwarded-Proto": "https"}

    async with httpx.AsyncClient() as client:
        response = await client.get(f"{service.url}/api/conversations?limit=1", headers=headers)

    assert response.links["next"]["url"].startswith(f"{service.url}/api/conversations?limit=1&cursor=")


@pytest.mark.parametrize("host", ['a>; rel="next", <b', "a b", "é.example", "", "a:99999", "?", "a/b"])
async def test_a_host_that_is_none_cannot_break_the_link(
    host: str, service_url: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    token = (await sign_in("ada"))["Authorization"]
    request = f"GET /api/conversations?limit=1 HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n"

    answer = raw.exchange(service_url, request.encode("latin-1"))

    assert answer.status == 200
    assert answer.headers["Link"].startswith(f"<{service_url}/api/conversations?limit=1&cursor=")


async def test_bytes_that_no_url_may_hold_cannot_break_the_link(
    service_url: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    token = (await sign_in("ada"))["Authorization"]
    request = f'GET /api/conversations?q=<">&limit=1 HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n'

    answer = raw.exchange(service_url, request.encode())

    link, _, rest = answer.headers["Link"].partition("&cursor=")
    assert (answer.status, link) == (200, "<http://a/api/conversations?q=%3C%22%3E&limit=1")
    assert rest[32:] == '>; rel="next"'
