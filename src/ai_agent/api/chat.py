"""Sending a message: `POST /api/chat`."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema

from ai_agent.api.deps import BY_SERVICE, CurrentCaller, SessionRoute
from ai_agent.api.responses import OWNED, SIGNED_IN, TOO_LARGE, invalid
from ai_agent.services import turns

router = APIRouter(route_class=SessionRoute, prefix="/api", tags=["chat"])

MAX_MESSAGE_LENGTH = 100_000

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# What the checks below are in the OpenAPI document.
TEXT: dict[str, JsonValue] = {"pattern": r"^[^\x00]*$"}
VISIBLE: dict[str, JsonValue] = {"pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"}

# FastAPI writes bounds as floats, which cannot hold those of an id.
Id = Annotated[int, WithJsonSchema({"type": "integer", "format": "int64", "examples": [42]})]


def check_text(value: str) -> str:
    """Refuse what PostgreSQL's text and UTF-8 cannot hold."""
    if _UNSTORABLE.search(value):
        raise ValueError("must not contain NUL or lone surrogates")
    return value


def check_visible(value: str) -> str:
    """Refuse text that holds nothing but white space."""
    if not value.strip():
        raise ValueError("must not be blank")
    return value


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="A string of your choice, new for each message, that makes a retry safe.",
        examples=["0f8e5d0c-6c0f-4f0e-9a53-5d7a4b8f7c21"],
    ),
]


class ChatRequest(BaseModel):
    """A message, and the conversation that it goes on with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message": "Good morning!", "conversation_id": None}]})

    message: Annotated[str, AfterValidator(check_text), AfterValidator(check_visible)] = Field(
        min_length=1,
        max_length=MAX_MESSAGE_LENGTH,
        description="The user's text, stored byte for byte as sent; it must not be blank.",
        json_schema_extra=VISIBLE,
    )
    conversation_id: Id | None = Field(
        default=None,
        strict=True,
        ge=-(2**63),
        lt=2**63,
        description="The conversation to append to; without it, or with null, a new one begins.",
    )


REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` when an earlier request with the same key had stored the turn.",
        "schema": {"type": "string"},
    }
}
EXAMPLE = {
    "conversation_id": 42,
    "user_message": "Good morning!",
    "assistant_message": "Echo: Good morning!",
}


class ChatResponse(BaseModel):
    """The turn as it was stored."""

    conversation_id: Id = Field(description="Send it with the next message to go on with the conversation.")
    user_message: str
    assistant_message: str


@router.post(
    "/chat",
    operation_id="sendMessage",
    summary="Send a message",
    openapi_extra=BY_SERVICE,
    responses={
        200: {"content": {"application/json": {"example": EXAMPLE}}, "headers": REPLAYED},
        **SIGNED_IN,
        **OWNED,
        **TOO_LARGE,
        **invalid({"type": "value_error", "loc": ["body", "message"], "msg": "Value error, must not be blank"}),
    },
)
async def send_message(
    body: ChatRequest, caller: CurrentCaller, response: Response, idempotency_key: IdempotencyKey = None
) -> ChatResponse:
    """Send a message and get the assistant's answer, once both are stored.

    Without `conversation_id` a new conversation begins, titled `Chat - YYYY-MM-DD HH:MM` (UTC). With it, the turn is
    appended and the conversation moves to the top of the list. A turn is stored whole or not at all.

    **A request with an `Idempotency-Key` is safe to retry** after a lost connection, a timeout or a 503: for 24 hours
    the same key with the same body gives the first answer again, with the header `Idempotency-Replayed: true`, and
    stores nothing more. The same key with another body is a 422. Keys of different users never meet.
    """
    turn = await turns.record(caller.session, caller.user_id, body.message, body.conversation_id, idempotency_key)
    if turn.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return ChatResponse.model_validate(turn, from_attributes=True)
