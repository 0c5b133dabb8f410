"""Schemas that several routes share: fields with their bounds, and the responses for conversations and messages."""

import re
from typing import Annotated, Any

from fastapi import Header, Path
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, JsonValue, WithJsonSchema
from pydantic_core import PydanticKnownError

from ai_agent.database.models import UNSTORABLE, Role

MAX_MESSAGE_LENGTH = 100_000

_INTEGER = re.compile("-?[0-9]+")

# How the OpenAPI document describes the checks below.
TEXT: dict[str, JsonValue] = {"pattern": r"^[^\x00]*$"}
VISIBLE: dict[str, JsonValue] = {"pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"}

# FastAPI writes bounds as floats, which cannot hold the largest id exactly.
Id = Annotated[int, WithJsonSchema({"type": "integer", "format": "int64", "examples": [42]})]


def check_text(value: str) -> str:
    """Refuse what PostgreSQL's text and UTF-8 cannot hold."""
    if UNSTORABLE.search(value):
        raise ValueError("must not contain NUL or lone surrogates")
    return value


def check_visible(value: str) -> str:
    """Refuse text that holds nothing but white space."""
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def check_integer(value: str) -> str:
    """Refuse what pydantic would read as an integer too: `1_0`, `1.0`, `+1` and white space around a number."""
    if not _INTEGER.fullmatch(value):
        raise PydanticKnownError("int_parsing")
    return value


# Its default is an empty string, because FastAPI does more work on a union with None.
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="A string of your choice that makes a retry safe; each new request needs a new one.",
        examples=["0f8e5d0c-6c0f-4f0e-9a53-5d7a4b8f7c21"],
    ),
]

Title = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra=VISIBLE),
    AfterValidator(check_text),
    AfterValidator(check_visible),
]

ConversationId = Annotated[
    Id, Path(ge=-(2**63), lt=2**63, description="The conversation's id."), BeforeValidator(check_integer)
]


class ConversationListResponse(BaseModel):
    """A conversation without its messages."""

    id: Id
    title: str | None
    created_at: AwareDatetime
    updated_at: AwareDatetime = Field(description="When its last message was stored.")


class MessageResponse(BaseModel):
    """A message in the shape of OpenAI's chat messages."""

    id: Id = Field(description="Ascends in the order of the conversation.")
    role: Role
    content: str = Field(description="May be empty where `metadata` carries tool calls.")
    metadata: dict[str, Any] | None
    created_at: AwareDatetime


class ConversationDetailResponse(ConversationListResponse):
    """A conversation with a page of its messages, the oldest of them first."""

    messages: list[MessageResponse]


_AT = "2026-11-22T09:30:12.345678+00:00"
CONVERSATION = {"id": 42, "title": "Chat - 2026-11-22 09:30", "created_at": _AT, "updated_at": _AT}
MESSAGES = [
    {"id": 83, "role": "user", "content": "Good morning!", "metadata": None, "created_at": _AT},
    {"id": 84, "role": "assistant", "content": "Echo: Good morning!", "metadata": None, "created_at": _AT},
]
