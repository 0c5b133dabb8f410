"""The page in `examples/web` on a phone."""

import asyncpg
from playwright.async_api import Page, expect

from tests.support.proxy import Proxy
from tests.support.web import AWAY, choose, composer, conversations, log, replied, say, send, texts


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


async def test_a_phones_drawer_closes_by_a_tap_beside_it_and_by_escape(page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    await say(page, "Good morning!")
    toggle = page.locator(".list-toggle")

    await toggle.click()
    await expect(conversations(page)).to_be_in_viewport()
    await page.mouse.click(340, 320)
    await expect(conversations(page)).not_to_be_visible()

    await toggle.click()
    await choose(page, 0, "Rename")
    await page.get_by_label("Title").press("Escape")
    await expect(conversations(page)).to_be_in_viewport()
    await page.keyboard.press("Escape")
    await expect(conversations(page)).not_to_be_visible()
    await expect(toggle).to_be_focused()
