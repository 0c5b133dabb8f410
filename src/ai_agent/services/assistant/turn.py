"""Making a turn: the history is read, the agent is asked while no connection is held, and then the turn is stored.

Therefore a run that fails stores nothing and leaves its key free, and a process that dies leaves a whole turn or none.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import from_json
from sqlalchemy.ext.asyncio import AsyncEngine

from ai_agent.config import Settings
from ai_agent.database.connection import Connection
from ai_agent.errors import AssistantTooSlow, DatabaseUnavailable
from ai_agent.services import conversations, turns
from ai_agent.services.assistant import tasks
from ai_agent.services.assistant.context import TurnContext
from ai_agent.services.assistant.mapping import to_items
from ai_agent.services.assistant.run import Run
from ai_agent.services.chat import Question, Reply
from ai_agent.services.cursors import START
from ai_agent.services.turns import Key, Message, Turn

if TYPE_CHECKING:
    from ai_agent.services.assistant.agent import Assistant

logger = logging.getLogger(__name__)

# A reply has been paid for, so the service tries to store it for STORE_SECONDS after the first failure, and waits for
# STORE_DELAY before each new try.
STORE_SECONDS = 20.0
STORE_DELAY = 0.25


class Means(NamedTuple):
    """What every turn is made with."""

    assistant: "Assistant"
    engine: AsyncEngine
    settings: Settings


async def make(means: Means, run: Run, question: Question, key: Key) -> Reply:
    """Ask the agent and store the turn under the key; if the key has stored a turn already, reply with that one.

    Raises one of the assistant's errors, DatabaseUnavailable, or what `turns.store` and `conversations.read` raise.
    """
    deadline = asyncio.get_running_loop().time() + means.settings.assistant_timeout
    async with Connection(means.engine, means.settings.database_timeout) as connection:
        known = await turns.find(connection, question.user_id, key)
        if known is not None:
            return _reply(known, replayed=True)
        history = await _read_history(connection, question, means.settings.assistant_history)
    made = await _ask(means.assistant, run, question, history, deadline)
    run.may_be_stored = True
    turn, is_sure = await _store(means, question, [Message("user", question.message), *made], key)
    shown = [Message(row["role"], row["content"]) for row in from_json(turn.shown)]
    run.is_shown_otherwise = turn.replayed and _texts(shown) != _texts(made)
    # After a failed try, the stored turn may be this run's own: the database may have stored it and lost its answer.
    return _reply(turn, replayed=turn.replayed and (is_sure or run.is_shown_otherwise))


async def _read_history(connection: Connection, question: Question, count: int) -> list[Message]:
    """The newest messages that fit a page, oldest first; raises ConversationNotFound, even if `count` is 0."""
    if question.conversation_id is None:
        return []
    page = await conversations.read(connection, question.user_id, question.conversation_id, max(count, 1), START)
    rows = from_json(page.body)["messages"] if count else []
    return [Message(row["role"], row["content"], row["metadata"]) for row in rows]


async def _ask(
    assistant: "Assistant", run: Run, question: Question, history: list[Message], deadline: float
) -> list[Message]:
    items = [*to_items(history), {"role": "user", "content": question.message}]
    context = TurnContext(question.user_id, question.conversation_id, question.key and question.key.value)
    tasks.in_turn.set(True)
    try:
        async with asyncio.timeout_at(deadline):
            return await assistant.ask(items, context, run.show)
    except TimeoutError:
        raise AssistantTooSlow("longer than ASSISTANT_TIMEOUT: raise it if the agent needs more") from None


async def _store(means: Means, question: Question, messages: list[Message], key: Key) -> tuple[Turn, bool]:
    """The turn, and whether the first try stored or found it."""
    loop = asyncio.get_running_loop()
    seconds = means.settings.database_timeout
    give_up_at = None
    while True:
        try:
            async with Connection(means.engine, seconds) as connection:
                user_id, conversation_id, title = question.user_id, question.conversation_id, question.title
                turn = await turns.store(connection, user_id, conversation_id, messages, title=title, key=key)
        except DatabaseUnavailable as error:
            if give_up_at is None:
                logger.warning("the reply is there, but the turn cannot be stored yet: %s", error.cause)
                give_up_at = loop.time() + STORE_SECONDS
            if loop.time() >= give_up_at:
                raise
        else:
            return turn, give_up_at is None
        await asyncio.sleep(min(STORE_DELAY, max(give_up_at - loop.time(), 0)))
        seconds = min(seconds, max(give_up_at - loop.time(), 1))


def _texts(messages: list[Message]) -> list[str]:
    """What the assistant has said, which is what a stream shows."""
    return [message.content for message in messages if message.role == "assistant" and message.content]


def _reply(turn: Turn, *, replayed: bool) -> Reply:
    text: str = from_json(turn.shown)[-1]["content"]
    return Reply(turn.conversation_id, text, replayed)
