"""Which pages of other origins may call the API, and the log line for those that may not."""

import logging
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

logger = logging.getLogger(__name__)

ALLOWED: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "PATCH", "DELETE"],
    "allow_headers": ["*"],
    # Chrome asks for this before a page on the internet reaches a private address, such as a developer's machine.
    "allow_private_network": True,
    "expose_headers": ["Link", "Retry-After", "WWW-Authenticate", "Idempotency-Replayed", "X-Request-ID"],
}


class Cors(CORSMiddleware):
    """Starlette's middleware, but it logs the preflights that it refuses, because browsers do not show the reason."""

    def __init__(self, app: ASGIApp, allow_origins: tuple[str, ...]) -> None:
        super().__init__(app, allow_origins, **ALLOWED)
        self.preflight_headers |= {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if not self.is_allowed_origin(request_headers["origin"]):
            _log_refused(request_headers["origin"], "CORS_ORIGINS does not list it")
        elif response.status_code != 200:
            _log_refused(request_headers["origin"], bytes(response.body).decode())
        return response


def log_preflight_without_cors(scope: Scope) -> None:
    """Log an OPTIONS request if it is a preflight. It gets here only without CORS_ORIGINS, and is a 404 or a 405."""
    headers = Headers(scope=scope)
    if "origin" in headers and "access-control-request-method" in headers:
        _log_refused(headers["origin"], "CORS_ORIGINS is not set")


def _log_refused(origin: str, reason: str) -> None:
    # ascii() escapes everything that could break the line or hide in it.
    logger.warning("A browser's preflight from the origin %s was refused: %s.", ascii(origin[:200]), reason)
