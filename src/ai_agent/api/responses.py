"""The errors of the API as OpenAPI shows them, each with the body that is really sent."""

from typing import Any

from pydantic import BaseModel, Field

from ai_agent.api.middleware import BODY_TOO_LARGE, BODY_TOO_SLOW
from ai_agent.errors import (
    ApiError,
    ConversationNotFound,
    DatabaseUnavailable,
    NotAuthenticated,
    TrustedServiceRequired,
)


class ErrorResponse(BaseModel):
    """Why the request was refused, for a person to read."""

    detail: str


class FieldProblem(BaseModel):
    """One thing wrong with the request; what was sent is never repeated."""

    loc: list[str | int] = Field(description="Where: `body`, `query`, `path` or `header`, then the field.")
    msg: str
    type: str


class ValidationErrorResponse(BaseModel):
    """What is wrong with each field, or one sentence about the request as a whole."""

    detail: list[FieldProblem] | str


HEADERS = {
    "Retry-After": "Seconds to wait before the next attempt.",
    "WWW-Authenticate": "The scheme of authentication.",
}


def describe(error: type[ApiError], meaning: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entry of one error, its headers included."""
    return {
        error.status_code: {
            "model": ErrorResponse,
            "description": meaning,
            "headers": {
                name: {"description": HEADERS[name], "schema": {"type": "string", "example": value}}
                for name, value in error.headers.items()
            },
            "content": {"application/json": {"example": {"detail": error.detail}}},
        }
    }


def invalid(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entry of a 422 with one example of `detail`'s entries."""
    return {
        422: {
            "model": ValidationErrorResponse,
            "description": "The request is not valid, and nothing was stored.",
            "content": {"application/json": {"example": {"detail": [example]}}},
        }
    }


UNAVAILABLE = describe(
    DatabaseUnavailable, "The database is unreachable or busy. Wait for `Retry-After` seconds and try again."
)
SIGNED_IN = describe(NotAuthenticated, "The token is missing, malformed, unknown, expired or signed out.") | UNAVAILABLE
SERVICE = describe(TrustedServiceRequired, "The service's token or the user's id is missing or wrong.") | UNAVAILABLE
OWNED = describe(ConversationNotFound, "There is no such conversation, or it is somebody else's.")
BAD_BODY: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ErrorResponse,
        "description": meaning,
        "content": {"application/json": {"example": {"detail": detail}}},
    }
    for status, meaning, detail in (
        (408, "The request body did not arrive in time.", BODY_TOO_SLOW),
        (413, "The request body is too large.", BODY_TOO_LARGE),
    )
}

REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` when an earlier request with the same key had stored the turn.",
        "schema": {"type": "string"},
    }
}


def shown(example: object, status: int = 200, **entry: Any) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entry of the answer that is hoped for, with its example."""
    return {status: {**entry, "content": {"application/json": {"example": example}}}}
