"""A front end on another origin, in a real browser: what its script may send, and what it can read."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

import asyncpg
import pytest
from playwright.async_api import Browser, Error, Page, Route

from tests.support.database import USER_SESSIONS
from tests.support.service import run_service
from tests.support.types import Headers, NewDatabase, SignIn, StartService

FETCH = """
    async ([method, url, headers, body]) => {
        const response = await fetch(url, { method, headers, body });
        return [response.status, Object.fromEntries(response.headers), await response.text()];
    }
"""


class Answer(NamedTuple):
    """What the page's script could read of a response."""

    status: int
    headers: Headers
    body: Any


class EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def front_end_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def listed_origin(front_end_port: int) -> str:
    return f"http://127.0.0.1:{front_end_port}"


@pytest.fixture(scope="module")
def other_origin(front_end_port: int) -> str:
    """The same page on an origin that the service does not allow."""
    return f"http://localhost:{front_end_port}"


@pytest.fixture(scope="module")
async def database_url(migrated_database: NewDatabase) -> str:
    """A database with a constraint that the service does not expect, so that one message causes a real 500."""
    return await migrated_database(USER_SESSIONS, "ALTER TABLE messages ADD CHECK (content <> 'unexpected')")


@pytest.fixture(scope="module")
def service_url(database_url: str, listed_origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"DATABASE_URL": database_url, "CORS_ORIGINS": listed_origin}
    with run_service(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service.url


@pytest.fixture
async def page(chromium: Browser, listed_origin: str) -> AsyncIterator[Page]:
    page = await chromium.new_page()
    await page.goto(listed_origin)
    yield page
    await page.close()


async def fetch(page: Page, method: str, url: str, headers: Headers, body: object = None) -> Answer:
    if body is not None:
        headers = {**headers, "Content-Type": "application/json"}
    status, readable, text = await page.evaluate(FETCH, [method, url, headers, json.dumps(body) if body else None])
    return Answer(status, readable, json.loads(text) if text else None)


async def test_a_script_sends_a_message_reads_it_renames_the_conversation_and_deletes_it(
    page: Page, service_url: str, sign_in: SignIn
) -> None:
    headers = await sign_in()

    sent = await fetch(page, "POST", f"{service_url}/api/chat", headers, {"message": "Hello"})
    url = f"{service_url}/api/conversations/{sent.body['conversation_id']}"
    read = await fetch(page, "GET", url, headers)
    renamed = await fetch(page, "PATCH", url, headers, {"title": "Greetings"})
    deleted = await fetch(page, "DELETE", url, headers)

    assert (sent.status, sent.body["assistant_message"]) == (200, "Echo: Hello")
    assert [message["content"] for message in read.body["messages"]] == ["Hello", "Echo: Hello"]
    assert (renamed.status, renamed.body["title"]) == (200, "Greetings")
    assert (deleted.status, deleted.body) == (204, None)


async def test_a_script_follows_link_from_page_to_page(page: Page, service_url: str, sign_in: SignIn) -> None:
    headers = await sign_in()
    sent = [await fetch(page, "POST", f"{service_url}/api/chat", headers, {"message": "Hello"}) for _ in range(3)]
    listed = []

    url: str | None = f"{service_url}/api/conversations?limit=1"
    while url:
        answer = await fetch(page, "GET", url, headers)
        listed += [conversation["id"] for conversation in answer.body]
        following = re.fullmatch('<(.+)>; rel="next"', answer.headers.get("link", ""))
        url = following and following[1]

    assert listed == [answer.body["conversation_id"] for answer in reversed(sent)]


async def test_a_script_whose_answer_was_lost_retries_with_the_key_and_stores_nothing_twice(
    page: Page, service_url: str, sign_in: SignIn
) -> None:
    headers = {**await sign_in(), "Idempotency-Key": "my-first-message"}
    url = f"{service_url}/api/chat"

    async def lose_answer(route: Route) -> None:
        assert (await route.fetch()).status == 200
        await route.abort("connectionreset")

    await page.route(url, lose_answer, times=1)
    with pytest.raises(Error, match="Failed to fetch"):
        await fetch(page, "POST", url, headers, {"message": "Hello"})
    again = await fetch(page, "POST", url, headers, {"message": "Hello"})
    listed = await fetch(page, "GET", f"{service_url}/api/conversations", headers)

    assert (again.status, again.headers["idempotency-replayed"]) == (200, "true")
    assert [conversation["id"] for conversation in listed.body] == [again.body["conversation_id"]]


async def test_a_script_reads_the_request_id_that_it_sent(page: Page, service_url: str, sign_in: SignIn) -> None:
    headers = {**await sign_in(), "X-Request-ID": "from-the-page", "X-Timezone": "Asia/Karachi"}

    answer = await fetch(page, "GET", f"{service_url}/api/conversations", headers)

    assert (answer.status, answer.headers["x-request-id"]) == (200, "from-the-page")


async def test_a_script_reads_a_401(page: Page, service_url: str) -> None:
    answer = await fetch(page, "GET", f"{service_url}/api/conversations", {"Authorization": "Bearer unknown"})

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.body["detail"].startswith("Not authenticated")
    assert answer.headers["x-request-id"]


async def test_a_script_reads_a_404(page: Page, service_url: str, sign_in: SignIn) -> None:
    answer = await fetch(page, "GET", f"{service_url}/api/conversations/1", await sign_in())

    assert (answer.status, answer.body) == (404, {"detail": "Conversation not found."})
    assert answer.headers["x-request-id"]


async def test_a_script_reads_a_413(page: Page, service_url: str, sign_in: SignIn) -> None:
    answer = await fetch(page, "POST", f"{service_url}/api/chat", await sign_in(), {"message": "a" * 2**20})

    assert (answer.status, answer.body) == (413, {"detail": "The request body is larger than 1 MiB."})
    assert answer.headers["x-request-id"]


async def test_a_script_reads_a_422(page: Page, service_url: str, sign_in: SignIn) -> None:
    answer = await fetch(page, "POST", f"{service_url}/api/chat", await sign_in(), {"message": " "})

    assert (answer.status, answer.body["detail"][0]["loc"]) == (422, ["body", "message"])
    assert answer.headers["x-request-id"]


async def test_a_script_reads_a_500(page: Page, service_url: str, sign_in: SignIn) -> None:
    answer = await fetch(page, "POST", f"{service_url}/api/chat", await sign_in(), {"message": "unexpected"})

    assert (answer.status, answer.body) == (500, {"detail": "Internal server error."})
    assert answer.headers["x-request-id"]


async def test_a_script_reads_a_503_and_when_to_try_again(
    page: Page, start_service: StartService, listed_origin: str
) -> None:
    service = start_service(DATABASE_URL="postgresql://127.0.0.1:1/app", CORS_ORIGINS=listed_origin)

    answer = await fetch(page, "GET", f"{service.url}/api/conversations", {"Authorization": "Bearer any"})

    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert answer.body["detail"].startswith("The database is not available")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/api/conversations"])
async def test_a_page_of_an_origin_that_is_not_listed_reads_nothing(
    path: str, page: Page, service_url: str, other_origin: str
) -> None:
    await page.goto(other_origin)

    with pytest.raises(Error, match="Failed to fetch"):
        await fetch(page, "GET", service_url + path, {})


async def test_a_page_of_an_origin_that_is_not_listed_sends_nothing_with_a_token(
    page: Page, service_url: str, other_origin: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    await page.goto(other_origin)

    with pytest.raises(Error, match="Failed to fetch"):
        await fetch(page, "POST", f"{service_url}/api/chat", headers, {"message": "Hello"})

    assert await database.fetchval("SELECT count(*) FROM conversations") == 0
