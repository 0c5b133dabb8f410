"""Pages end at their size, and together give every message once."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from ai_agent.services.conversations import MAX_PAGE_BYTES, READ
from ai_agent.services.cursors import START
from tests.support.pages import TEXTS, add_texts
from tests.support.types import SignIn


async def read_pages(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> list[httpx.Response]:
    """Every page, the newest first, as `Link` leads to them."""
    pages = [await client.get(url, headers=headers)]
    while "next" in pages[-1].links:
        pages.append(await client.get(pages[-1].links["next"]["url"], headers=headers))
    return pages


def messages_of(pages: list[httpx.Response]) -> list[dict[str, Any]]:
    """The messages of all pages, the oldest first."""
    return [message for page in reversed(pages) for message in page.json()["messages"]]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_pages_that_end_at_their_size_give_every_message_once_and_in_order(
    text: str, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    id_ = await add_texts(database, messages=25, text=text, length=100_000)
    stored = [row["id"] for row in await database.fetch("SELECT id FROM messages ORDER BY id")]

    pages = await read_pages(client, f"/api/conversations/{id_}", await sign_in("ada"))

    shown = messages_of(pages)
    assert [message["id"] for message in shown] == stored
    assert {message["content"] for message in shown} == {text * 100_000}
    assert len(pages) > 1
    assert all(len(page.content) < MAX_PAGE_BYTES + 1000 for page in pages)
    # Nor does a page end early: the next message would not have fitted.
    assert len(pages[0].content) + len(json.dumps(text * 100_000, ensure_ascii=False).encode()) + 200 > MAX_PAGE_BYTES


async def test_metadata_counts_towards_the_size_of_a_page(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    id_ = await add_texts(database, messages=100, text="", length=0)
    await database.execute("UPDATE messages SET metadata = jsonb_build_object('n', id, 'text', repeat('a', 64000))")

    pages = await read_pages(client, f"/api/conversations/{id_}", await sign_in("ada"))

    assert [len(page.json()["messages"]) for page in pages] == [16] * 6 + [4]
    assert all(message["metadata"]["n"] == message["id"] for message in messages_of(pages))


async def test_a_page_ends_at_its_limit_or_its_size_whichever_comes_first(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    id_ = await add_texts(database, messages=50, text="\x01", length=20_000)

    headers = await sign_in("ada")
    pages = {n: await read_pages(client, f"/api/conversations/{id_}?limit={n}", headers) for n in (4, 10)}

    assert [len(page.json()["messages"]) for page in pages[4]] == [4] * 12 + [2]
    assert [len(page.json()["messages"]) for page in pages[10]] == [8] * 6 + [2]


async def test_a_message_larger_than_a_page_makes_a_page_of_its_own(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    id_ = await add_texts(database, messages=3, text="a", length=MAX_PAGE_BYTES + 1)

    pages = await read_pages(client, f"/api/conversations/{id_}", await sign_in("ada"))

    assert [len(page.json()["messages"]) for page in pages] == [1, 1, 1]


async def test_texts_beyond_the_page_are_not_read_from_the_disk(database: asyncpg.Connection) -> None:
    id_ = await add_texts(database, messages=300, text="", length=0)
    await database.execute("UPDATE messages SET content = $1 || id", secrets.token_hex(50_000))

    plan = await explain(database, id_)

    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    # With the rows and their indexes it is about six times the page; all the texts would be 29 times.
    assert MAX_PAGE_BYTES / 8192 < blocks < 8 * MAX_PAGE_BYTES / 8192


async def test_no_json_is_made_of_metadata_far_beyond_the_page(database: asyncpg.Connection) -> None:
    id_ = await add_texts(database, messages=1001, text="", length=0)
    await database.execute(f"UPDATE messages SET metadata = {METADATA}")

    plan = await explain(database, id_)

    # A page holds 18 of them, and those that come after are read with them, up to twenty at a time.
    assert 18 < messages_read(plan) <= 40


async def test_a_page_that_one_message_fills_makes_json_of_few_messages(database: asyncpg.Connection) -> None:
    id_ = await add_texts(database, messages=100, text="\x01", length=100_000)

    plan = await explain(database, id_)

    assert 1 < messages_read(plan) <= 3


# 57 kB, which hardly compress.
METADATA = "(SELECT jsonb_object_agg(n, md5(random()::text || messages.id)) FROM generate_series(1, 1300) AS n)"


async def explain(database: asyncpg.Connection, id_: int) -> dict[str, Any]:
    """How the server reads the newest page of Ada's conversation."""
    values = {"user_id": "ada", "conversation_id": id_, "limit": 1000, "max_bytes": MAX_PAGE_BYTES, **START._asdict()}
    arguments = [values[name] for name in READ.parameters]
    [explained] = json.loads(await database.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {READ.sql}", *arguments))
    plan: dict[str, Any] = explained["Plan"]
    return plan


def messages_read(plan: dict[str, Any]) -> float:
    return max(rows_read(node) for node in nodes(plan) if is_scan(node))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def is_scan(node: dict[str, Any]) -> bool:
    return "Scan" in node["Node Type"] and node.get("Relation Name") == "messages"


def rows_read(node: dict[str, Any]) -> float:
    return float(node["Actual Rows"]) * float(node["Actual Loops"])


async def test_numbers_that_are_longer_in_json_than_they_were_sent_fill_pages_and_hide_nothing(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    id_ = await add_texts(database, messages=60, text="", length=0)
    await database.execute("UPDATE messages SET metadata = (SELECT jsonb_agg(1e300) FROM generate_series(1, 200))")

    pages = await read_pages(client, f"/api/conversations/{id_}", await sign_in("ada"))

    assert {page.status_code for page in pages} == {200}
    assert len(pages) > 1
    assert all(len(page.content) < MAX_PAGE_BYTES + 1000 for page in pages)
    assert sum(len(page.json()["messages"]) for page in pages) == 60
