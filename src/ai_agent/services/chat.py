"""A user's message and the assistant's reply to it, which is an echo."""

from typing import NamedTuple

from pydantic_core import from_json

from ai_agent.database.connection import Connection
from ai_agent.services import turns
from ai_agent.services.turns import Message


class Reply(NamedTuple):
    """What the assistant said, once it is stored together with the message."""

    conversation_id: int
    text: str
    replayed: bool
    """Whether an earlier request with the same key had stored it."""


async def send(
    connection: Connection, user_id: str, message: str, conversation_id: int | None, key: str | None
) -> Reply:
    """Reply to the message and store both as one turn; raises as `turns.store` does."""
    text = f"Echo: {message}"
    turn = await turns.store(
        connection,
        user_id,
        conversation_id,
        [Message("user", message), Message("assistant", text)],
        key=turns.make_key(key, "chat", conversation_id, message),
    )
    if turn.replayed:
        text = from_json(turn.shown)[-1]["content"]
    return Reply(turn.conversation_id, text, turn.replayed)
