"""The page in `examples/web`: who is signed in, and sees what is theirs."""

import asyncpg
import httpx
from playwright.async_api import Page, expect

from tests.support.proxy import Proxy
from tests.support.web import AWAY, conversations, fill_in_account, log, replied, say, send, texts


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


async def test_a_failed_sign_up_says_why_until_the_other_form_is_chosen(page: Page) -> None:
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Name").fill("Ada Lovelace")
    await fill_in_account(page)
    await page.get_by_role("button", name="Sign up").click()
    await expect(page.get_by_role("alert")).to_have_text("User already exists. Use another email.")

    await page.get_by_role("button", name="I have an account").click()
    await expect(page.get_by_role("alert")).to_have_count(0)
    await page.get_by_role("button", name="Sign in").click()

    await expect(page.get_by_text("Ada Lovelace")).to_be_visible()


async def test_the_next_person_in_the_same_tab_sees_nothing_of_the_one_before(page: Page, network: Proxy) -> None:
    await say(page, "Good morning!")
    network.refuse()
    await send(page, "Are you there?")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await network.forward()
    await page.get_by_role("button", name="Sign out").click()

    await page.get_by_label("Name").fill("Grace Hopper")
    await page.get_by_label("Email").fill("grace@example.com")
    await page.get_by_label("Password").fill("correct horse")
    await page.get_by_role("button", name="Sign up").click()

    await expect(page.get_by_text("Grace Hopper")).to_be_visible()
    await expect(log(page)).to_be_empty()
    await expect(conversations(page)).to_have_count(0)
    await expect(page.get_by_role("alert")).to_have_count(0)
    assert await page.evaluate("location.hash") == ""
    await page.reload()
    await expect(page.get_by_text("What is on your mind?")).to_be_visible()
    await expect(conversations(page)).to_have_count(0)


async def test_a_message_outlives_the_session_that_ended_elsewhere(page: Page, everyone: asyncpg.Connection) -> None:
    await say(page, "Good morning!")
    await everyone.execute("DELETE FROM user_sessions")
    await send(page, "Are you there?")
    await expect(page.locator(".unsent p")).to_have_text("Not sent: Your session has ended. Sign in again.")

    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="I have an account").click()
    await fill_in_account(page)
    await page.get_by_role("button", name="Sign in").click()

    await replied(page, "Are you there?")
    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!", "Are you there?", "Echo: Are you there?"]]


async def test_a_form_keeps_what_is_in_it_while_another_tab_is_shown(page: Page) -> None:
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="I have an account").click()
    await page.get_by_label("Email").fill("ada@example.com")

    async with page.expect_response("**/api/auth/get-session"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # As when a tab is shown again.

    await expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    await expect(page.get_by_label("Email")).to_have_value("ada@example.com")


async def test_signing_in_and_out_says_when_the_server_cannot_be_reached(page: Page) -> None:
    await page.route("**/api/auth/sign-out", lambda route: route.abort())
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator(".account").get_by_role("alert")).to_have_text("The server cannot be reached. Try again.")

    await page.unroute("**/api/auth/sign-out")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="I have an account").click()
    await page.route("**/api/auth/sign-in/*", lambda route: route.abort())
    await fill_in_account(page)
    await page.get_by_role("button", name="Sign in").click()

    await expect(page.get_by_role("alert")).to_have_text("The server cannot be reached. Try again.")
    await expect(page.get_by_role("button", name="Sign in")).to_be_enabled()


async def test_whoever_is_signed_in_is_not_shown_the_form_while_the_session_cannot_be_read(page: Page) -> None:
    await say(page, "Good morning!")
    await page.route("**/api/auth/get-session", lambda route: route.fulfill(status=500))
    await page.reload()
    await expect(page.get_by_role("alert")).to_contain_text("Whether you are signed in is not known: ")
    await expect(page.get_by_role("heading", name="Create an account")).to_have_count(0)

    await page.unroute("**/api/auth/get-session")
    await page.get_by_role("button", name="Try again").click()

    await expect(log(page)).to_have_text("Good morning!Echo: Good morning!")
