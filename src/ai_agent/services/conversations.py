"""Reading, renaming and deleting a user's conversations; the owner is in every WHERE.

The reads return JSON that PostgreSQL has made: building the same text from rows in Python costs several times
the rest of the request. `api.history` declares the models that it must match, and the tests hold it to them.
"""

from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.errors import ConversationNotFound
from ai_agent.services.cursors import Position

MAX_PAGE_BYTES = 1024 * 1024
"""Of JSON, for the messages of a page; a page has at least one message, whatever its size.

It bounds what a client that reads slowly makes the service keep, and how long a burst of such reads holds up others.
"""

# In UTC whatever the session's time zone; `at` is a column of the query.
DEFAULT_TITLE = "'Chat - ' || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"


def _object(fields: str) -> str:
    """SQL for a JSON object of these columns; json_build_object would repeat each name, and print spaces."""
    return f"row_to_json((SELECT shown FROM (SELECT {fields}) AS shown))"


CONVERSATION_JSON = _object("id, title, created_at, updated_at")
MESSAGE_JSON = _object("id, role, content, metadata, created_at")

# One more row than the page shows tells whether more follow. In a subselect the planner cannot see the number, and
# reads the index in order; seeing a long page of a list hardly longer, it would fetch and sort the whole list.
_LIMIT = "LIMIT (SELECT :limit + 1)"

LIST_STATEMENT = text(f"""
    WITH page AS (
        SELECT
            *,
            row_number() OVER (ORDER BY updated_at DESC, id DESC) AS position
        FROM conversations
        WHERE user_id = :user_id AND (updated_at, id) < (:at, :id)
        ORDER BY updated_at DESC, id DESC
        {_LIMIT}
    )
    SELECT
        convert_to(coalesce(json_agg(
            {CONVERSATION_JSON} ORDER BY position
        ) FILTER (WHERE position <= :limit), '[]')::text, 'UTF8') AS body,
        max(updated_at) FILTER (WHERE position = :limit) AS last_at,
        max(id) FILTER (WHERE position = :limit) AS last_id,
        count(*) > :limit AS more
    FROM page
""")

# The stored sizes, which are known without reading long texts, keep JSON from being made of much more than a page. The
# JSON is longer, as a control character takes six bytes in it, so its own size decides where the page ends.
READ_STATEMENT = text(f"""
    WITH newest AS (
        SELECT
            *,
            row_number() OVER newest_first AS position,
            sum(octet_length(content) + coalesce(octet_length(metadata::text), 0)) OVER newest_first AS bytes
        FROM messages
        WHERE conversation_id = :conversation_id AND (created_at, id) < (:at, :id)
        WINDOW newest_first AS (ORDER BY created_at DESC, id DESC)
        ORDER BY created_at DESC, id DESC
        {_LIMIT}
    ), shown AS MATERIALIZED (
        SELECT
            created_at,
            id,
            position,
            CASE WHEN position = 1 OR bytes <= :max_bytes THEN {MESSAGE_JSON} END AS message
        FROM newest
    ), page AS (
        SELECT
            *,
            position = 1
                OR position <= :limit
                AND message IS NOT NULL
                AND sum(octet_length(message::text) + 2) OVER (ORDER BY position) <= :max_bytes AS fits
        FROM shown
    )
    SELECT
        convert_to({_object("id, title, created_at, updated_at, messages")}::text, 'UTF8') AS body,
        last_at,
        last_id,
        more
    FROM conversations
    CROSS JOIN LATERAL (
        SELECT
            coalesce(json_agg(message ORDER BY position DESC) FILTER (WHERE fits), '[]') AS messages,
            (array_agg(created_at ORDER BY position DESC) FILTER (WHERE fits))[1] AS last_at,
            (array_agg(id ORDER BY position DESC) FILTER (WHERE fits))[1] AS last_id,
            count(*) FILTER (WHERE NOT fits) > 0 AS more
        FROM page
    ) AS history
    WHERE id = :conversation_id AND user_id = :user_id
""")

_CREATE = text(f"""
    INSERT INTO conversations (user_id, title, created_at, updated_at)
    SELECT :user_id, coalesce(CAST(:title AS text), {DEFAULT_TITLE}), at, at
    FROM clock_timestamp() AS at
    RETURNING convert_to({CONVERSATION_JSON}::text, 'UTF8')
""")

_RENAME = text(f"""
    UPDATE conversations
    SET title = :title
    WHERE id = :conversation_id AND user_id = :user_id
    RETURNING convert_to({CONVERSATION_JSON}::text, 'UTF8')
""")

_DELETE = text("DELETE FROM conversations WHERE id = :conversation_id AND user_id = :user_id RETURNING id")


class Page(NamedTuple):
    """A page as JSON, and the position where the next one begins, if there is a next one."""

    body: bytes
    next: Position | None


async def read_list(session: AsyncConnection, user_id: str, limit: int, after: Position) -> Page:
    """A page of the user's conversations, the most recently used first."""
    rows = await session.execute(LIST_STATEMENT, {"user_id": user_id, "limit": limit, **after._asdict()})
    return _page(rows.one())


async def read(session: AsyncConnection, user_id: str, conversation_id: int, limit: int, after: Position) -> Page:
    """A conversation with the newest messages before a position, oldest first; raises ConversationNotFound."""
    rows = await session.execute(
        READ_STATEMENT,
        {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "limit": limit,
            "max_bytes": MAX_PAGE_BYTES,
            **after._asdict(),
        },
    )
    row = rows.one_or_none()
    if row is None:
        raise ConversationNotFound
    return _page(row)


def _page(row: Row[Any]) -> Page:
    return Page(row.body, Position(row.last_at, row.last_id) if row.more else None)


async def create(session: AsyncConnection, user_id: str, title: str | None) -> bytes:
    """Open an empty conversation, titled with the time unless a title is given, and return its JSON."""
    created: bytes = await session.scalar(_CREATE, {"user_id": user_id, "title": title})
    return created


async def rename(session: AsyncConnection, user_id: str, conversation_id: int, title: str) -> bytes:
    """Change the title, which moves nothing in the list, and return the JSON; raises ConversationNotFound."""
    renamed: bytes | None = await session.scalar(
        _RENAME, {"user_id": user_id, "conversation_id": conversation_id, "title": title}
    )
    if renamed is None:
        raise ConversationNotFound
    return renamed


async def delete(session: AsyncConnection, user_id: str, conversation_id: int) -> None:
    """Delete the conversation and, by cascade, all that belongs to it; raises ConversationNotFound."""
    if await session.scalar(_DELETE, {"user_id": user_id, "conversation_id": conversation_id}) is None:
        raise ConversationNotFound
