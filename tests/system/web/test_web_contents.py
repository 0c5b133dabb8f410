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
