"""Every error that callers or operators see, with the HTTP response that `api.errors` makes of it."""

from collections.abc import Mapping
from typing import ClassVar, Literal

Cause = Literal["pool_exhausted", "too_slow", "unreachable", "connection_lost", "refused", "not_ready"]
"""Why the database made a request fail; the metrics count its 503s by this."""


class ConfigurationError(ValueError):
    """A setting that the service cannot start with; its text is one sentence for the operator."""


class ApiError(Exception):
    """The base of every error that has a response: `{"detail": detail}` with its status and headers."""

    status_code: ClassVar[int]
    detail: str
    headers: ClassVar[Mapping[str, str]] = {}
    cause: Cause | None = None
    """For a 503 of the database, why; the metrics count it by this."""


class NotAuthenticated(ApiError):
    status_code = 401
    detail = "Not authenticated: send 'Authorization: Bearer <token>' with the token of a current session."
    headers = {"WWW-Authenticate": "Bearer"}


class TrustedServiceRequired(ApiError):
    status_code = 401
    detail = "For trusted services only: send SERVICE_AUTH_TOKEN as X-Service-Auth and the user's id as X-User-ID."
    headers = {"WWW-Authenticate": "Bearer"}


class ConversationNotFound(ApiError):
    status_code = 404
    detail = "Conversation not found."


class BodyTooSlow(ApiError):
    status_code = 408
    detail = "The request body arrives too slowly."
    headers = {"Connection": "close"}


class BodyTooLarge(ApiError):
    status_code = 413
    detail = "The request body is larger than 1 MiB."


class ServerBusy(ApiError):
    status_code = 503
    detail = "Too many large requests are arriving at once; try again shortly."
    headers = {"Retry-After": "2"}


class IdempotencyKeyReused(ApiError):
    status_code = 422
    detail = "This Idempotency-Key was sent before with another request: use a new key for each new request."


class IdempotencyKeyRepeated(ApiError):
    status_code = 422
    detail = "The request has more than one Idempotency-Key: send one."


class InvalidCursor(ApiError):
    status_code = 422
    detail = "The cursor does not belong to this list; start again without one."


class ClientGone(ApiError):
    """The client closed its connection while it waited. Only the log and the metrics show this, with nginx's 499."""

    status_code = 499
    detail = "The client closed the connection."


class DatabaseUnavailable(ApiError):
    """The database refused the work or did not do it in time. Nothing that was acknowledged is lost."""

    status_code = 503
    detail = "The database is not available at the moment; try again shortly."
    headers = {"Retry-After": "2"}

    def __init__(self, cause: Cause) -> None:
        self.cause = cause


class DatabaseNotReady(ApiError):
    """The database lacks something that the service needs; `detail` names it and the remedy."""

    status_code = 503
    headers = {"Retry-After": "2"}
    cause: Cause | None = "not_ready"

    def __init__(self, detail: str) -> None:
        self.detail = detail


class AssistantUnavailable(ApiError):
    """The model could not answer; nothing was stored, and the message may be sent again."""

    status_code = 503
    detail = "The assistant is not available at the moment, and nothing was stored; try again shortly."
    headers = {"Retry-After": "5"}


class AssistantTooSlow(AssistantUnavailable):
    detail = "The assistant took too long to reply, and nothing was stored; try again shortly."


class ServiceStopping(AssistantUnavailable):
    detail = "The service is stopping, and nothing was stored; try again shortly."


class StoppedWhileStoring(ApiError):
    """The service has to stop before it knows whether the database has stored the turn."""

    status_code = 503
    detail = (
        "The service is stopping, and the message may or may not be stored: send it again with the same"
        " Idempotency-Key, or read the conversation."
    )
    headers = {"Retry-After": "5"}


class AssistantFailed(ApiError):
    """The agent, one of its tools or the model failed in a way that trying again may not cure."""

    status_code = 502
    detail = "The assistant failed to reply, and nothing was stored."


class AssistantRefused(ApiError):
    """One of the agent's guardrails stopped the turn."""

    status_code = 422
    detail = "The assistant may not answer this message, and nothing was stored."


class OtherReplyStored(ApiError):
    """Another process has stored a different reply under the key from the one shown here; a retry replays it."""

    status_code = 503
    detail = "Another reply to this message was stored: send it again with the same key to read that one."
