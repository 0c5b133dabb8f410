"""Sending a message: `POST /api/chat`."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ai_agent.api.deps import BY_SERVICE, CurrentCaller, SessionRoute
from ai_agent.api.fields import MAX_MESSAGE_LENGTH, VISIBLE, Id, IdempotencyKey, check_text, check_visible
from ai_agent.api.responses import BAD_BODY, OWNED, REPLAYED, SIGNED_IN, invalid
from ai_agent.services import turns

router = APIRouter(route_class=SessionRoute, prefix="/api", tags=["chat"])


class ChatRequest(BaseModel):
    """A message, and the conversation that it goes on with."""

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
        **BAD_BODY,
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
