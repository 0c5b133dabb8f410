"""Storing turns: the messages of one request, whole and at most once for each idempotency key.

The database function `store_turn_1` does it all in one call; `alembic/functions/store_turn_1.sql` explains it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic_core import to_json
from sqlalchemy import text

from ai_agent.database.connection import Connection
from ai_agent.database.models import Role
from ai_agent.database.statements import Statement, load
from ai_agent.errors import ConversationNotFound, IdempotencyKeyReused


class Message(NamedTuple):
    """A message to be stored; its metadata is any JSON object."""

    role: Role
    content: str
    metadata: dict[str, Any] | None = None


class Key(NamedTuple):
    """An idempotency key, and a digest of the request that distinguishes a retry from another use of the key."""

    value: str
    fingerprint: bytes


class Turn(NamedTuple):
    """A stored turn."""

    conversation_id: int
    shown: bytes
    """The messages as the API's JSON; for a turn without messages, the conversation as it was opened."""
    replayed: bool
    """Whether an earlier request with the same key had stored it."""


class _Outcome(NamedTuple):
    outcome: Literal["stored", "replayed", "not_found", "key_reused"]
    stored_in: int
    opened: bytes | None
    stored: bytes | None


FUNCTION = "store_turn_1(text, bigint, text, json, text, bytea)"

# The arguments are bare parameters, because a distributed PostgreSQL routes only calls of that kind to a shard.
STORE_TURN = Statement(
    text("""
        SELECT outcome, stored_in, opened, stored
        FROM store_turn_1(:user_id, :conversation_id, :title, :messages, :key, :fingerprint)
    """),
    _Outcome,
)


class _Known(NamedTuple):
    is_same: bool
    conversation_id: int
    shown: bytes | None


FIND_TURN = load(Path(__file__).with_name("find_turn.sql"), _Known)


async def store(
    connection: Connection,
    user_id: str,
    conversation_id: int | None,
    messages: Sequence[Message],
    *,
    title: str | None = None,
    key: Key | None = None,
) -> Turn:
    """Store the messages as one turn of the user's conversation, or of a new one; for a known key, return its turn.

    Raises ConversationNotFound when the conversation is not the user's, or was deleted since the key stored the turn,
    and IdempotencyKeyReused when the key came with another request in the last 24 hours. Either stores nothing.
    """
    row = await connection.fetch(
        STORE_TURN,
        user_id=user_id,
        conversation_id=conversation_id,
        title=title,
        messages=to_json([message._asdict() for message in messages]).decode(),
        key=key and key.value,
        fingerprint=key and key.fingerprint,
    )
    assert row is not None  # The function returns exactly one row.
    if row.outcome == "key_reused":
        raise IdempotencyKeyReused
    shown = row.stored if messages else row.opened
    if row.outcome == "not_found" or shown is None:
        raise ConversationNotFound
    return Turn(row.stored_in, shown, replayed=row.outcome == "replayed")


async def find(connection: Connection, user_id: str, key: Key) -> Turn | None:
    """The turn that was stored under the key in the last 24 hours, if any; raises the same errors as `store`."""
    known = await connection.fetch_first(FIND_TURN, user_id=user_id, key=key.value, fingerprint=key.fingerprint)
    if known is None:
        return None
    if not known.is_same:
        raise IdempotencyKeyReused
    if known.shown is None:
        raise ConversationNotFound
    return Turn(known.conversation_id, known.shown, replayed=True)


def make_key(value: str, *request: object) -> Key | None:
    """The key that was sent, or None for an empty value; `request` is everything that a retry must repeat."""
    return Key(value, hashlib.sha256(to_json(request)).digest()) if value else None
