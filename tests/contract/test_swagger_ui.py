"""Swagger UI as a developer uses it in a browser, and what it needs from the service."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, expect

from tests.support.service import SERVICE_TOKEN
from tests.support.types import Headers, SignIn, StartService

SCHEMES = {"Authorization": "sessionToken", "X-Service-Auth": "serviceToken", "X-User-ID": "servedUser"}


@pytest.fixture(scope="module")
async def context(chromium: Browser, service_url: str) -> AsyncIterator[BrowserContext]:
    """One for all tests, because its cache makes the page open in a fraction of the time."""
    context = await chromium.new_context(base_url=service_url)
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext, service_url: str) -> AsyncIterator[Page]:
    """A page that knows no token; at the end it must have contacted no other host and logged no error."""
    complaints: list[str] = []
    host = urlsplit(service_url).netloc

    def watch_request(request: Request) -> None:
        if urlsplit(request.url).netloc != host:
            complaints.append(f"a request to {request.url}")

    def watch_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    context.on("request", watch_request)
    page = await context.new_page()
    page.on("console", watch_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await page.evaluate("localStorage.clear()")
    await page.close()
    context.remove_listener("request", watch_request)
    assert complaints == []


async def authorize(page: Page, headers: Headers) -> None:
    """Fill the dialog in so that these headers are sent."""
    await page.get_by_role("button", name="Authorize").click()
    for name, value in headers.items():
        form = page.locator(".modal-ux form", has_text=f"{SCHEMES[name]} (")
        await form.get_by_role("textbox").fill(value.removeprefix("Bearer "))
        await form.get_by_role("button", name="Apply credentials").click()
    await page.locator(".modal-ux").get_by_role("button", name="Close").first.click()


async def try_out(page: Page, operation: str, *, body: object = None, **parameters: int) -> tuple[str, Any]:
    """Fill the form of an operation in, execute it, and return the status and the JSON that the page shows."""
    form = page.locator(f"#operations-{operation}")
    await form.locator(".opblock-summary").click()
    await form.get_by_role("button", name="Try it out").click()
    for name, value in parameters.items():
        await form.get_by_placeholder(name).fill(str(value))
    if body is not None:
        await form.get_by_role("textbox").last.fill(json.dumps(body))
    await form.get_by_role("button", name="Execute").click()
    answer = form.locator(".live-responses-table tbody tr")
    status = await answer.locator(".response-col_status").inner_text()
    if status == "204":
        return status, None
    return status, json.loads(await answer.locator(".highlight-code code").inner_text())


async def test_a_token_that_is_pasted_at_once_lands_in_its_field(page: Page, sign_in: SignIn) -> None:
    token = (await sign_in())["Authorization"].removeprefix("Bearer ")
    await page.goto("/")

    await page.get_by_role("button", name="Authorize").click()
    field = page.locator(".modal-ux form", has_text=f"{SCHEMES['Authorization']} (").get_by_role("textbox")
    await expect(field).to_be_focused()
    await page.keyboard.insert_text(token)
    await page.keyboard.press("Enter")
    await page.locator(".modal-ux").get_by_role("button", name="Close").first.click()

    assert await try_out(page, "history-listConversations") == ("200", [])


async def test_a_signed_in_developer_sends_a_message_and_finds_it_in_the_list(page: Page, sign_in: SignIn) -> None:
    await page.goto("/docs")
    await authorize(page, await sign_in())

    status, answer = await try_out(page, "chat-sendMessage", body={"message": "Good morning!"})
    _, conversations = await try_out(page, "history-listConversations")

    assert (status, answer["assistant_message"]) == ("200", "Echo: Good morning!")
    assert [conversation["id"] for conversation in conversations] == [answer["conversation_id"]]


async def test_each_request_for_a_conversation_can_be_tried_out(page: Page, sign_in: SignIn) -> None:
    await page.goto("/docs")
    await authorize(page, await sign_in())
    _, sent = await try_out(page, "chat-sendMessage")
    conversation_id = sent["conversation_id"]

    read = await try_out(page, "history-getConversation", conversation_id=conversation_id)
    renamed = await try_out(page, "history-renameConversation", conversation_id=conversation_id, body={"title": "Mine"})
    deleted = await try_out(page, "history-deleteConversation", conversation_id=conversation_id)

    assert (read[0], len(read[1]["messages"])) == ("200", 2)
    assert (renamed[0], renamed[1]["title"]) == ("200", "Mine")
    assert deleted == ("204", None)


@pytest.mark.usefixtures("database")
async def test_a_trusted_services_developer_opens_a_conversation_and_stores_messages(page: Page) -> None:
    await page.goto("/docs")
    await authorize(page, {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"})

    opened = await try_out(page, "trusted_services-createConversation", body={"title": "Mine"})
    conversation_id = opened[1]["id"]
    stored = await try_out(page, "trusted_services-appendMessages", conversation_id=conversation_id)

    assert (opened[0], opened[1]["title"]) == ("201", "Mine")
    assert (stored[0], [message["role"] for message in stored[1]]) == (
        "201",
        ["user", "assistant", "tool", "assistant"],
    )


async def test_the_health_of_the_service_can_be_tried_out_without_a_token(page: Page) -> None:
    await page.goto("/docs")

    assert await try_out(page, "health-getHealth") == ("200", {"status": "healthy", "service": "ai-agent"})
    assert await try_out(page, "health-getReadiness") == ("200", {"status": "ready", "service": "ai-agent"})


async def test_the_token_outlives_a_reload(page: Page, sign_in: SignIn) -> None:
    await page.goto("/docs")
    await authorize(page, await sign_in())

    await page.reload()

    assert await try_out(page, "history-listConversations") == ("200", [])


async def test_the_page_also_runs_behind_a_proxy_that_strips_a_prefix(
    page: Page, start_service: StartService, sign_in: SignIn
) -> None:
    service = start_service("--root-path=/chat-service")

    async def strip(route: Route) -> None:
        path = route.request.url.partition("/chat-service")[2]
        await route.fulfill(response=await route.fetch(url=service.url + path))

    await page.route("**/*", lambda route: route.abort())
    await page.route("**/chat-service/**", strip)
    await page.goto("/chat-service/docs")
    await authorize(page, await sign_in())

    assert await try_out(page, "history-listConversations") == ("200", [])


def test_the_page_may_run_only_the_services_own_scripts_and_nobody_may_frame_it(service_url: str) -> None:
    policy = httpx.get(f"{service_url}/docs").headers["Content-Security-Policy"].split("; ")

    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in str(policy)


def test_the_files_of_the_page_are_typed_and_kept_for_a_year(service_url: str) -> None:
    page = httpx.get(f"{service_url}/docs").text

    files = [httpx.get(f"{service_url}/{path}") for path in re.findall(r'(?:href|src)="(docs/[^"]+)"', page)]

    assert {file.url.path.rpartition("/")[2]: file.headers["content-type"] for file in files} == {
        "swagger-ui.css": "text/css; charset=utf-8",
        "index.css": "text/css; charset=utf-8",
        "favicon-32x32.png": "image/png",
        "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
        "docs.js": "text/javascript; charset=utf-8",
    }
    assert {file.headers["cache-control"] for file in files} == {"public, max-age=31536000, immutable"}


def test_there_is_no_second_documentation_page(service_url: str) -> None:
    assert httpx.get(f"{service_url}/redoc").status_code == 404
