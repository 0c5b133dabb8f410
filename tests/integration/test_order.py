"""A conversation's messages keep their order, even when many are sent at the same moment."""

import asyncio
from collections import Counter

import asyncpg
import httpx
import pytest

from ai_agent.database.models import Conversation
from tests.support.database import stored_questions
from tests.support.pages import add_messages
from tests.support.rows import add
from tests.support.types import Chat, SignIn


async def test_messages_sent_at_once_are_stored_as_turns_one_after_the_other(
    chat: Chat, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers, "first"))["conversation_id"]
    messages = [f"message {number}" for number in range(40)]

    await asyncio.gather(*(chat(headers, message, conversation_id) for message in messages))

    stored = await stored_questions(database)
    assert stored[conversation_id][0] == "first"
    assert Counter(stored[conversation_id][1:]) == Counter(messages)


async def test_a_conversation_shows_the_same_order_as_its_ids(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    headers = await sign_in()
    conversation_id = (await chat(headers))["conversation_id"]
    await asyncio.gather(*(chat(headers, f"message {number}", conversation_id) for number in range(40)))

    shown = (await client.get(f"/api/conversations/{conversation_id}", headers=headers)).json()["messages"]

    assert len(shown) == 82
    assert [message["id"] for message in shown] == sorted(message["id"] for message in shown)
    assert [message["created_at"] for message in shown] == sorted(message["created_at"] for message in shown)


async def test_a_message_that_arrives_during_the_deletion_is_a_404_or_deleted_too(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    for position in (0, 3, 6, 9):
        conversation_id = (await chat(headers))["conversation_id"]
        requests = [append(client, headers, conversation_id) for _ in range(10)]
        requests.insert(position, client.delete(f"/api/conversations/{conversation_id}", headers=headers))

        statuses = [response.status_code for response in await asyncio.gather(*requests)]

        assert statuses.pop(position) == 204
        assert set(statuses) <= {200, 404}
        assert await stored_questions(database) == {}
        assert (await append(client, headers, conversation_id)).status_code == 404


async def append(client: httpx.AsyncClient, headers: dict[str, str], conversation_id: int) -> httpx.Response:
    body = {"message": "Hello", "conversation_id": conversation_id}
    return await client.post("/api/chat", headers=headers, json=body)


@pytest.mark.parametrize("at", ["9999-12-31 23:59:59.999999Z", "9999-12-31 23:59:59.999998Z", "infinity"])
async def test_a_conversation_of_the_last_day_that_can_be_read_is_appended_to_and_read_back(
    at: str, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in("ada")
    [id_] = await add(database, Conversation(user_id="ada"))
    await database.execute("UPDATE conversations SET updated_at = $1::text::timestamptz", at)
    for message in ("one", "two", "three"):
        sent = await client.post("/api/chat", headers=headers, json={"message": message, "conversation_id": id_})
        assert sent.status_code == 200

    listed = await client.get("/api/conversations?limit=1", headers=headers)
    pages = [await client.get(f"/api/conversations/{id_}?limit=4", headers=headers)]
    pages.append(await client.get(pages[0].links["next"]["url"], headers=headers))

    assert [conversation["id"] for conversation in listed.json()] == [id_]
    contents = [message["content"] for page in reversed(pages) for message in page.json()["messages"]]
    assert contents == ["one", "Echo: one", "two", "Echo: two", "three", "Echo: three"]


@pytest.mark.parametrize("at", ["infinity", "10000-01-01Z", "294276-12-31Z", "0044-03-15Z BC"])
async def test_rows_of_times_that_python_does_not_know_are_shown(
    at: str, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in("ada")
    for id_ in await add(database, *(Conversation(user_id="ada") for _ in range(2))):
        await add_messages(database, id_, [1, 2])
    await database.execute("UPDATE conversations SET updated_at = $1::text::timestamptz", at)
    await database.execute("UPDATE messages SET created_at = $1::text::timestamptz", at)

    responses = [
        await client.get(path, headers=headers)
        for path in ("/api/conversations?limit=1", f"/api/conversations/{id_}", f"/api/conversations/{id_}?limit=1")
    ]

    assert [response.status_code for response in responses] == [200, 200, 200]
