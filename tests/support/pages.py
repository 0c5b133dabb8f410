"""Rows that fill pages, and a client that follows `Link` from page to page."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

from ai_agent.database.models import Conversation, Message
from tests.support.rows import add
from tests.support.types import Headers

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

# A control character is one byte in the database and six in JSON; a beach umbrella is four in both.
TEXTS = {"ASCII": "a", "non-BMP": "🏖", "quotes": '"', "control characters": "\x01"}


async def add_conversations(database: asyncpg.Connection, seconds: list[int], user_id: str = "ada") -> list[int]:
    """Store a conversation for each time, and return their ids."""
    times = [BEGINNING + timedelta(seconds=second) for second in seconds]
    return await add(database, *(Conversation(user_id=user_id, created_at=at, updated_at=at) for at in times))


async def add_messages(
    database: asyncpg.Connection, conversation_id: int, seconds: list[int], user_id: str = "ada"
) -> list[int]:
    """Store a message for each time, and return their ids."""
    place: dict[str, Any] = {"conversation_id": conversation_id, "user_id": user_id, "role": "user", "content": ""}
    times = [BEGINNING + timedelta(seconds=second) for second in seconds]
    return await add(database, *(Message(**place, created_at=at) for at in times))


async def add_texts(database: asyncpg.Connection, messages: int, text: str, length: int) -> int:
    """Store Ada's conversation, whose messages each hold the text `length` times, and return its id."""
    [id_] = await add(database, Conversation(user_id="ada"))
    await database.execute(  # There may be 100,000 of them, which the database makes sooner than it gets them.
        "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
        " SELECT $1, 'ada', 'user', repeat($3, $4), '2026-11-22'::timestamptz + n * interval '1 second'"
        " FROM generate_series(1, $2) AS n",
        *(id_, messages, text, length),
    )
    return id_


async def pages(client: httpx.AsyncClient, headers: Headers, url: str) -> AsyncIterator[list[int]]:
    """The ids on each page, reached by following `Link` unchanged."""
    following: str | None = url
    while following is not None:
        response = await client.get(following, headers=headers)
        assert response.status_code == 200, response.text
        body = response.json()
        yield [row["id"] for row in (body if isinstance(body, list) else body["messages"])]
        following = next_url(response)


def next_url(response: httpx.Response) -> str | None:
    return response.links["next"]["url"] if "Link" in response.headers else None
