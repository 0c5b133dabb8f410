from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.shapes import a_conversation
from tests.support.types import Chat, SignIn

STORABLE = {
    "white space around": "  hello \n",
    "line ends": "a\r\nb\rc\nd",
    "combining characters": "e\u0301 and \u00e9",
    "beyond the BMP": "👩‍👩‍👧‍👦 𐍈",
    "control characters": "a\u0001b\u007f\u200b",
    "quotes and backslashes": "'; DROP TABLE messages; -- \\ \" %s :name $1",
    "100,000 characters": "é" * 100_000,
}

INVALID: dict[str, tuple[object, list[str | int], str]] = {
    "no message": ({}, ["body", "message"], "missing"),
    "null": ({"message": None}, ["body", "message"], "string_type"),
    "a number": ({"message": 7}, ["body", "message"], "string_type"),
    "empty": ({"message": ""}, ["body", "message"], "string_too_short"),
    "blank": ({"message": " \t\n\u00a0\u3000"}, ["body", "message"], "value_error"),
    "too long": ({"message": "a" * 100_001}, ["body", "message"], "string_too_long"),
    "NUL": ({"message": "a\0b"}, ["body", "message"], "value_error"),
    "id true": ({"message": "a", "conversation_id": True}, ["body", "conversation_id"], "int_type"),
    "id in quotes": ({"message": "a", "conversation_id": "7"}, ["body", "conversation_id"], "int_type"),
    "id 1.0": ({"message": "a", "conversation_id": 1.0}, ["body", "conversation_id"], "int_type"),
    "id beyond 64 bits": ({"message": "a", "conversation_id": 2**63}, ["body", "conversation_id"], "less_than"),
    "an array": ([], ["body"], "model_attributes_type"),
}


async def test_a_first_message_opens_a_conversation_titled_with_the_time(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    before = datetime.now(UTC)

    response = await client.post("/api/chat", headers=await sign_in("ada"), json={"message": "Good morning!"})

    [conversation] = await database.fetch("SELECT * FROM conversations")
    assert response.status_code == 200
    assert response.json() == {
        "conversation_id": conversation["id"],
        "user_message": "Good morning!",
        "assistant_message": "Echo: Good morning!",
    }
    assert dict(conversation) == a_conversation(
        user_id="ada",
        title=f"Chat - {conversation['created_at']:%Y-%m-%d %H:%M}",
        updated_at=conversation["created_at"],
    )
    assert before <= conversation["created_at"] <= datetime.now(UTC)


async def test_a_turn_is_stored_as_a_question_followed_by_its_answer(
    chat: Chat, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    answer = await chat(await sign_in(), "Good morning!")

    messages = await database.fetch("SELECT conversation_id, role, content, metadata FROM messages ORDER BY id")
    assert [tuple(message) for message in messages] == [
        (answer["conversation_id"], "user", "Good morning!", None),
        (answer["conversation_id"], "assistant", "Echo: Good morning!", None),
    ]


async def test_a_further_message_is_appended_and_moves_updated_at(
    chat: Chat, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers, "one"))["conversation_id"]
    [first] = await database.fetch("SELECT * FROM conversations")

    answer = await chat(headers, "two", conversation_id)

    [last] = await database.fetch("SELECT * FROM conversations")
    contents = await database.fetch("SELECT content FROM messages ORDER BY id")
    assert answer == {"conversation_id": conversation_id, "user_message": "two", "assistant_message": "Echo: two"}
    assert dict(last) == {**dict(first), "updated_at": last["updated_at"]}
    assert first["updated_at"] < last["updated_at"] < first["updated_at"] + timedelta(minutes=1)
    assert [row["content"] for row in contents] == ["one", "Echo: one", "two", "Echo: two"]


async def test_times_ascend_with_the_ids_even_when_the_clock_was_set_back(
    chat: Chat, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers))["conversation_id"]
    await database.execute("UPDATE conversations SET updated_at = updated_at + interval '1 hour'")
    await database.execute("UPDATE messages SET created_at = created_at + interval '1 hour'")

    await chat(headers, "later", conversation_id)

    times = [row["created_at"] for row in await database.fetch("SELECT created_at FROM messages ORDER BY id")]
    assert times == sorted(times)
    assert times[2] - times[1] == timedelta(microseconds=1)


