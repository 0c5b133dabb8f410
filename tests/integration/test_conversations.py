from datetime import datetime
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from ai_agent.database.models import Conversation
from tests.support.rows import add
from tests.support.shapes import a_conversation
from tests.support.types import Chat, SignIn

NOT_FOUND = {"detail": "Conversation not found."}

BAD_TITLES = {
    "missing": ({}, "missing"),
    "null": ({"title": None}, "string_type"),
    "empty": ({"title": ""}, "string_too_short"),
    "blank": ({"title": "  "}, "value_error"),
    "201 characters": ({"title": "a" * 201}, "string_too_long"),
    "NUL": ({"title": "a\0b"}, "value_error"),
    "a number": ({"title": 7}, "string_type"),
}


async def test_the_list_is_empty_for_a_new_user(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    response = await client.get("/api/conversations", headers=await sign_in())

    assert (response.status_code, response.json()) == (200, [])
    assert "Link" not in response.headers


async def test_the_list_shows_the_callers_conversations_latest_first(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    ada, bob = await sign_in("ada"), await sign_in("bob")
    first, second = [(await chat(ada))["conversation_id"] for _ in range(2)]
    await chat(bob)
    await chat(ada, "again", first)

    response = await client.get("/api/conversations", headers=ada)

    assert response.status_code == 200
    assert response.json() == [a_conversation(id=first), a_conversation(id=second)]


async def test_conversations_of_the_same_time_are_listed_by_descending_id(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    at = datetime.fromisoformat("2026-11-22 09:30:12.5+05:00")
    await add(database, *(Conversation(id=n, user_id="ada", created_at=at, updated_at=at) for n in (5, 9, 7)))

    response = await client.get("/api/conversations", headers=await sign_in("ada"))

    shown = "2026-11-22T04:30:12.5+00:00"
    assert response.json() == [a_conversation(id=n, title=None, created_at=shown, updated_at=shown) for n in (9, 7, 5)]


async def test_a_conversation_is_read_back_whole_and_in_order(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers, "one"))["conversation_id"]
    await chat(headers, "two", conversation_id)
    ids = [row["id"] for row in await database.fetch("SELECT id FROM messages ORDER BY id")]

    response = await client.get(f"/api/conversations/{conversation_id}", headers=headers)

    said = [("user", "one"), ("assistant", "Echo: one"), ("user", "two"), ("assistant", "Echo: two")]
    assert response.status_code == 200
    messages = [
        {"id": id_, "role": role, "content": content, "metadata": None, "created_at": ANY}
        for id_, (role, content) in zip(ids, said, strict=True)
    ]
    assert response.json() == a_conversation(id=conversation_id, messages=messages)


async def test_stored_metadata_and_an_empty_content_are_shown_as_they_are(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers))["conversation_id"]
    await database.execute(
        "UPDATE messages SET role = 'tool', content = '', metadata = $1 WHERE role = 'assistant'",
        '{"tool_calls": [{"id": "call_1", "n": 1.50, "é": null}]}',
    )

    response = await client.get(f"/api/conversations/{conversation_id}", headers=headers)

    message = response.json()["messages"][1]
    assert (message["role"], message["content"]) == ("tool", "")
    assert message["metadata"] == {"tool_calls": [{"id": "call_1", "n": 1.5, "é": None}]}


async def test_a_conversation_without_messages_is_readable(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [conversation_id] = await add(database, Conversation(user_id="ada"))

    response = await client.get(f"/api/conversations/{conversation_id}", headers=await sign_in("ada"))

    assert response.json() == a_conversation(id=conversation_id, title=None, messages=[])


async def test_a_rename_changes_the_title_and_nothing_else(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers))["conversation_id"]
    before = dict((await database.fetch("SELECT * FROM conversations"))[0])
    listed = (await client.get("/api/conversations", headers=headers)).json()

    response = await client.patch(
        f"/api/conversations/{conversation_id}", headers=headers, json={"title": "Holiday plans 🏖"}
    )

    assert (response.status_code, response.json()) == (200, {**listed[0], "title": "Holiday plans 🏖"})
    assert dict((await database.fetch("SELECT * FROM conversations"))[0]) == {**before, "title": "Holiday plans 🏖"}


@pytest.mark.parametrize("title", ["a", "a" * 200, "🏖" * 200])
async def test_a_title_has_1_to_200_characters(
    title: str, chat: Chat, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers))["conversation_id"]

    response = await client.patch(f"/api/conversations/{conversation_id}", headers=headers, json={"title": title})

    assert (response.status_code, response.json()["title"]) == (200, title)


