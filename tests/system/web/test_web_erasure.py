"""The page in `examples/web`: a person's data goes with the account, and never after it."""

import asyncpg
from playwright.async_api import Page, expect

from tests.support.proxy import Proxy
from tests.support.web import fill_in_account, say, stored


async def test_an_account_goes_with_everything_that_is_stored_of_its_person(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await say(page, "Good morning!")

    page.once("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete account").click()
    await expect(page.get_by_role("heading", name="Create an account")).to_be_visible()

    assert (await every_row(everyone)).keys() == {"idempotency_keys"}  # They hold no text.
    await page.get_by_role("button", name="I have an account").click()
    await fill_in_account(page)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("Invalid email or password")


async def test_whoever_does_not_confirm_keeps_the_account(page: Page, everyone: asyncpg.Connection) -> None:
    await say(page, "Good morning!")

    page.once("dialog", lambda dialog: dialog.dismiss())
    await page.get_by_role("button", name="Delete account").click()
    await say(page, "I am still here.")

    said = ["Good morning!", "Echo: Good morning!", "I am still here.", "Echo: I am still here."]
    assert await stored(everyone) == [("ada@example.com", "Good morning!", said)]


async def test_an_account_stays_while_the_conversations_cannot_be_deleted_and_goes_by_another_try(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await say(page, "Good morning!")
    before = await every_row(everyone)
    page.on("dialog", lambda dialog: dialog.accept())

    network.refuse()
    await page.get_by_role("button", name="Delete account").click()
    problem = page.locator(".account").get_by_role("alert")
    await expect(problem).to_have_text("The conversations could not be deleted, so the account stays. Try again later.")
    assert await every_row(everyone) == before

    await network.forward()
    await page.get_by_role("button", name="Delete account").click()
    await expect(page.get_by_role("heading", name="Create an account")).to_be_visible()
    assert (await every_row(everyone)).keys() == {"idempotency_keys"}


async def test_only_whoever_signed_in_today_deletes_the_account(page: Page, everyone: asyncpg.Connection) -> None:
    await everyone.execute("""UPDATE user_sessions SET "createdAt" = now() - interval '25 hours'""")
    before = await every_row(everyone)

    page.once("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete account").click()

    problem = page.locator(".account").get_by_role("alert")
    await expect(problem).to_have_text("You signed in long ago. Sign out, sign in, and delete your account then.")
    assert await every_row(everyone) == before


async def every_row(database: asyncpg.Connection) -> dict[str, list[str]]:
    """The rows of each table as text, without the tables that are empty and the one of the migrations."""
    tables = await database.fetch("""
        SELECT table_name FROM information_schema.tables
        WHERE table_schema = 'public' AND table_name <> 'ai_agent_alembic_version'
    """)
    rows = {name: await database.fetch(f'SELECT t::text FROM "{name}" t') for (name,) in tables}
    return {name: sorted(text for (text,) in found) for name, found in rows.items() if found}
