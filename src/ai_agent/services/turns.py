"""Writing a turn: one statement stores the conversation, the messages and the idempotency key, or nothing.

The statement takes its time once it holds the conversation's row lock, and gives each turn a later microsecond than
the one before. So ids and times ascend together within a conversation, even if the server's clock is set back, and
the time of a turn finds its messages.
"""

import hashlib
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.errors import ConversationNotFound, IdempotencyKeyReused

# Where the turn goes, and when. The id of a new conversation is needed by its key before the conversation is there.
_NEW = "SELECT nextval(pg_get_serial_sequence('conversations', 'id')) AS id, clock_timestamp() AS at"

_EXISTING = """
    SELECT id, greatest(clock_timestamp(), updated_at + interval '1 microsecond') AS at
    FROM conversations
    WHERE id = :conversation_id AND user_id = :user_id
    FOR NO KEY UPDATE
"""

# Claiming a key waits for a turn that is just claiming it, and yields no row if the key is taken and not yet old.
_WITHOUT_KEY = "SELECT id, at FROM target"

_WITH_KEY = """
    INSERT INTO idempotency_keys AS known (user_id, key, fingerprint, conversation_id, created_at)
    SELECT :user_id, :key, :fingerprint, id, at FROM target
    ON CONFLICT (user_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint,
        conversation_id = excluded.conversation_id,
        created_at = excluded.created_at
    WHERE known.created_at <= now() - interval '24 hours'
    RETURNING conversation_id AS id, created_at AS at
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

_INSERT_CONVERSATION = """
    INSERT INTO conversations (id, user_id, title, created_at, updated_at)
    SELECT id, :user_id, 'Chat - ' || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), at, at
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


def _store(target: str, turn: str, conversation: str, expire_keys: str = "") -> TextClause:
    return text(f"""
        WITH target AS ({target}),
        turn AS ({turn}),
        conversation AS ({conversation}),
        stored AS (
            INSERT INTO messages (conversation_id, role, content, created_at)
            SELECT conversation.id, line.role, line.content, conversation.at
            FROM conversation
            CROSS JOIN (VALUES (1, 'user', :question), (2, 'assistant', :answer)) AS line (position, role, content)
            ORDER BY line.position
        ){expire_keys}
        SELECT id FROM conversation
    """)


# By whether the conversation is new, and whether there is a key.
_STORE = {
    (True, False): _store(_NEW, _WITHOUT_KEY, _INSERT_CONVERSATION),
    (False, False): _store(_EXISTING, _WITHOUT_KEY, _BUMP_CONVERSATION),
    (True, True): _store(_NEW, _WITH_KEY, _INSERT_CONVERSATION, _EXPIRE_KEYS),
    (False, True): _store(_EXISTING, _WITH_KEY, _BUMP_CONVERSATION, _EXPIRE_KEYS),
}

_FIND_BY_KEY = text("""
    SELECT known.fingerprint, known.conversation_id, messages.content AS answer
    FROM idempotency_keys AS known
    JOIN messages ON messages.conversation_id = known.conversation_id AND messages.created_at = known.created_at
    WHERE known.user_id = :user_id AND known.key = :key
    ORDER BY messages.id DESC
    LIMIT 1
""")


class Turn(NamedTuple):
    """What is stored: the user's message with the assistant's answer."""

    conversation_id: int
    user_message: str
    assistant_message: str
    replayed: bool
    """Whether an earlier request with the same key had stored it."""


async def record(
    session: AsyncConnection, user_id: str, message: str, conversation_id: int | None, key: str | None
) -> Turn:
    """Answer the message and store both, in the user's conversation or in a new one; with a known key, find them.

    Raises ConversationNotFound when the conversation is not the user's, and IdempotencyKeyReused when the key came
    with another message or conversation in the last 24 hours. Either stores nothing.
    """
    answer = f"Echo: {message}"
    turn: dict[str, Any] = {
        "user_id": user_id,
        "conversation_id": conversation_id,
        "question": message,
        "answer": answer,
    }
    if key is not None:
        turn |= {"key": key, "fingerprint": _fingerprint(message, conversation_id)}
    stored_in = await session.scalar(_STORE[conversation_id is None, key is not None], turn)
    if stored_in is not None:
        return Turn(stored_in, message, answer, replayed=False)
    if key is None:
        raise ConversationNotFound
    return await _replay(session, turn)


def _fingerprint(message: str, conversation_id: int | None) -> bytes:
    return hashlib.sha256(f"chat {conversation_id} {message}".encode()).digest()


async def _replay(session: AsyncConnection, turn: dict[str, Any]) -> Turn:
    """The turn that was stored under the key before."""
    known = (await session.execute(_FIND_BY_KEY, turn)).one_or_none()
    if known is None:
        raise ConversationNotFound
    if known.fingerprint != turn["fingerprint"]:
        raise IdempotencyKeyReused
    return Turn(known.conversation_id, turn["question"], known.answer, replayed=True)