@pytest.mark.parametrize(("body", "problem"), BAD_TITLES.values(), ids=BAD_TITLES.keys())
async def test_a_bad_title_is_a_422_and_changes_nothing(
    body: dict[str, object],
    problem: str,
    chat: Chat,
    client: httpx.AsyncClient,
    sign_in: SignIn,
    database: asyncpg.Connection,
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers))["conversation_id"]
    [before] = await database.fetch("SELECT * FROM conversations")

    response = await client.patch(f"/api/conversations/{conversation_id}", headers=headers, json=body)

    assert response.status_code == 422
    assert [(found["loc"], found["type"]) for found in response.json()["detail"]] == [(["body", "title"], problem)]
    assert await database.fetch("SELECT * FROM conversations") == [before]


async def test_a_deleted_conversation_is_gone_with_its_messages(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    kept = (await chat(headers))["conversation_id"]
    deleted = (await chat(headers))["conversation_id"]

    response = await client.delete(f"/api/conversations/{deleted}", headers=headers)

    assert (response.status_code, response.content) == (204, b"")
    assert await database.fetchval("SELECT array_agg(id) FROM conversations") == [kept]
    assert await database.fetchval("SELECT array_agg(DISTINCT conversation_id) FROM messages") == [kept]
    assert (await client.delete(f"/api/conversations/{deleted}", headers=headers)).status_code == 404


async def test_everything_of_the_caller_is_deleted_at_once_and_nothing_of_others(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ada, bob = await sign_in("ada"), await sign_in("bob")
    for headers in (ada, ada, bob):
        await chat(headers)
    kept = await database.fetch("SELECT * FROM messages WHERE user_id = 'bob' ORDER BY id")

    responses = [await client.delete("/api/conversations?all=true", headers=ada) for _ in range(2)]

    assert [(response.status_code, response.content) for response in responses] == [(204, b"")] * 2
    assert (await client.get("/api/conversations", headers=ada)).json() == []
    assert await database.fetchval("SELECT array_agg(user_id) FROM conversations") == ["bob"]
    assert await database.fetch("SELECT * FROM messages ORDER BY id") == kept


async def test_a_retry_of_a_turn_that_was_deleted_with_everything_does_not_bring_it_back(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in() | {"Idempotency-Key": "key"}
    await client.post("/api/chat", headers=headers, json={"message": "Hello"})
    await client.delete("/api/conversations?all=true", headers=headers)

    retry = await client.post("/api/chat", headers=headers, json={"message": "Hello"})

    assert (retry.status_code, retry.json()) == (404, NOT_FOUND)
    assert await database.fetchval("SELECT count(*) FROM messages") == 0


@pytest.mark.parametrize("query", ["", "?all=false", "?all=", "?all=1", "?all=True", "?al=true"])
async def test_without_all_true_nothing_is_deleted(
    query: str, chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    await chat(headers)

    response = await client.delete(f"/api/conversations{query}", headers=headers)

    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["query", "all"])
    assert await database.fetchval("SELECT count(*) FROM messages") == 2


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_somebody_elses_conversation_and_an_absent_one_get_the_same_404(
    method: str, chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    foreign = (await chat(await sign_in("ada")))["conversation_id"]
    bob, before = await sign_in("bob"), await database.fetch("SELECT * FROM conversations, messages")
    body = {"json": {"title": "Mine"}} if method == "PATCH" else {}

    answers = [
        await client.request(method, f"/api/conversations/{id_}", headers=bob, **body)  # type: ignore[arg-type]
        for id_ in (foreign, foreign + 1, 0, -1, 2**63 - 1)
    ]

    assert [answer.status_code for answer in answers] == [404] * 5
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].json() == NOT_FOUND
    assert await database.fetch("SELECT * FROM conversations, messages") == before


@pytest.mark.parametrize("id_", ["abc", "1e3", "true", str(2**63), str(2**64), "1.5"])
async def test_an_id_that_is_no_64_bit_integer_is_a_422(id_: str, client: httpx.AsyncClient, sign_in: SignIn) -> None:
    response = await client.get(f"/api/conversations/{id_}", headers=await sign_in())

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["path", "conversation_id"]
