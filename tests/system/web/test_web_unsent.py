"""The page in `examples/web`: messages that could not be sent keep their text, say why, and are stored once."""

import asyncpg
from playwright.async_api import Page, Route, expect

from tests.support.proxy import Proxy
from tests.support.web import AWAY, choose, composer, conversations, log, replied, say, send, texts


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


async def test_a_wide_screen_says_once_what_could_not_be_read(page: Page, network: Proxy) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await page.reload()

    reason = page.get_by_text("The chat service does not answer at ").filter(visible=True)

    await expect(reason).to_have_count(1)
    await send(page, "Are you there?")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("Are you there?")
    await expect(reason).to_have_count(1)


async def test_the_list_marks_a_conversation_until_its_message_is_sent_or_taken_back(
    page: Page, network: Proxy
) -> None:
    network.refuse()
    for text in ("First", "Second"):
        await page.get_by_role("button", name="New conversation").click()
        await send(page, text)
        await expect(page.locator(".unsent p")).to_have_text(AWAY)
    marked = page.locator(".thread-item", has_text="not sent")
    await expect(marked).to_have_count(2)

    await network.forward()
    await page.locator(".unsent").get_by_role("button", name="Try again").click()
    await replied(page, "Second")
    await expect(marked.locator(".thread-title")).to_have_text(["First"])
    await conversations(page).filter(has_text="First").click()
    await page.get_by_role("button", name="Take back").click()

    await expect(marked).to_have_count(0)
    await expect(conversations(page)).to_have_text(["Second"])
