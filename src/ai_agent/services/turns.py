"""Writing a turn: one statement stores the conversation, the messages and the idempotency key, or nothing.

The statement takes its time once it holds the conversation's row lock, and gives each turn a later microsecond than
the one before. So ids and times ascend together within a conversation, even if the server's clock is set back, and
the time of a turn finds its messages.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.database.models import Role
from ai_agent.errors import ConversationNotFound, IdempotencyKeyReused
from ai_agent.services.conversations import DEFAULT_TITLE, MESSAGE_JSON

# Where the turn goes, and when. The id of a new conversation is needed by its key before the conversation is there.
_NEW = "SELECT nextval(pg_get_serial_sequence('conversations', 'id')) AS id, clock_timestamp() AS at"

_EXISTING = """
    SELECT id, greatest(clock_timestamp(), updated_at + interval '1 microsecond') AS at
    FROM conversations
    WHERE id = :conversation_id AND user_id = :user_id
    FOR NO KEY UPDATE
"""

# A key names the turn's first message, which is stored after it.
_NEXT_MESSAGE_ID = "nextval(pg_get_serial_sequence('messages', 'id'))"

# Claiming a key waits for a turn that is just claiming it, and yields no row if the key is taken and not yet old.
_WITHOUT_KEY = f"SELECT id, {_NEXT_MESSAGE_ID} AS message_id, at FROM target"

_WITH_KEY = f"""
    INSERT INTO idempotency_keys AS known (user_id, key, fingerprint, conversation_id, message_id, created_at)
    SELECT :user_id, :key, :fingerprint, id, {_NEXT_MESSAGE_ID}, at FROM target
    ON CONFLICT (user_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint,
        conversation_id = excluded.conversation_id,
        message_id = excluded.message_id,
        created_at = excluded.created_at
    WHERE known.created_at <= now() - interval '24 hours'
    RETURNING conversation_id AS id, message_id, created_at AS at
"""

# Each new key takes up to ten old ones away, so no job has to; SKIP LOCKED, so that none waits for another.
_EXPIRE_KEYS = """,
    expired AS (
        DELETE FROM idempotency_keys
        WHERE (user_id, key) IN (
            SELECT user_id, key
            FROM idempotency_keys
            WHERE created_at <= now() - interval '24 hours' AND (user_id, key) <> (:user_id, :key)
            ORDER BY created_at
            LIMIT 10
            FOR UPDATE SKIP LOCKED
        )
    )
"""

_INSERT_CONVERSATION = f"""
    INSERT INTO conversations (id, user_id, title, created_at, updated_at)
    SELECT id, :user_id, {DEFAULT_TITLE}, at, at
    FROM turn
    RETURNING id, updated_at AS at
"""

_BUMP_CONVERSATION = """
    UPDATE conversations
    SET updated_at = turn.at
    FROM turn
    WHERE conversations.id = turn.id
    RETURNING turn.id, turn.at
"""


# The messages of the turn as the API shows them.
_MESSAGES = f"""
    (SELECT convert_to(json_agg({MESSAGE_JSON} ORDER BY id)::text, 'UTF8') FROM stored) AS messages
"""

# The key and the messages of a turn have one time, unless somebody has changed that of either: then the first message
# tells it. Not the other way round, as a release before that column leaves the id of an older turn where it was.
_FIND_BY_KEY = text(f"""
    WITH known AS (SELECT * FROM idempotency_keys WHERE user_id = :user_id AND key = :key),
    stored AS (
        SELECT messages.*
        FROM messages
        JOIN known USING (conversation_id)
        WHERE messages.created_at = coalesce(
            (SELECT min(created_at) FROM messages JOIN known USING (conversation_id, created_at)),
            (SELECT messages.created_at FROM messages JOIN known USING (conversation_id) WHERE id = message_id)
        )
    )
    SELECT
        fingerprint,
        conversation_id AS id,
        (SELECT content FROM stored ORDER BY id DESC LIMIT 1) AS answer,
        {_MESSAGES}
    FROM known
""")


@cache
def store_statement(*, new: bool, keyed: bool, show_messages: bool) -> TextClause:
    """The one statement of a turn; built once for each use, because its text is the key of SQLAlchemy's cache."""
    return text(f"""
        WITH target AS ({_NEW if new else _EXISTING}),
        turn AS ({_WITH_KEY if keyed else _WITHOUT_KEY}),
        conversation AS ({_INSERT_CONVERSATION if new else _BUMP_CONVERSATION}),
        stored AS (
            INSERT INTO messages (id, conversation_id, role, content, metadata, created_at)
            SELECT
                CASE line.position WHEN 1 THEN turn.message_id ELSE {_NEXT_MESSAGE_ID} END,
                id,
                line.role,
                line.content,
                CAST(line.metadata AS jsonb),
                conversation.at
            FROM conversation
            JOIN turn USING (id)
            CROSS JOIN ROWS FROM (json_to_recordset(CAST(:lines AS json)) AS (role text, content text, metadata text))
                WITH ORDINALITY AS line (role, content, metadata, position)
            ORDER BY line.position
            RETURNING *
        ){_EXPIRE_KEYS if keyed else ""}
        SELECT id{"," + _MESSAGES if show_messages else ""} FROM conversation
    """)


class Turn(NamedTuple):
    """What is stored: the user's message with the assistant's answer."""

    conversation_id: int
    user_message: str
    assistant_message: str
    replayed: bool
    """Whether an earlier request with the same key had stored it."""


class StoredMessages(NamedTuple):
    """The messages as the API shows them, in JSON."""

    body: bytes
    replayed: bool


class Line(NamedTuple):
    """A message to be stored, its metadata being JSON text."""

    role: Role
    content: str
    metadata: str | None


async def record(
    session: AsyncConnection, user_id: str, message: str, conversation_id: int | None, key: str | None
) -> Turn:
    """Answer the message and store both, in the user's conversation or in a new one; with a known key, find them.

    Raises ConversationNotFound when the conversation is not the user's, and IdempotencyKeyReused when the key came
    with another request in the last 24 hours. Either stores nothing.
    """
    answer = f"Echo: {message}"
    lines = [Line("user", message, None), Line("assistant", answer, None)]
    parameters = _parameters(user_id, conversation_id, lines, key, request=message)
    stored, replayed = await _write(session, parameters)
    return Turn(stored.id, message, stored.answer if replayed else answer, replayed)


async def append(
    session: AsyncConnection, user_id: str, conversation_id: int, lines: Sequence[Line], key: str | None
) -> StoredMessages:
    """Store the lines as one turn of the user's conversation, in their order; raises as `record` does."""
    parameters = _parameters(user_id, conversation_id, lines, key, request=lines)
    stored, replayed = await _write(session, parameters, show_messages=True)
    return StoredMessages(stored.messages, replayed)


def _parameters(
    user_id: str, conversation_id: int | None, lines: Sequence[Line], key: str | None, request: object
) -> dict[str, Any]:
    """The parameters of the statements; the fingerprint is of what was asked, as an answer may not come twice."""
    return {
        "user_id": user_id,
        "conversation_id": conversation_id,
        # In one piece of JSON: for an array asyncpg asks each new connection about its type, six round trips long.
        "lines": json.dumps([line._asdict() for line in lines], ensure_ascii=False),
        "key": key,
        "fingerprint": key and hashlib.sha256(json.dumps([conversation_id, request]).encode()).digest(),
    }


async def _write(
    session: AsyncConnection, parameters: dict[str, Any], *, show_messages: bool = False, again: bool = False
) -> tuple[Row[Any], bool]:
    """Store the turn, or find the one that its key has stored; the second value tells that it was found."""
    new, keyed = parameters["conversation_id"] is None, parameters["key"] is not None
    rows = await session.execute(store_statement(new=new, keyed=keyed, show_messages=show_messages), parameters)
    if (stored := rows.one_or_none()) is not None:
        return stored, False
    known = (await session.execute(_FIND_BY_KEY, parameters)).one_or_none() if keyed else None
    if known is None and keyed and (new or not again):
        # The key has become free between the two statements, or it always was and the conversation is not the user's:
        # trying once more tells.
        return await _write(session, parameters, show_messages=show_messages, again=True)
    if known is None:
        raise ConversationNotFound
    if known.fingerprint != parameters["fingerprint"]:
        raise IdempotencyKeyReused
    return known, True
