"""Rows are stored, moved and deleted between two pages, and no row that stays is skipped or repeated."""

import asyncpg
import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.pages import add_conversations, add_messages, pages
from tests.support.types import Chat, SignIn


async def test_a_conversation_deleted_under_the_cursor_hides_no_other(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ids = await add_conversations(database, [1, 1, 1, 1, 1])
    headers = await sign_in("ada")
    following = pages(client, headers, "/api/conversations?limit=2")

    first = await anext(following)
    await client.delete(f"/api/conversations/{first[-1]}", headers=headers)

    assert [first, *[page async for page in following]] == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


async def test_a_message_deleted_under_the_cursor_hides_no_other(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_] = await add_conversations(database, [0])
    ids = await add_messages(database, id_, [1, 1, 1, 1, 1])
    following = pages(client, await sign_in("ada"), f"/api/conversations/{id_}?limit=2")

    first = await anext(following)
    await database.execute("DELETE FROM messages WHERE id = $1", first[0])

    assert [first, *[page async for page in following]] == [ids[3:], ids[1:3], ids[:1]]


async def test_a_turn_appended_between_two_pages_moves_only_its_conversation(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ids = await add_conversations(database, [1, 2, 3, 4, 5])
    headers = await sign_in("ada")
    following = pages(client, headers, "/api/conversations?limit=2")

    first = await anext(following)
    await chat(headers, "bump one that was shown", ids[4])
    await chat(headers, "bump one that was not", ids[1])
    await chat(headers, "begin another")

    assert [first, *[page async for page in following]] == [[ids[4], ids[3]], [ids[2], ids[0]]]


async def test_turns_appended_between_two_pages_leave_the_older_messages_where_they_are(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_] = await add_conversations(database, [0])
    ids = await add_messages(database, id_, [1, 2, 3, 4, 5])
    headers = await sign_in("ada")
    following = pages(client, headers, f"/api/conversations/{id_}?limit=3")

    first = await anext(following)
    await chat(headers, "more", id_)

    assert [first, *[page async for page in following]] == [ids[2:], ids[:2]]


SECONDS = st.lists(st.integers(0, 3), min_size=1, max_size=10)
# What happens before the next page, and to which row.
CHANGES = st.lists(st.tuples(st.sampled_from(["begin", "insert", "append", "delete"]), st.integers(0, 9)), max_size=3)
EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    database=None,
    # Each example has a user of its own, so they may share the app and its tables.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@EXAMPLES
@given(seconds=SECONDS, limit=st.integers(1, 4), changes=st.lists(CHANGES, max_size=6))
async def test_no_conversation_that_stayed_is_skipped_or_repeated(
    seconds: list[int],
    limit: int,
    changes: list[list[tuple[str, int]]],
    client: httpx.AsyncClient,
    chat: Chat,
    sign_in: SignIn,
    database: asyncpg.Connection,
) -> None:
    user_id = f"user-{await database.fetchval('SELECT count(*) FROM user_sessions')}"
    headers, ids = await sign_in(user_id), await add_conversations(database, seconds, user_id)
    stayed, changing, shown = set(ids), iter(changes), []

    async for page in pages(client, headers, f"/api/conversations?limit={limit}"):
        shown += page
        for change, n in next(changing, []):
            changed = ids[n % len(ids)]
            match change:
                case "begin":
                    await chat(headers)
                case "insert":
                    await add_conversations(database, [n % 4], user_id)
                case "delete":
                    await client.delete(f"/api/conversations/{changed}", headers=headers)
                    stayed.discard(changed)
                case "append":
                    await client.post(
                        "/api/chat", headers=headers, json={"message": "Hello", "conversation_id": changed}
                    )
                    stayed.discard(changed)

    assert len(shown) == len(set(shown))
    assert stayed <= set(shown)


@EXAMPLES
@given(seconds=SECONDS, limit=st.integers(1, 4), changes=st.lists(CHANGES, max_size=6))
async def test_no_message_that_stayed_is_skipped_or_repeated(
    seconds: list[int],
    limit: int,
    changes: list[list[tuple[str, int]]],
    client: httpx.AsyncClient,
    chat: Chat,
    sign_in: SignIn,
    database: asyncpg.Connection,
) -> None:
    user_id = f"user-{await database.fetchval('SELECT count(*) FROM user_sessions')}"
    headers, [id_] = await sign_in(user_id), await add_conversations(database, [0], user_id)
    ids = await add_messages(database, id_, seconds, user_id)
    stayed, changing, shown = set(ids), iter(changes), []

    async for page in pages(client, headers, f"/api/conversations/{id_}?limit={limit}"):
        shown += page
        for change, n in next(changing, []):
            match change:
                case "begin":
                    await chat(headers)
                case "insert":
                    await add_messages(database, id_, [n % 4], user_id)
                case "append":
                    await chat(headers, "Hello", id_)
                case "delete":
                    await database.execute("DELETE FROM messages WHERE id = $1", ids[n % len(ids)])
                    stayed.discard(ids[n % len(ids)])

    assert len(shown) == len(set(shown))
    assert stayed <= set(shown)
