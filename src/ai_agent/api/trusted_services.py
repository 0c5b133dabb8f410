"""What only a trusted service may do for a user: open a conversation, and store messages of any role in one."""

import json
import re
from decimal import Decimal
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from ai_agent import logs
from ai_agent.api.caller import CurrentCaller, TrustedServiceRoute
from ai_agent.api.openapi import BAD_BODY, OWNED, REPLAYED, SERVICE, example_entry, invalid_entry, operation_id
from ai_agent.api.schemas import (
    CONVERSATION,
    MAX_MESSAGE_LENGTH,
    TEXT,
    ConversationId,
    ConversationListResponse,
    IdempotencyKey,
    MessageResponse,
    Title,
    check_text,
)
from ai_agent.database.models import Role
from ai_agent.services import turns
from ai_agent.services.turns import Message, Turn

router = APIRouter(
    route_class=TrustedServiceRoute,
    prefix="/api/conversations",
    tags=["trusted services"],
    responses=SERVICE,
    generate_unique_id_function=operation_id,
)

MAX_METADATA_BYTES = 64 * 1024
MAX_METADATA_DEPTH = 100

# An escaped NUL, which jsonb cannot hold, but not an escaped backslash before "u0000".
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what jsonb cannot hold or cannot give back unchanged, and what would exceed the limit in a response."""
    expansion = _expansion(value, MAX_METADATA_DEPTH)
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False)
        size = len(encoded.encode())
    except ValueError:
        raise ValueError("must be JSON: no NaN, no infinity, no lone surrogates") from None
    if _ESCAPED_NUL.search(encoded):
        raise ValueError("must not contain NUL")
    if size + expansion > MAX_METADATA_BYTES:
        raise ValueError(f"must not be larger than {MAX_METADATA_BYTES} bytes of JSON, its numbers without exponents")
    return value


def _expansion(value: object, levels: int) -> int:
    """How many characters PostgreSQL's JSON adds, because it writes 1e300 with all its zeros."""
    if levels == 0:
        raise ValueError(f"must not be nested deeper than {MAX_METADATA_DEPTH} levels")
    if isinstance(value, float):
        written = repr(value)
        return len(f"{Decimal(written):f}") - len(written) if "e" in written else 0
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(_expansion(child, levels - 1) for child in children)


class MessageRequest(BaseModel):
    """A message in the shape of OpenAI's chat messages; the fields from `name` on are kept in `metadata`."""

    role: Role
    content: (
        Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH, json_schema_extra=TEXT), AfterValidator(check_text)] | None
    ) = Field(default=None, description="May be empty or null if there is metadata, such as a tool call.")
    metadata: Annotated[dict[str, Any], AfterValidator(check_metadata)] | None = Field(
        default=None,
        description="Any JSON object of up to 64 KiB, returned as it was sent, with fractions in double precision.",
    )
    name: JsonValue = None
    tool_calls: JsonValue = None
    tool_call_id: JsonValue = None
    function_call: JsonValue = None
    refusal: JsonValue = None
    annotations: JsonValue = None
    audio: JsonValue = None

    @model_validator(mode="after")
    def _keep_chat_fields(self) -> Self:
        metadata = self.metadata or {}
        sent = {name: value for name in CHAT_FIELDS if (value := getattr(self, name)) is not None}
        for name, value in sent.items():
            if metadata.get(name, value) != value:
                raise ValueError(f"{name} differs from {name} in metadata: send one of them")
        if sent:
            self.metadata = check_metadata({**metadata, **sent})
        if not self.content and not self.metadata:
            raise ValueError("content may only be empty where metadata is not")
        return self


CHAT_FIELDS = ("name", "tool_calls", "tool_call_id", "function_call", "refusal", "annotations", "audio")


class ConversationCreateRequest(BaseModel):
    """The title of the new conversation, if it is to have one of its own."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Holiday plans"}]})

    title: Title | None = Field(default=None, description="Without it the title is `Chat - YYYY-MM-DD HH:MM` (UTC).")


TOOL_CALL = {"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]}
SENT: list[dict[str, Any]] = [
    {"role": "user", "content": "What time is it?"},
    {"role": "assistant", "content": "", "metadata": TOOL_CALL},
    {"role": "tool", "content": "09:30", "metadata": {"tool_call_id": "call_1"}},
    {"role": "assistant", "content": "It is half past nine."},
]
STORED = [
    {"id": 85 + n, **message, "metadata": message.get("metadata"), "created_at": CONVERSATION["created_at"]}
    for n, message in enumerate(SENT)
]


LONG_TITLE = invalid_entry("string_too_long", ["body", "title"], "String should have at most 200 characters")
BAD_ROLE = invalid_entry("literal_error", ["body", 0, "role"], "Input should be 'user', 'assistant' or 'tool'")


@router.post(
    "",
    summary="Open a conversation for a user",
    status_code=201,
    response_model=ConversationListResponse,
    responses=example_entry(CONVERSATION, 201, headers=REPLAYED) | BAD_BODY | LONG_TITLE,
)
async def create_conversation(
    body: ConversationCreateRequest, caller: CurrentCaller, idempotency_key: IdempotencyKey = ""
) -> Response:
    """Open an empty conversation for the user in `X-User-ID`. For trusted services only.

    With an `Idempotency-Key` the request is safe to retry, like `POST /api/chat`.
    """
    key = turns.make_key(idempotency_key, "open", body.title)
    opened = await turns.store(caller.connection, caller.user_id, None, [], title=body.title, key=key)
    return _created(opened)


@router.post(
    "/{conversation_id}/messages",
    summary="Store messages for a user",
    status_code=201,
    response_model=list[MessageResponse],
    responses=example_entry(STORED, 201, headers=REPLAYED) | BAD_BODY | OWNED | BAD_ROLE,
)
async def append_messages(
    conversation_id: ConversationId,
    body: Annotated[list[MessageRequest], Body(min_length=1, max_length=100, examples=[SENT])],
    caller: CurrentCaller,
    idempotency_key: IdempotencyKey = "",
) -> Response:
    """Append 1 to 100 messages of any role to a conversation of the user in `X-User-ID`, in this order, all or none.

    For trusted services only, because users must not write what the assistant or a tool has said. With an
    `Idempotency-Key` the request is safe to retry, like `POST /api/chat`.
    """
    messages = [Message(message.role, message.content or "", message.metadata) for message in body]
    key = turns.make_key(idempotency_key, "append", conversation_id, messages)
    stored = await turns.store(caller.connection, caller.user_id, conversation_id, messages, key=key)
    return _created(stored)


def _created(turn: Turn) -> Response:
    logs.note_conversation(turn.conversation_id)
    headers = {"Idempotency-Replayed": "true"} if turn.replayed else None
    return Response(turn.shown, status_code=201, media_type="application/json", headers=headers)
