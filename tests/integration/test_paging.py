"""Pages of the list and of a conversation: together they show each row once, in order."""

import itertools
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from ai_agent.services.conversations import MAX_PAGE_BYTES
from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS, run_sql
from tests.support.pages import add_conversations, add_messages, pages
from tests.support.types import Chat, Headers, NewDatabase, SignIn

BAD_CURSOR = {"detail": "The cursor does not belong to this list; start again without one."}

# Page size and number of rows: with and without a rest, the longest page, and one that just holds everything.
SIZES = [(1, 5), (2, 9), (2, 10), (3, 10), (7, 21), (7, 50), (1000, 1000), (1000, 1001)]


@pytest.mark.parametrize(("limit", "count"), SIZES)
async def test_pages_of_the_list_hold_each_conversation_once_and_only_the_last_has_no_link(
    limit: int, count: int, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    seconds = [n % 4 for n in range(count)]  # Many rows with the same time.
    ids = await add_conversations(database, seconds)
    await add_conversations(database, seconds, "bob")

    shown = [page async for page in pages(client, await sign_in("ada"), f"/api/conversations?limit={limit}")]

    listed = [id_ for _, id_ in sorted(zip(seconds, ids, strict=True), reverse=True)]
    assert shown == [list(page) for page in itertools.batched(listed, limit)]


@pytest.mark.parametrize(("limit", "count"), SIZES)
async def test_pages_of_messages_go_from_new_to_old_and_ascend_inside(
    limit: int, count: int, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_, other] = await add_conversations(database, [0, 0])
    seconds = [n // 5 for n in range(count)]  # Five messages at a time.
    ids = await add_messages(database, id_, seconds)
    await add_messages(database, other, seconds)

    shown = [page async for page in pages(client, await sign_in("ada"), f"/api/conversations/{id_}?limit={limit}")]

    assert shown == [list(reversed(page)) for page in itertools.batched(reversed(ids), limit)]


async def test_pages_follow_each_other_in_whatever_style_the_database_writes_dates(
    migrated_database: NewDatabase,
) -> None:
    signed_in = "INSERT INTO user_sessions VALUES ('1', 'infinity', 'some-token', now(), now(), '', '', 'ada')"
    url = await migrated_database(USER_SESSIONS, signed_in)
    await run_sql(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET datestyle = 'German'")
    database = await asyncpg.connect(url)
    newer, older = await add_conversations(database, [2, 1])
    messages = await add_messages(database, newer, [1, 2])
    await database.close()
    headers = {"Authorization": "Bearer some-token"}

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        listed = [page async for page in pages(client, headers, "/api/conversations?limit=1")]
        read = [page async for page in pages(client, headers, f"/api/conversations/{newer}?limit=1")]

    assert listed == [[newer], [older]]
    assert read == [[messages[1]], [messages[0]]]


async def test_without_a_limit_a_page_holds_1000_rows(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_, *_] = await add_conversations(database, [0] * 1001)
    await add_messages(database, id_, [0] * 1001)
    headers = await sign_in("ada")

    listed = [len(page) async for page in pages(client, headers, "/api/conversations")]
    read = [len(page) async for page in pages(client, headers, f"/api/conversations/{id_}")]

    assert (listed, read) == ([1000, 1], [1000, 1])


async def test_a_page_of_long_messages_ends_early_and_skips_none(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_] = await add_conversations(database, [0])
    ids = await add_messages(database, id_, list(range(6)))
    sizes = [1, 1, MAX_PAGE_BYTES - 1000, MAX_PAGE_BYTES, 1, MAX_PAGE_BYTES]
    await database.executemany(
        "UPDATE messages SET content = repeat('x', $2) WHERE id = $1", list(zip(ids, sizes, strict=True))
    )

    shown = [page async for page in pages(client, await sign_in("ada"), f"/api/conversations/{id_}")]

    assert shown == [[ids[5]], [ids[4]], [ids[3]], ids[:3]]


async def test_two_turns_of_the_same_microsecond_have_one_order_in_the_list_and_in_its_pages(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in("ada")
    first, second = [(await chat(headers))["conversation_id"] for _ in range(2)]
    for at in await database.fetch("SELECT updated_at AS at FROM conversations"):
        await database.execute("UPDATE conversations SET updated_at = $1", at["at"])

        listed = await client.get("/api/conversations", headers=headers)
        paged = [page async for page in pages(client, headers, "/api/conversations?limit=1")]

        assert [row["id"] for row in listed.json()] == [second, first]
        assert paged == [[second], [first]]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1.5", "", str(2**64)])
async def test_a_limit_outside_1_to_1000_is_a_422(
    limit: str, chat: Chat, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    headers = await sign_in()
    id_ = (await chat(headers))["conversation_id"]

    answers = [
        await client.get(path, headers=headers, params={"limit": limit})
        for path in ("/api/conversations", f"/api/conversations/{id_}")
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert [answer.json()["detail"][0]["loc"] for answer in answers] == [["query", "limit"]] * 2


@pytest.mark.parametrize("cursor", ["", "x", "0", "null", "é", "A" * 32, "A" * 31, "A" * 10_000, "\x00", "../..", "%"])
async def test_a_garbage_cursor_is_a_422(cursor: str, chat: Chat, client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in()
    id_ = (await chat(headers))["conversation_id"]

    answers = [
        await client.get(path, headers=headers, params={"cursor": cursor})
        for path in ("/api/conversations", f"/api/conversations/{id_}")
    ]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(422, BAD_CURSOR)] * 2


async def test_a_cursor_fits_only_the_list_and_the_user_that_it_was_made_for(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ada, bob = await sign_in("ada"), await sign_in("bob")
    [first, second] = await add_conversations(database, [1, 2])
    [foreign, _] = await add_conversations(database, [1, 2], "bob")
    for id_, user_id in ((first, "ada"), (second, "ada"), (foreign, "bob")):
        await add_messages(database, id_, [1, 2], user_id)
    paths = ["/api/conversations", *(f"/api/conversations/{id_}" for id_ in (first, second))]
    cursors = [await next_cursor(client, ada, path) for path in paths]
    cursors += [
        await next_cursor(client, bob, path) for path in ("/api/conversations", f"/api/conversations/{foreign}")
    ]

    answers = [
        [(await client.get(path, headers=ada, params={"cursor": cursor})).status_code for cursor in cursors]
        for path in paths
    ]

    assert answers == [[200, 422, 422, 422, 422], [422, 200, 422, 422, 422], [422, 422, 200, 422, 422]]


async def test_a_cursor_with_any_character_changed_is_a_422(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    headers = await sign_in("ada")
    cursor = await next_cursor(client, headers, "/api/conversations")

    answers = [
        await client.get(
            "/api/conversations", headers=headers, params={"cursor": cursor[:n] + changed + cursor[n + 1 :]}
        )
        for n, original in enumerate(cursor)
        for changed in ("A" if original != "A" else "B", "", "~", "+")
    ]

    assert {(answer.status_code, answer.text) for answer in answers} == {(422, answers[0].text)}
    assert answers[0].json() == BAD_CURSOR


async def next_cursor(client: httpx.AsyncClient, headers: Headers, path: str) -> str:
    response = await client.get(path, headers=headers, params={"limit": 1})
    return httpx.URL(response.links["next"]["url"]).params["cursor"]
