"""Writing a turn: one statement stores the conversation, the question and the answer, or nothing.

The statement takes its time once it holds the conversation's row lock, and gives each turn a later microsecond than
the one before. So within a conversation ids and times ascend together, even if the server's clock is set back.
"""

from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.errors import ConversationNotFound

_NEW_CONVERSATION = """
    INSERT INTO conversations (user_id, title, created_at, updated_at)
    SELECT :user_id, 'Chat - ' || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), at, at
    FROM clock_timestamp() AS at
    RETURNING id, updated_at
"""

_EXISTING_CONVERSATION = """
    UPDATE conversations
    SET updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
    WHERE id = :conversation_id AND user_id = :user_id
    RETURNING id, updated_at
"""


def _store_in(conversation: str) -> TextClause:
    return text(f"""
        WITH conversation AS ({conversation}),
        stored AS (
            INSERT INTO messages (conversation_id, role, content, created_at)
            SELECT conversation.id, line.role, line.content, conversation.updated_at
            FROM conversation
            CROSS JOIN (VALUES (1, 'user', :question), (2, 'assistant', :answer)) AS line (position, role, content)
            ORDER BY line.position
        )
        SELECT id FROM conversation
    """)


_START = _store_in(_NEW_CONVERSATION)
_APPEND = _store_in(_EXISTING_CONVERSATION)


class Turn(NamedTuple):
    """What was stored: the user's message with the assistant's answer."""

    conversation_id: int
    user_message: str
    assistant_message: str


async def record(session: AsyncConnection, user_id: str, message: str, conversation_id: int | None) -> Turn:
    """Answer the message and store both, in the user's conversation or in a new one.

    Raises ConversationNotFound, and stores nothing, when the conversation is not the user's.
    """
    answer = f"Echo: {message}"
    turn = {"user_id": user_id, "conversation_id": conversation_id, "question": message, "answer": answer}
    stored_in = await session.scalar(_START if conversation_id is None else _APPEND, turn)
    if stored_in is None:
        raise ConversationNotFound
    return Turn(stored_in, message, answer)
