"""The page in `examples/web`: replies and messages whose text a stranger may have written."""

import asyncpg
from playwright.async_api import Page, Request, expect

from tests.support.web import composer, log, say, send, texts


async def test_markup_of_a_reply_runs_nothing_fetches_nothing_and_keeps_the_page(page: Page) -> None:
    fetched: list[str] = []

    def note(request: Request) -> None:
        if "localhost" not in request.url:
            fetched.append(request.url)

    page.on("request", note)
    await send(
        page,
        "<img src=https://picture.example/1> ![a picture](https://picture.example/2) "
        "[a page](https://page.example/) [a script](javascript:alert(1))",
    )

    reply = page.locator(".assistant")
    await expect(reply).to_have_text("Echo: <img src=https://picture.example/1> a picture a page a script")
    await expect(log(page)).to_have_attribute("aria-busy", "false")
    links = await reply.locator("a").evaluate_all("links => links.map(({ href, target, rel }) => [href, target, rel])")
    assert links == [
        ["https://picture.example/1%3E", "_blank", "noopener noreferrer"],  # A bare address becomes a link.
        ["https://picture.example/2", "_blank", "noopener noreferrer"],
        ["https://page.example/", "_blank", "noopener noreferrer"],
    ]
    assert fetched == []


async def test_each_line_begins_where_its_script_begins_and_keeps_its_spaces(page: Page) -> None:
    said = "مرحبا!\nHello!\n    four spaces, and a line that is longer"
    await send(page, said)

    text = page.locator(".user p")
    await expect(text).to_have_text(said, use_inner_text=True)
    lefts = await text.evaluate("""(text) => [[0, 6], [7, 13]].map(([from, to]) => {
        const line = document.createRange();
        const node = document.createTreeWalker(text, NodeFilter.SHOW_TEXT).nextNode();
        line.setStart(node, from);
        line.setEnd(node, to);
        return line.getBoundingClientRect().left - text.getBoundingClientRect().left;
    })""")
    assert lefts[0] > 100
    assert lefts[1] == 0


async def test_a_text_beyond_every_bound_is_refused_with_the_reason_and_kept(
    page: Page, everyone: asyncpg.Connection
) -> None:
    await send(page, "a" * 1_100_000)
    reason = "Not sent: A message has at most 100000 characters: shorten it, or send it in parts."
    await expect(page.locator(".unsent p")).to_have_text(reason)

    await page.get_by_role("button", name="Take back").click()
    await expect(composer(page)).to_have_value("a" * 1_100_000)
    await say(page, "Good morning!")

    assert await texts(everyone) == [["Good morning!", "Echo: Good morning!"]]


async def test_a_table_of_a_reply_is_shown_as_one_and_stays_on_a_phones_screen(page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    wide = "platform" * 20

    await send(
        page, f"From ~9 to ~10:\n\n| Train | Leaves |\n| --- | ---: |\n| London | **09:30** |\n| Paris | {wide} |"
    )

    reply = page.locator(".assistant")
    await expect(log(page)).to_have_attribute("aria-busy", "false")
    await expect(reply.get_by_role("columnheader")).to_have_text(["Train", "Leaves"])
    await expect(reply.get_by_role("cell")).to_have_text(["London", "09:30", "Paris", wide])
    await expect(reply.locator("strong")).to_have_text("09:30")
    await expect(reply.locator("p")).to_have_text("Echo: From ~9 to ~10:")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
