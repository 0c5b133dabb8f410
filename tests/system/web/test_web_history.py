"""The page in `examples/web`: a long history is shown from its end, and the messages before it on request."""

import asyncpg
from playwright.async_api import Locator, Page, expect

from tests.support.proxy import Proxy
from tests.support.web import AWAY, composer, conversations, log, replied, say, send, texts


async def test_a_long_conversation_shows_its_newest_messages_and_the_earlier_ones_page_by_page(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await open_long_conversation(page, everyone, turns=120)
    await expect(articles(page)).to_have_text(said(71, 120))

    await earlier(page).click()
    await expect(articles(page)).to_have_text(said(21, 120))
    await say(page, "And now?")
    await expect(articles(page)).to_have_text([*said(21, 120), "And now?", "Echo: And now?"])
    await earlier(page).click()

    await expect(articles(page)).to_have_text([*said(1, 120), "And now?", "Echo: And now?"])
    await expect(earlier(page)).to_have_count(0)
    assert await texts(everyone) == [[*said(1, 120), "And now?", "Echo: And now?"]]


async def test_the_message_that_is_read_stays_in_its_place_when_earlier_ones_come(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await open_long_conversation(page, everyone, turns=120)
    first = articles(page).filter(has_text="Question 71.").first
    await earlier(page).scroll_into_view_if_needed()
    await expect(first).to_be_in_viewport()
    before = await first.bounding_box()

    await earlier(page).click()
    await expect(articles(page)).to_have_text(said(21, 120))

    after = await first.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) < 2


async def test_a_turn_that_a_page_cuts_in_two_is_shown_whole_with_the_earlier_page(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await open_long_conversation(page, everyone, turns=1)
    call = '{"type": "function_call", "call_id": "1", "name": "next_train", "arguments": "{}"}'
    output = '{"type": "function_call_output", "call_id": "1"}'
    rows = [
        ("user", "When?", None),
        ("assistant", "", call),
        ("tool", "09:30", output),
        ("assistant", "At 09:30.", None),
    ]
    for role, text, metadata in rows:
        await store(everyone, role, text, metadata)
    await store_turns(everyone, 2, 50)
    await page.reload()
    await expect(articles(page)).to_have_text(["At 09:30.", *said(2, 50)])

    await earlier(page).click()

    whole = [*said(1, 1), "When?", "next_train done{}09:30At 09:30.", *said(2, 50)]
    await expect(articles(page)).to_have_text(whole)


async def test_a_message_is_taken_back_from_between_the_earlier_ones_and_stored_once(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await open_long_conversation(page, everyone, turns=120)
    await earlier(page).click()
    await expect(articles(page)).to_have_text(said(21, 120))
    network.refuse()
    await send(page, "And now?")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await network.forward()

    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("And now?")
    await expect(articles(page)).to_have_text(said(21, 120))
    await composer(page).press("Enter")

    await replied(page, "And now?")
    await expect(articles(page)).to_have_text([*said(21, 120), "And now?", "Echo: And now?"])
    assert await texts(everyone) == [[*said(1, 120), "And now?", "Echo: And now?"]]


async def test_a_message_whose_response_was_lost_is_not_taken_back_and_not_sent_twice(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await open_long_conversation(page, everyone, turns=120)
    for action in ("Take back", "Try again"):
        network.lose_answer(action.encode(), "reset")
        await send(page, action)
        await expect(page.locator(".unsent p")).to_have_text(AWAY)
        await network.forward()
        await page.locator(".unsent").get_by_role("button", name=action).click()
        await expect(page.locator(".unsent")).to_have_count(0)
        await replied(page, action)

    after = ["Take back", "Echo: Take back", "Try again", "Echo: Try again"]
    await expect(composer(page)).to_have_value("")
    await expect(articles(page)).to_have_text([*said(71, 120), *after])
    assert await texts(everyone) == [[*said(1, 120), *after]]


async def test_a_message_is_taken_back_although_another_device_went_on_meanwhile(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await open_long_conversation(page, everyone, turns=60)
    network.refuse()
    await send(page, "And now?")
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await store_turns(everyone, 61, 61)
    await network.forward()

    await page.get_by_role("button", name="Take back").click()

    await expect(composer(page)).to_have_value("And now?")
    await expect(articles(page)).to_have_text(said(11, 61))
    assert await texts(everyone) == [said(1, 61)]


async def test_a_message_that_a_reload_sends_on_is_shown_once_after_its_history(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await open_long_conversation(page, everyone, turns=120)
    network.refuse()
    await send(page, "And now?")
    await page.reload()
    await expect(page.locator(".unsent p")).to_have_text(AWAY)
    await network.forward()
    await page.locator("aside").get_by_role("button", name="Try again").click()
    await expect(log(page)).to_have_text("".join([*said(71, 120), "And now?"]))

    await earlier(page).click()
    await expect(log(page)).to_have_text("".join([*said(21, 120), "And now?"]))
    await page.locator(".unsent").get_by_role("button", name="Try again").click()

    await replied(page, "And now?")
    await expect(articles(page)).to_have_text([*said(21, 120), "And now?", "Echo: And now?"])
    assert await texts(everyone) == [[*said(1, 120), "And now?", "Echo: And now?"]]


async def test_earlier_messages_that_could_not_be_read_are_read_by_another_try(
    page: Page, everyone: asyncpg.Connection, network: Proxy
) -> None:
    await open_long_conversation(page, everyone, turns=60)
    network.refuse()
    await earlier(page).click()
    await expect(page.locator("aside").get_by_role("alert")).to_contain_text("The chat service does not answer at ")
    await expect(articles(page)).to_have_text(said(11, 60))

    await network.forward()
    await earlier(page).click()

    await expect(articles(page)).to_have_text(said(1, 60))
    await expect(page.locator("aside").get_by_role("alert")).to_have_count(0)


async def test_earlier_messages_that_come_after_another_conversation_was_opened_stay_in_their_own(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await say(page, "Good morning!")
    await open_long_conversation(page, everyone, turns=120)

    await earlier(page).click()
    await conversations(page).filter(has_text="Good morning!").click()
    await expect(articles(page)).to_have_text(["Good morning!", "Echo: Good morning!"])
    await expect(earlier(page)).to_have_count(0)
    await conversations(page).filter(has_text="Long").click()

    await expect(articles(page)).to_have_text(said(71, 120))


def articles(page: Page) -> Locator:
    return log(page).get_by_role("article")


def earlier(page: Page) -> Locator:
    return page.get_by_role("button", name="Earlier messages")


def said(first: int, last: int) -> list[str]:
    return [text for n in range(first, last + 1) for text in (f"Question {n}.", f"Answer {n}.")]


async def open_long_conversation(page: Page, database: asyncpg.Connection, turns: int) -> None:
    conversation = await database.fetchval("""
        INSERT INTO conversations (user_id, title, created_at, updated_at)
        SELECT id, 'Long', now(), now() FROM "user" RETURNING id
    """)
    await store_turns(database, 1, turns)
    await page.evaluate(f"location.hash = '{conversation}'")
    await page.reload()
    await expect(log(page)).to_contain_text(f"Answer {turns}.")


async def store_turns(database: asyncpg.Connection, first: int, last: int) -> None:
    """Store these turns in the conversation that is the newest."""
    for role, n in ((role, n) for n in range(first, last + 1) for role in ("user", "assistant")):
        await store(database, role, f"{'Question' if role == 'user' else 'Answer'} {n}.", None)


async def store(database: asyncpg.Connection, role: str, text: str, metadata: str | None) -> None:
    await database.execute(
        """
        INSERT INTO messages (conversation_id, user_id, role, content, metadata, created_at)
        SELECT id, user_id, $1, $2, $3, clock_timestamp() FROM conversations ORDER BY id DESC LIMIT 1
        """,
        role,
        text,
        metadata,
    )
