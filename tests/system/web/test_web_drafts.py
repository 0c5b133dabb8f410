"""The page in `examples/web`: what was typed and not sent stays with its conversation."""

import asyncpg
from playwright.async_api import Page, expect

from tests.support.proxy import Proxy
from tests.support.web import AWAY, composer, conversations, fill_in_account, log, replied, say, send, texts


async def test_a_draft_waits_in_its_conversation_and_after_a_reload(page: Page) -> None:
    await say(page, "Good morning!")
    await composer(page).fill("Are you")
    await page.get_by_role("button", name="New conversation").click()
    await expect(log(page)).to_be_empty()
    await expect(composer(page)).to_have_value("")
    await composer(page).fill("Where is")

    await conversations(page).click()
    await expect(composer(page)).to_have_value("Are you")
    await page.reload()
    await expect(composer(page)).to_have_value("Are you")
    await page.get_by_role("button", name="New conversation").click()

    await expect(composer(page)).to_have_value("Where is")


async def test_a_text_that_was_sent_is_a_draft_no_longer(page: Page, everyone: asyncpg.Connection) -> None:
    await say(page, "Good morning!")
    await page.get_by_role("button", name="New conversation").click()
    await expect(composer(page)).to_have_value("")
    await conversations(page).click()
    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
    await say(page, "Are you there?")
    await page.reload()

    await expect(log(page)).to_contain_text("Are you there?")
    await expect(composer(page)).to_have_value("")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!", "Are you there?", "Echo: Are you there?"]]


async def test_a_draft_outlives_a_user_session_that_ended_elsewhere(page: Page, everyone: asyncpg.Connection) -> None:
    await composer(page).fill("Good morning, it is")
    await everyone.execute("DELETE FROM user_sessions")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # As when a tab is shown again.

    await page.get_by_role("button", name="I have an account").click()
    await fill_in_account(page)
    await page.get_by_role("button", name="Sign in").click()

    await expect(composer(page)).to_have_value("Good morning, it is")


async def test_a_message_that_is_taken_back_joins_what_was_typed_meanwhile(page: Page, network: Proxy) -> None:
    network.refuse()
    await send(page, "Good morning!")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await composer(page).fill("Are you there?")

    await page.get_by_role("button", name="Take back").click()

    await expect(composer(page)).to_have_value("Good morning!\nAre you there?")


async def test_a_message_of_a_conversation_that_another_tab_deleted_is_taken_back_into_a_new_one(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await say(page, "Good morning!")
    await everyone.execute("DELETE FROM conversations")
    await send(page, "Are you there?")
    reason = "Not sent: Conversation not found. It was deleted: “Take back” puts the text into a new one."
    await expect(page.locator(".unsent p")).to_have_text(reason)
    await composer(page).fill("I am here.")

    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("Are you there?\nI am here.")
    await expect(log(page)).to_be_empty()
    await expect(page.locator(".unsent")).to_have_count(0)
    await expect(conversations(page)).to_have_count(0)
    await say(page, "Are you there?")
    await page.reload()

    await expect(log(page)).to_have_text("Are you there?Echo: Are you there?")
    await expect(composer(page)).to_have_value("")
    assert await texts(everyone) == [["Are you there?", "Echo: Are you there?"]]


async def test_a_message_whose_conversation_was_deleted_before_another_try_is_sent_in_a_new_one(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    network.lose_answer(b"Good morning!", "reset")
    await send(page, "Good morning!")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await network.forward()
    await everyone.execute("DELETE FROM conversations")
    await page.locator(".unsent").get_by_role("button", name="Try again").click()
    await expect(page.locator(".unsent p")).to_contain_text("It was deleted")

    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("Good morning!")
    await composer(page).press("Enter")

    await replied(page, "Good morning!")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]
