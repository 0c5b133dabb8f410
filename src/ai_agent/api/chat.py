"""Sending a message: `POST /api/chat`."""

import re
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ai_agent.api.deps import CurrentCaller
from ai_agent.api.responses import OWNED, SIGNED_IN, invalid
from ai_agent.services import turns

router = APIRouter(prefix="/api", tags=["chat"])

MAX_MESSAGE_LENGTH = 100_000

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_storable(value: str) -> str:
    """Refuse what PostgreSQL's text and UTF-8 cannot hold, and text without any visible character."""
    if _UNSTORABLE.search(value):
        raise ValueError("must not contain NUL or lone surrogates")
    if not value.strip():
        raise ValueError("must not be blank")
    return value


class ChatRequest(BaseModel):
    """A message, and the conversation that it goes on with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message": "Good morning!", "conversation_id": None}]})

    message: Annotated[str, AfterValidator(check_storable)] = Field(
        min_length=1,
        max_length=MAX_MESSAGE_LENGTH,
        description="The user's text, stored byte for byte as sent; it must not be blank.",
    )
    conversation_id: int | None = Field(
        default=None,
        strict=True,
        ge=-(2**63),
        lt=2**63,
        description="The conversation to append to; without it, or with null, a new one begins.",
    )


EXAMPLE = {
    "conversation_id": 42,
    "user_message": "Good morning!",
    "assistant_message": "Echo: Good morning!",
}


class ChatResponse(BaseModel):
    """The turn as it was stored."""

    conversation_id: int = Field(description="Send it with the next message to go on with the conversation.")
    user_message: str
    assistant_message: str


@router.post(
    "/chat",
    operation_id="sendMessage",
    summary="Send a message",
    responses={
        200: {"content": {"application/json": {"example": EXAMPLE}}},
        **SIGNED_IN,
        **OWNED,
        **invalid({"type": "value_error", "loc": ["body", "message"], "msg": "Value error, must not be blank"}),
    },
)
async def send_message(body: ChatRequest, caller: CurrentCaller) -> ChatResponse:
    """Send a message and get the assistant's answer, once both are stored.

    Without `conversation_id` a new conversation begins, titled `Chat - YYYY-MM-DD HH:MM` (UTC). With it, the turn is
    appended and the conversation moves to the top of the list. A turn is stored whole or not at all.
    """
    turn = await turns.record(caller.session, caller.user_id, body.message, body.conversation_id)
    return ChatResponse.model_validate(turn, from_attributes=True)