async def test_null_and_no_conversation_id_both_open_a_conversation(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()

    for body in ({"message": "a"}, {"message": "a", "conversation_id": None}, {"message": "a", "unknown": 1}):
        assert (await client.post("/api/chat", headers=headers, json=body)).status_code == 200

    assert await database.fetchval("SELECT count(*) FROM conversations") == 3


@pytest.mark.parametrize("message", STORABLE.values(), ids=STORABLE.keys())
async def test_a_message_is_stored_and_answered_exactly_as_sent(
    message: str, chat: Chat, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    answer = await chat(await sign_in(), message)

    contents = await database.fetch("SELECT content FROM messages ORDER BY id")
    assert answer["user_message"] == message
    assert [row["content"] for row in contents] == [message, f"Echo: {message}"]


@pytest.mark.parametrize(("body", "loc", "kind"), INVALID.values(), ids=INVALID.keys())
async def test_an_invalid_body_is_a_422_that_names_the_field_and_stores_nothing(
    body: object, loc: list[str | int], kind: str, client: httpx.AsyncClient, sign_in: SignIn, database: Any
) -> None:
    response = await client.post("/api/chat", headers=await sign_in(), json=body)

    problem = response.json()["detail"][0]
    assert response.status_code == 422
    assert response.json() == {"detail": [{"type": kind, "loc": loc, "msg": problem["msg"]}]}
    assert await database.fetchval("SELECT count(*) FROM conversations") == 0


async def test_a_lone_surrogate_is_a_422(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = {**await sign_in(), "Content-Type": "application/json"}

    response = await client.post("/api/chat", headers=headers, content=rb'{"message": "a\ud800b"}')

    assert response.status_code == 422


@pytest.mark.parametrize("conversation_id", [0, -1, 2**31, 2**63 - 1, -(2**63)])
async def test_an_id_that_does_not_exist_is_a_404_and_stores_nothing(
    conversation_id: int, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    body = {"message": "Hello", "conversation_id": conversation_id}

    response = await client.post("/api/chat", headers=await sign_in(), json=body)

    assert (response.status_code, response.json()) == (404, {"detail": "Conversation not found."})
    assert await database.fetchval("SELECT count(*) FROM messages") == 0


async def test_somebody_elses_conversation_is_a_404_and_stays_as_it_was(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    conversation_id = (await chat(await sign_in("ada")))["conversation_id"]
    [before] = await database.fetch("SELECT * FROM conversations")
    body = {"message": "Hello", "conversation_id": conversation_id}

    response = await client.post("/api/chat", headers=await sign_in("bob"), json=body)

    assert (response.status_code, response.json()) == (404, {"detail": "Conversation not found."})
    assert await database.fetch("SELECT * FROM conversations") == [before]
    assert await database.fetchval("SELECT count(*) FROM messages") == 2


async def test_a_new_conversation_takes_the_title_that_is_sent_with_its_first_message(
    client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    headers = await sign_in()
    first = {"message": "Hello", "title": "Holiday plans"}
    id_ = (await client.post("/api/chat", headers=headers, json=first)).json()["conversation_id"]

    further = {"message": "Hello again", "conversation_id": id_, "title": "Another"}
    response = await client.post("/api/chat", headers=headers, json=further)

    [conversation] = (await client.get("/api/conversations", headers=headers)).json()
    assert response.status_code == 200
    assert (conversation["id"], conversation["title"]) == (id_, "Holiday plans")


@pytest.mark.parametrize("title", ["", "  ", "t" * 201, "a\0b", 7])
async def test_a_title_that_cannot_be_one_is_a_422_and_stores_nothing(
    title: object, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    response = await client.post("/api/chat", headers=await sign_in(), json={"message": "Hello", "title": title})

    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body", "title"])
    assert await database.fetchval("SELECT count(*) FROM messages") == 0


async def test_a_key_with_another_title_came_with_another_body(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in() | {"Idempotency-Key": "key"}
    bodies = [{"message": "Hello", "title": title} for title in ("One", "One", "Two")]

    responses = [await client.post("/api/chat", headers=headers, json=body) for body in bodies]

    assert [response.status_code for response in responses] == [200, 200, 422]
    assert responses[1].headers["Idempotency-Replayed"] == "true"
