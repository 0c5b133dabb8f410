"""The page in `examples/web`, in a real browser, with its better-auth server and the service on one database.

`SCREENSHOT=examples/web/screenshot.png uv run pytest -n 0 tests/system/test_web_example.py -k picture` takes the
README's picture anew.
"""

import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from tests.support.node import install_packages
from tests.support.proxy import Proxy, run_proxy
from tests.support.service import SERVICE_TOKEN, run_service
from tests.support.types import NewDatabase
from tests.support.web import (
    WEB,
    composer,
    conversations,
    fill_in_account,
    log,
    replied,
    run_web,
    say,
    send,
    sign_up,
    stored,
    texts,
)

AWAY = re.compile(r"Not sent: The chat service does not answer at http://127\.0\.0\.1:\d+\. Is it running\?")


@pytest.fixture(scope="module")
def node() -> tuple[str, str]:
    """The paths of `node` and `npm`, with the example's packages installed."""
    return install_packages(WEB)


@pytest.fixture(scope="module")
async def database_url(migrated_database: NewDatabase) -> str:
    """A database with every migration, in which better-auth makes its own tables."""
    return await migrated_database()


@pytest.fixture(scope="module")
def service_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"DATABASE_URL": database_url, "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_service(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service.url


@pytest.fixture(scope="module")
async def network(service_url: str) -> AsyncIterator[Proxy]:
    """What lies between the page's server and the service."""
    async with run_proxy(service_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


def test_the_sources_fit_the_contract_and_the_libraries_types(node: tuple[str, str]) -> None:
    checked = subprocess.run([node[1], "run", "check"], cwd=WEB, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_a_message_gets_its_reply_in_a_stream_and_found_after_a_reload(
    page: Page, everyone: asyncpg.Connection
) -> None:
    async with page.expect_response("**/api/chat") as response:
        await say(page, "Good morning!")
    received = await response.value
    await page.reload()

    assert received.headers["content-type"] == "text/event-stream; charset=utf-8"
    await replied(page, "Good morning!")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_title_is_cut_between_two_characters(page: Page, everyone: asyncpg.Connection) -> None:
    said = "a" * 59 + "😀 and more"

    await say(page, said)

    assert await stored(everyone) == [("ada@example.com", "a" * 59 + "😀", [said, f"Echo: {said}"])]


async def test_conversations_are_gone_on_with_renamed_and_deleted(page: Page, everyone: asyncpg.Connection) -> None:
    await say(page, "Good morning!")
    await rename(page, "Greetings")
    await page.get_by_role("button", name="New conversation").click()
    await expect(log(page)).to_be_empty()
    await say(page, "What is a monad?")
    await rename(page, "Monads")
    await expect(conversations(page)).to_have_text(["Monads", "Greetings"])

    await conversations(page).filter(has_text="Greetings").click()
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    await say(page, "How are you?")
    await expect(conversations(page)).to_have_text(["Greetings", "Monads"])
    page.once("dialog", lambda dialog: dialog.accept())
    await choose(page, 1, "Delete")
    await expect(conversations(page)).to_have_text(["Greetings"])

    assert await stored(everyone) == [
        (
            "ada@example.com",
            "Greetings",
            ["Good morning!", "Echo: Good morning!", "How are you?", "Echo: How are you?"],
        )
    ]


async def test_a_new_conversation_can_be_left_and_deleted_before_its_first_message_is_stored(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    network.refuse()
    await send(page, "First")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await page.get_by_role("button", name="New conversation").click()
    await expect(log(page)).to_be_empty()
    await network.forward()
    await say(page, "Second")

    await conversations(page).filter(has_text="First").click()
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    page.once("dialog", lambda dialog: dialog.accept())
    await choose(page, 0, "Delete")

    await expect(conversations(page)).to_have_count(1)
    await expect(log(page)).to_be_empty()
    assert await texts(everyone) == [["Second", "Echo: Second"]]


async def test_whoever_signs_out_is_out_and_finds_everything_again(page: Page, service_url: str) -> None:
    async with page.expect_request("**/api/chat") as sent:
        await say(page, "Good morning!")
    token = (await sent.value).headers["authorization"]

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Create an account")).to_be_visible()
    async with httpx.AsyncClient(base_url=service_url, headers={"Authorization": token}) as client:
        refused = await client.get("/api/conversations")
    await page.get_by_role("button", name="I have an account").click()
    await fill_in_account(page)
    await page.get_by_role("button", name="Sign in").click()
    await conversations(page).click()

    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    assert refused.status_code == 401


async def test_a_wrong_password_is_said(page: Page) -> None:
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="I have an account").click()
    await page.get_by_label("Email").fill("ada@example.com")
    await page.get_by_label("Password").fill("wrong horse")
    await page.get_by_role("button", name="Sign in").click()

    await expect(page.get_by_role("alert")).to_have_text("Invalid email or password")


async def test_a_message_that_could_not_be_sent_keeps_its_text_says_why_and_is_stored_once_in_the_end(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await send(page, "Are you there?")

    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await expect(log(page)).to_contain_text("Are you there?")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]

    await page.locator(".unsent").get_by_role("button", name="Try again").click()
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await network.forward()
    await page.locator(".unsent").get_by_role("button", name="Try again").click()

    await replied(page, "Are you there?")
    await expect(page.locator(".unsent")).to_have_count(0)
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!", "Are you there?", "Echo: Are you there?"]]


async def test_a_message_whose_response_was_lost_is_sent_again_and_stored_once(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    network.lose_answer(b"Good morning!", "reset")
    await send(page, "Good morning!")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]

    await network.forward()
    await page.locator(".unsent").get_by_role("button", name="Try again").click()

    await replied(page, "Good morning!")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    await expect(conversations(page)).to_have_count(1)
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_message_that_was_taken_back_is_in_the_composer_and_stored_once_if_it_is_sent_after_all(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    network.lose_answer(b"Good morning!", "reset")
    await send(page, "Good morning!")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await network.forward()

    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("Good morning!")
    await expect(log(page)).to_be_empty()
    await composer(page).press("Enter")

    await replied(page, "Good morning!")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_text_that_was_taken_back_and_sent_can_be_said_once_more(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    network.refuse()
    await send(page, "Good morning!")
    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("Good morning!")
    await network.forward()

    await say(page, "Good morning!")
    await say(page, "Good morning!")

    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!" * 2)
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"] * 2]


async def test_a_message_can_be_taken_back_while_the_service_is_away_and_is_not_sent_by_a_reload(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await send(page, "Are you there?")
    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("Are you there?")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")

    await network.forward()
    await page.reload()

    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_message_that_the_service_refuses_can_be_taken_back_and_changed(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await send(page, "a" * 100_001)
    await expect(page.locator(".unsent p")).to_have_text("Not sent: String should have at most 100000 characters")

    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("a" * 100_001)
    await say(page, "Good morning!")

    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_message_that_was_not_stored_survives_a_reload_and_is_stored_once(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    network.refuse()
    await send(page, "Good morning!")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)

    await page.reload()
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await expect(log(page)).to_have_text("Good morning!")
    await network.forward()
    await page.locator(".unsent").get_by_role("button", name="Try again").click()

    await replied(page, "Good morning!")
    await expect(conversations(page)).to_have_count(1)
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_each_message_that_was_not_stored_survives_a_reload_in_its_own_conversation(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await send(page, "Are you there?")
    for text in ("First", "Second"):
        await expect(page.locator(".unsent p")).to_have_text(AWAY)
        await page.get_by_role("button", name="New conversation").click()
        await send(page, text)
    await expect(page.locator(".unsent p")).to_have_text(AWAY)

    for _ in range(2):
        await page.reload()
        await expect(log(page)).to_have_text("Second")
        await expect(page.locator(".unsent p")).to_have_text(AWAY)
        await expect(conversations(page)).to_have_text(["First", "Second"])
    await network.forward()
    await page.locator("aside").get_by_role("button", name="Try again").click()
    await expect(conversations(page)).to_have_text(["First", "Second", "Good morning!"])
    for title, text in (("Good morning!", "Are you there?"), ("First", "First"), ("Second", "Second")):
        await conversations(page).filter(has_text=title).click()
        await expect(page.locator(".unsent p")).to_have_text(AWAY)
        await page.locator(".unsent").get_by_role("button", name="Try again").click()
        await replied(page, text)

    await expect(page.locator(".unsent")).to_have_count(0)
    await page.reload()
    await conversations(page).filter(has_text="Good morning!").click()
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!Are you there?Echo: Are you there?")
    assert await texts(everyone) == [
        ["Good morning!", "Echo: Good morning!", "Are you there?", "Echo: Are you there?"],
        ["First", "Echo: First"],
        ["Second", "Echo: Second"],
    ]


async def test_a_phone_says_what_could_not_be_read_and_keeps_the_address_and_the_message(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    await say(page, "Good morning!")
    address = f"#{await everyone.fetchval('SELECT id FROM conversations')}"
    network.refuse()
    await send(page, "Are you there?")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)

    problem = page.locator(".viewport > p[role=alert]")
    for _ in range(2):
        await page.reload()
        await expect(problem).to_be_in_viewport()
        await expect(problem).to_contain_text("The chat service does not answer at ")
        await expect(page.locator(".unsent p")).to_have_text(AWAY)
        await expect(log(page)).to_have_text("Are you there?")
        assert await page.evaluate("location.hash") == address
    await network.forward()
    await problem.get_by_role("button", name="Try again").click()
    await expect(problem).to_have_count(0)
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!Are you there?")
    await page.locator(".unsent").get_by_role("button", name="Try again").click()

    await replied(page, "Are you there?")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!Are you there?Echo: Are you there?")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!", "Are you there?", "Echo: Are you there?"]]


async def test_a_message_whose_history_could_not_be_read_is_taken_back_whole(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await send(page, "Are you there?")
    await page.reload()
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await network.forward()

    await page.get_by_role("button", name="Take back").click()

    await expect(composer(page)).to_have_value("Are you there?")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_an_address_of_no_conversation_begins_a_new_one_and_says_why(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await page.evaluate("location.hash = '2147483647'")
    await page.reload()
    await expect(page.locator("aside").get_by_role("alert")).to_contain_text("not found")

    await say(page, "Good morning!")

    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_page_that_is_left_before_the_response_came_shows_the_stored_turn_once(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await say(page, "Good morning!")
    network.lose_answer(b"Are you there?")
    await send(page, "Are you there?")
    await expect(log(page)).to_contain_text("Are you there?")
    await page.wait_for_timeout(300)
    await network.forward()
    await page.reload()

    await replied(page, "Are you there?")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!Are you there?Echo: Are you there?")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!", "Are you there?", "Echo: Are you there?"]]


async def test_a_stream_that_breaks_off_is_taken_up_by_another_try(page: Page, everyone: asyncpg.Connection) -> None:
    async def break_off(route: Route) -> None:
        whole = await (await route.fetch()).text()
        await route.fulfill(content_type="text/event-stream", body=whole.partition('data: {"type":"text-end"')[0])

    await page.route("**/api/chat", break_off, times=1)
    await send(page, "Good morning!")

    await expect(page.locator(".unsent p")).to_have_text("Not sent: The reply broke off.")
    await page.locator(".unsent").get_by_role("button", name="Try again").click()
    await replied(page, "Good morning!")
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    await expect(page.locator(".unsent")).to_have_count(0)
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_the_list_says_that_it_could_not_be_read_and_is_read_by_another_try(page: Page, network: Proxy) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await page.reload()
    problem = page.locator("aside").get_by_role("alert")
    await expect(problem).to_contain_text("The chat service does not answer at ")

    await network.forward()
    await problem.get_by_role("button", name="Try again").click()

    await expect(conversations(page)).to_have_count(1)
    await expect(problem).to_have_count(0)


async def test_an_agents_tool_calls_are_shown_with_what_went_in_and_what_came_out(
    page: Page, everyone: asyncpg.Connection, service_url: str
) -> None:
    await open_agents_conversation(page, everyone, service_url)

    await page.get_by_text("next_train").click()

    await expect(page.get_by_label("Input")).to_have_text('{\n  "to": "London"\n}')
    await expect(page.get_by_label("Output")).to_have_text("09:30, platform 4")
    await expect(page.locator("strong")).to_have_text("09:30")


async def open_agents_conversation(page: Page, database: asyncpg.Connection, service_url: str) -> None:
    """Let an agent of its own process store a conversation for Ada, and open it."""
    item = {"type": "function_call", "call_id": "1", "name": "next_train", "arguments": '{"to": "London"}'}
    output = {"type": "function_call_output", "call_id": "1", "output": "09:30, platform 4"}
    messages = [
        {"role": "user", "content": "When is the next train to London?"},
        {"role": "assistant", "content": "", "metadata": item},
        {"role": "tool", "content": "09:30, platform 4", "metadata": output},
        {"role": "assistant", "content": "The next one leaves at **09:30** from platform 4."},
    ]
    headers = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": await database.fetchval('SELECT id FROM "user"')}
    async with httpx.AsyncClient(base_url=service_url, headers=headers) as agent:
        made = (await agent.post("/api/conversations", json={"title": "The train to London"})).json()
        stored = await agent.post(f"/api/conversations/{made['id']}/messages", json=messages)
        assert stored.status_code == 201, stored.text
    await page.evaluate(f"location.hash = '{made['id']}'")
    await page.reload()


async def test_a_phone_has_the_list_in_a_drawer_and_nothing_beside_the_screen(page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    await say(page, "Good morning! " + "Donaudampfschifffahrtsgesellschaft" * 5)
    await expect(conversations(page)).not_to_be_visible()

    await page.get_by_role("button", name="Conversations").click()
    await expect(conversations(page)).to_be_in_viewport()
    await page.get_by_role("button", name="New conversation").click()

    await expect(conversations(page)).not_to_be_visible()
    await expect(composer(page)).to_be_in_viewport()
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_a_phones_drawer_closes_when_the_open_conversation_is_chosen(page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    await say(page, "Good morning!")
    await page.get_by_role("button", name="Conversations").click()
    await expect(conversations(page)).to_be_in_viewport()

    await conversations(page).click()

    await expect(conversations(page)).not_to_be_visible()
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")


async def test_the_picture_of_the_readme_is_small(
    page: Page, everyone: asyncpg.Connection, service_url: str, tmp_path: Path
) -> None:
    for text in ("Why is the sky blue?", "What rhymes with orange?"):
        await page.get_by_role("button", name="New conversation").click()
        await say(page, text)
        await rename(page, text)
    await open_agents_conversation(page, everyone, service_url)
    await page.get_by_text("next_train").click()
    await say(page, "Thank you!")

    picture = await page.screenshot(path=os.environ.get("SCREENSHOT", tmp_path / "screenshot.png"), scale="css")

    assert len(picture) < 100_000
