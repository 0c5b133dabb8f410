"""Reading, renaming and deleting a user's conversations; every statement names the user.

The reads return JSON that PostgreSQL has made, because building the same text from rows in Python costs several times
the rest of the request. The JSON must match the models in `api.schemas`, and the tests compare the two.
"""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Text, bindparam, cast, delete, func, inspect, literal_column, select, update
from sqlmodel import col

from ai_agent.database.connection import Connection
from ai_agent.database.models import Conversation
from ai_agent.database.statements import Statement, load
from ai_agent.errors import ConversationNotFound
from ai_agent.services.cursors import START, Position

MAX_PAGE_BYTES = 1024 * 1024
"""The most JSON that a page's messages take; a page has at least one message, whatever its size.

It bounds the memory that a slow reader costs, and the time for which a burst of large pages delays other requests.
"""


class Page(NamedTuple):
    """A page as JSON, and the position of its last row; `more` says whether others follow."""

    body: bytes
    last_at: str | None
    """As text, because PostgreSQL's times reach further than Python's."""
    last_id: int | None
    more: bool

    @property
    def next(self) -> Position | None:
        """Where the next page begins, if there is one."""
        if not self.more or self.last_at is None or self.last_id is None:
            return None
        try:
            at = START.at if self.last_at == "infinity" else datetime.fromisoformat(self.last_at)
        except ValueError:  # Before the year 1 or after 9999, which no cursor can hold.
            return None
        return Position(at, self.last_id)


LIST = load(Path(__file__).with_name("list_conversations.sql"), Page)
READ = load(Path(__file__).with_name("read_messages.sql"), Page)

_OWNED = (
    col(Conversation.id) == bindparam("conversation_id"),
    col(Conversation.user_id) == bindparam("owner"),
)

# Users see every column but `user_id`, which is their own id.
_renamed = (
    update(Conversation)
    .where(*_OWNED)
    .values(title=bindparam("new_title"))
    .returning(*(column for column in inspect(Conversation).columns if column.name != "user_id"))
    .cte("renamed")
)
# The JSON is made outside of the UPDATE, because a distributed PostgreSQL refuses those functions in its RETURNING.
_RENAME = Statement(
    select(func.convert_to(cast(func.row_to_json(_renamed.table_valued()), Text), literal_column("'UTF8'"))), bytes
)
_DELETE_ALL = Statement(delete(Conversation).where(col(Conversation.user_id) == bindparam("owner")), int)
_DELETE = Statement(delete(Conversation).where(*_OWNED).returning(col(Conversation.id)), int)


async def read_list(connection: Connection, user_id: str, limit: int, after: Position) -> Page:
    """A page of the user's conversations, the most recently used first."""
    page = await connection.fetch(LIST, user_id=user_id, limit=limit, at=after.at, id=after.id)
    assert page is not None  # An aggregate always has a row.
    return page


async def read(connection: Connection, user_id: str, conversation_id: int, limit: int, after: Position) -> Page:
    """A conversation with its newest messages before the position, oldest first; raises ConversationNotFound."""
    page = await connection.fetch(
        READ,
        user_id=user_id,
        conversation_id=conversation_id,
        limit=limit,
        max_bytes=MAX_PAGE_BYTES,
        at=after.at,
        id=after.id,
    )
    if page is None:
        raise ConversationNotFound
    return page


async def rename(connection: Connection, user_id: str, conversation_id: int, title: str) -> bytes:
    """Change the title and return the conversation as JSON; raises ConversationNotFound. `updated_at` stays."""
    renamed = await connection.fetch(_RENAME, owner=user_id, conversation_id=conversation_id, new_title=title)
    if renamed is None:
        raise ConversationNotFound
    return renamed


async def delete_one(connection: Connection, user_id: str, conversation_id: int) -> None:
    """Delete the conversation and, by cascade, all its messages; raises ConversationNotFound."""
    if await connection.fetch(_DELETE, owner=user_id, conversation_id=conversation_id) is None:
        raise ConversationNotFound


async def delete_all(connection: Connection, user_id: str) -> None:
    """Delete every conversation of the user, if there is any, with all its messages.

    The idempotency keys stay, so that no retry brings a message back. They hold no text of it.
    """
    await connection.fetch(_DELETE_ALL, owner=user_id)
