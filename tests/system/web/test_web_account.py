"""The page in `examples/web`: who may see it, and how people leave it."""

import httpx
from playwright.async_api import Page, expect

from tests.support.web import conversations, fill_in_account, log, say


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
