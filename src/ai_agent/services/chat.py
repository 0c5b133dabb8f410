"""A user's message and the assistant's reply to it; without an agent, `send` replies with an echo."""

import json
from typing import NamedTuple

from ai_agent.database.connection import Connection
from ai_agent.services import turns
from ai_agent.services.turns import Key, Message


class Question(NamedTuple):
    """What a user asks the assistant. `conversation_id` is None for a new conversation, which alone takes the title."""

    user_id: str
    conversation_id: int | None
    message: str
    title: str | None
    key: Key | None


class Reply(NamedTuple):
    """What the assistant said, stored together with the message."""

    conversation_id: int
    text: str
    replayed: bool
    """Whether an earlier request with the same key had stored it."""


async def send(connection: Connection, question: Question) -> Reply:
    """Reply with an echo and store both messages as one turn; raises the same errors as `turns.store`."""
    text = f"Echo: {question.message}"
    turn = await turns.store(
        connection,
        question.user_id,
        question.conversation_id,
        [Message("user", question.message), Message("assistant", text)],
        title=question.title,
        key=question.key,
    )
    if turn.replayed:
        # Numbers stay text, because one in a message's metadata may have more digits than Python reads.
        text = json.loads(turn.shown, parse_int=str)[-1]["content"]
    return Reply(turn.conversation_id, text, turn.replayed)
