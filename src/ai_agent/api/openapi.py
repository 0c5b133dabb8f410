"""The OpenAPI document: its texts, how callers authenticate, and each error with the body that is really sent."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from pydantic.alias_generators import to_camel

from ai_agent.api.caller import CallerRoute
from ai_agent.errors import (
    ApiError,
    BodyTooLarge,
    BodyTooSlow,
    ConversationNotFound,
    DatabaseUnavailable,
    NotAuthenticated,
    TrustedServiceRequired,
)

type Entries = dict[int | str, dict[str, Any]]

DESCRIPTION = """
Keeps people's conversations. Sign in with better-auth, send each message to `POST /api/chat`, and read everything back
from `/api/conversations`, on any device.

**Authorize** with the token that better-auth handed out, then *Try it out*. Every error is `{"detail": ...}`.
"""

TAGS = [
    {"name": "chat", "description": "Sending a message and getting the assistant's reply."},
    {"name": "history", "description": "Reading conversations back, renaming and deleting them."},
    {"name": "trusted services", "description": "What a service does for a user, with its own token."},
    {"name": "health", "description": "For operators and their load balancers."},
]

SECURITY_SCHEMES = {
    "sessionToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token that better-auth gave the front end at sign-in, raw, signed or percent-encoded.",
    },
    "serviceToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Service-Auth",
        "description": "The SERVICE_AUTH_TOKEN of this deployment, for trusted services only.",
    },
    "servedUser": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-ID",
        "description": "The id of the user that the service acts for.",
    },
}

HEADERS = {
    "Connection": "The server closes the connection.",
    "Retry-After": "Seconds to wait before the next attempt.",
    "WWW-Authenticate": "The authentication scheme to use.",
}


class App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document, plus what FastAPI cannot express: schemes that are needed together, and null in an example."""
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["securitySchemes"] = SECURITY_SCHEMES
            for route in self.router.routes:
                if isinstance(route, CallerRoute):
                    for method in route.methods or ():
                        _complete(document["paths"][route.path_format][method.lower()], route)
        return super().openapi()


def _complete(operation: dict[str, Any], route: CallerRoute) -> None:
    operation["security"] = route.security
    for parameter in operation.get("parameters", ()):
        if isinstance(parameter["schema"].get("default"), str):  # It stands for a parameter that was not sent.
            del parameter["schema"]["default"]
    for status, entry in route.responses.items():
        for media_type, content in entry.get("content", {}).items():
            operation["responses"][str(status)]["content"][media_type]["example"] = content["example"]


def operation_id(route: APIRoute) -> str:
    """The name of the route's function in camel case, which generated clients use."""
    return to_camel(route.name)


class ErrorResponse(BaseModel):
    """Why the request was refused, for a person to read."""

    detail: str


class FieldProblem(BaseModel):
    """One thing that is wrong with the request; it never repeats what was sent."""

    loc: list[str | int] = Field(description="Where: `body`, `query`, `path` or `header`, then the field.")
    msg: str
    type: str


class ValidationErrorResponse(BaseModel):
    """What is wrong with each field, or one sentence about the request as a whole."""

    detail: list[FieldProblem] | str


def error_entry(error: ApiError | type[ApiError], meaning: str) -> Entries:
    """The entry of one error, its headers included."""
    entry: dict[str, Any] = {
        "model": ErrorResponse,
        "description": meaning,
        "content": {"application/json": {"example": {"detail": error.detail}}},
    }
    if error.headers:
        entry["headers"] = {
            name: {"description": HEADERS[name], "schema": {"type": "string", "example": value}}
            for name, value in error.headers.items()
        }
    return {error.status_code: entry}


def invalid_entry(kind: str, loc: list[str | int], msg: str) -> Entries:
    """The entry of a 422 with one example of what can be wrong."""
    return {
        422: {
            "model": ValidationErrorResponse,
            "description": "The request is not valid, and nothing was stored.",
            "content": {"application/json": {"example": {"detail": [{"type": kind, "loc": loc, "msg": msg}]}}},
        }
    }


def example_entry(example: object, status: int = 200, **entry: Any) -> Entries:
    """The entry of a successful response, with its example and whatever else it has."""
    return {status: {**entry, "content": {"application/json": {"example": example}}}}


UNAVAILABLE = error_entry(
    DatabaseUnavailable, "The database is unreachable or busy. Wait for `Retry-After` seconds and try again."
)
SIGNED_IN = (
    error_entry(NotAuthenticated, "The token is missing, malformed, unknown, expired or signed out.") | UNAVAILABLE
)
SERVICE = error_entry(TrustedServiceRequired, "The service's token or the user's id is missing or wrong.") | UNAVAILABLE
OWNED = error_entry(ConversationNotFound, "There is no such conversation, or it is somebody else's.")
BAD_BODY = error_entry(BodyTooSlow, "The request body did not arrive in time.") | error_entry(
    BodyTooLarge, "The request body is too large."
)
BAD_ID = invalid_entry("int_parsing", ["path", "conversation_id"], "Input should be a valid integer")

REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` if an earlier request with the same key had stored the turn already.",
        "schema": {"type": "string"},
    }
}
LINK = {"Link": {"description": 'The next page, `<url>; rel="next"`, if there is one.', "schema": {"type": "string"}}}
