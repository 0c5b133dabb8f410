"""The page in `examples/web`: conversations as they are stored, shown, renamed and deleted.

`SCREENSHOT=examples/web/screenshot.png uv run pytest -n 0 tests/system/web/test_web_conversations.py -k picture` takes
the README's picture anew.
"""

import asyncio
import os
import subprocess
from pathlib import Path

import asyncpg
import httpx
from playwright.async_api import Page, Route, expect

from tests.support.proxy import Proxy
from tests.support.service import SERVICE_TOKEN
from tests.support.web import WEB, choose, conversations, log, rename, replied, say, stored, texts


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


async def test_an_address_of_no_conversation_begins_a_new_one_and_says_why(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await page.evaluate("location.hash = '2147483647'")
    await page.reload()
    await expect(page.locator("aside").get_by_role("alert")).to_contain_text("not found")

    await say(page, "Good morning!")

    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_changed_address_opens_its_conversation_and_so_does_going_back(
    page: Page, everyone: asyncpg.Connection
) -> None:
    addresses = {}
    for text in ("First", "Second"):
        await page.get_by_role("button", name="New conversation").click()
        await say(page, text)
        addresses[text] = await page.evaluate("location.hash")

    await page.evaluate(f"location.hash = '{addresses['First']}'")
    await expect(log(page)).to_have_text("FirstEcho: First")
    assert await page.evaluate("location.hash") == addresses["First"]
    await page.go_back()
    await expect(log(page)).to_have_text("SecondEcho: Second")
    await page.evaluate("location.hash = '2147483647'")
    await expect(page.locator("aside").get_by_role("alert")).to_contain_text("not found")
    await expect(log(page)).to_have_text("SecondEcho: Second")
    await say(page, "Third")

    assert await texts(everyone) == [["First", "Echo: First"], ["Second", "Echo: Second", "Third", "Echo: Third"]]


async def test_the_page_stays_where_a_message_was_sent_although_another_conversation_is_being_read(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await say(page, "First")
    await page.get_by_role("button", name="New conversation").click()
    await say(page, "Second")
    held: asyncio.Future[Route] = asyncio.get_running_loop().create_future()

    def hold(route: Route) -> None:
        held.set_result(route)

    await page.route("**/api/conversations/*", hold, times=1)

    await conversations(page).filter(has_text="First").click()
    route = await held
    await say(page, "Third")
    async with page.expect_response("**/api/conversations/*"):
        await route.continue_()
    await say(page, "Fourth")

    said = [f"{text}Echo: {text}" for text in ("Second", "Third", "Fourth")]
    await expect(log(page)).to_have_text("".join(said))
    assert [len(said) for said in await texts(everyone)] == [2, 6]


async def test_a_list_of_several_pages_is_shown_whole(page: Page, everyone: asyncpg.Connection) -> None:
    await everyone.execute("""
        INSERT INTO conversations (user_id, title, created_at, updated_at)
        SELECT id, n, now() + n * interval '1 second', now() + n * interval '1 second'
        FROM "user", generate_series(1, 1001) AS n
    """)
    await page.reload()

    await expect(conversations(page)).to_have_count(1001)
    await expect(conversations(page).last).to_have_text("1")


async def test_a_blank_title_is_refused_and_a_rename_keeps_the_focus_on_its_conversation(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await say(page, "Good morning!")
    await choose(page, 0, "Rename")
    await page.get_by_label("Title").fill("  ")
    await page.get_by_label("Title").press("Enter")
    await expect(page.get_by_label("Title")).to_have_value("  ")
    assert await stored(everyone) == [("ada@example.com", "Good morning!", ["Good morning!", "Echo: Good morning!"])]

    await page.get_by_label("Title").fill("Greetings")
    await page.get_by_label("Title").press("Enter")

    await expect(conversations(page)).to_have_text("Greetings")
    await expect(conversations(page)).to_be_focused()


async def test_a_rename_that_fails_keeps_the_title_in_its_form_and_says_why(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await choose(page, 0, "Rename")
    await page.get_by_label("Title").fill("Greetings")
    await page.get_by_label("Title").press("Enter")

    problem = page.locator("form").get_by_role("alert")
    await expect(problem).to_contain_text("Not renamed: The chat service does not answer at ")
    await expect(page.get_by_label("Title")).to_have_value("Greetings")
    await network.forward()
    await page.get_by_role("button", name="Save").click()

    await expect(conversations(page)).to_have_text(["Greetings"])
    await expect(problem).to_have_count(0)
    assert await stored(everyone) == [("ada@example.com", "Greetings", ["Good morning!", "Echo: Good morning!"])]


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
        {"role": "user", "content": "Thank you!"},
        {"role": "assistant", "content": "You are welcome. Have a good trip!"},
    ]
    headers = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": await database.fetchval('SELECT id FROM "user"')}
    async with httpx.AsyncClient(base_url=service_url, headers=headers) as agent:
        made = (await agent.post("/api/conversations", json={"title": "The train to London"})).json()
        stored = await agent.post(f"/api/conversations/{made['id']}/messages", json=messages)
        assert stored.status_code == 201, stored.text
    await page.evaluate(f"location.hash = '{made['id']}'")
    await page.reload()


async def test_the_picture_of_the_readme_is_small(
    page: Page, everyone: asyncpg.Connection, service_url: str, tmp_path: Path
) -> None:
    for text in ("Why is the sky blue?", "What rhymes with orange?"):
        await page.get_by_role("button", name="New conversation").click()
        await say(page, text)
        await rename(page, text)
    await open_agents_conversation(page, everyone, service_url)
    await page.get_by_text("next_train").click()

    picture = await page.screenshot(path=os.environ.get("SCREENSHOT", tmp_path / "screenshot.png"), scale="css")

    assert len(picture) < 100_000
