"""Sending a message: `POST /api/chat`."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ai_agent.api import streams
from ai_agent.api.caller import CallerRoute, CurrentCaller
from ai_agent.api.openapi import (
    BAD_BODY,
    OWNED,
    REPLAYED,
    SIGNED_IN,
    error_entry,
    example_entry,
    invalid_entry,
    operation_id,
)
from ai_agent.api.replies import RunResponse, respond
from ai_agent.api.schemas import MAX_MESSAGE_LENGTH, VISIBLE, Id, IdempotencyKey, Title, check_text, check_visible
from ai_agent.errors import AssistantFailed, DatabaseUnavailable
from ai_agent.services import chat, turns
from ai_agent.services.assistant.runs import Runs
from ai_agent.services.chat import Question, Reply

router = APIRouter(
    route_class=CallerRoute,
    prefix="/api",
    tags=["chat"],
    responses=SIGNED_IN,
    generate_unique_id_function=operation_id,
)


class ChatRequest(BaseModel):
    """A message, and the conversation that it continues."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message": "Good morning!", "conversation_id": None}]})

    message: Annotated[
        str,
        Field(min_length=1, max_length=MAX_MESSAGE_LENGTH, json_schema_extra=VISIBLE),
        AfterValidator(check_text),
        AfterValidator(check_visible),
    ] = Field(description="The user's text, stored byte for byte as sent; it must not be blank.")
    conversation_id: Id | None = Field(
        default=None,
        strict=True,
        ge=-(2**63),
        lt=2**63,
        description="The conversation to append to; without it, or with null, a new one begins.",
    )
    title: Title | None = Field(
        default=None,
        description="The title of a new conversation; an existing one keeps its own.",
    )


class ChatResponse(BaseModel):
    """The turn as it was stored."""

    conversation_id: Id = Field(description="Send it with the next message to continue the conversation.")
    user_message: str
    assistant_message: str


EXAMPLE = {"conversation_id": 42, "user_message": "Good morning!", "assistant_message": "Echo: Good morning!"}
REPLY = example_entry(EXAMPLE, headers=REPLAYED)
REPLY[200]["content"][streams.MEDIA_TYPE] = {
    "schema": {"type": "string"},
    "example": streams.encode_whole(Reply(42, "Echo: Good morning!", replayed=False)).decode(),
}
FAILED = error_entry(AssistantFailed, "The agent, its model or one of its tools failed. Nothing was stored.")
UNAVAILABLE = error_entry(
    DatabaseUnavailable,
    "The database or the assistant is unreachable, busy or too slow. Wait for `Retry-After` seconds and try again.",
)
BLANK = invalid_entry("value_error", ["body", "message"], "Value error, must not be blank")


@router.post(
    "/chat",
    summary="Send a message",
    response_model=ChatResponse,
    responses=REPLY | OWNED | BAD_BODY | BLANK | FAILED | UNAVAILABLE,
)
async def send_message(
    body: ChatRequest, caller: CurrentCaller, request: Request, idempotency_key: IdempotencyKey = ""
) -> Response:
    """Send a message and get the assistant's reply, once both are stored.

    Without `conversation_id` a new conversation begins, with your `title` or titled `Chat - YYYY-MM-DD HH:MM` (UTC).
    With it, the turn is appended and the conversation moves to the top of the list. A turn is stored whole or not at
    all.

    **A request with an `Idempotency-Key` is safe to retry** after a lost connection, a timeout or a 503: for 24 hours
    the same key with the same body gives the first response again, with the header `Idempotency-Replayed: true`, and
    stores nothing more. The same key with another request is a 422. Each user has keys of their own.

    **With `Accept: text/event-stream` the reply is streamed**, in the UI message stream of the AI SDK (version 1):
    `start`, then texts and tool calls as they come, and at the end `finish` or `error`. `finish` comes once the turn is
    stored, with the conversation's id in `messageMetadata`. After an `error` the turn may be stored, unless its text
    says that it is not; a retry with the same key is safe. What fails before the first part has a status of its own.
    """
    key = turns.make_key(idempotency_key, "chat", body.conversation_id, body.message, body.title)
    question = Question(caller.user_id, body.conversation_id, body.message, body.title, key)
    streamed = streams.is_wanted(request.scope)
    runs: Runs | None = request.app.state.runs
    if runs is not None:
        return RunResponse(runs.begin(question), body.message, streamed=streamed)
    reply = await chat.send(caller.connection, question)
    return respond(reply, body.message, streamed=streamed)
