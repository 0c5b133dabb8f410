"""What happens around every request: its id, its log line, its metrics, and the response of last resort."""

import logging
import os
import re
import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_agent import logs
from ai_agent.api.cors import log_preflight_without_cors
from ai_agent.metrics import Metrics

logger = logging.getLogger(__name__)

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

# A cache in front of the service may keep every response that does not forbid it, even an error, and it does not know
# that X-Service-Auth makes a response private.
_NO_STORE = (b"cache-control", b"no-store")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestLog:
    """Gives each request an id, one line in the log, headers against caches, and a JSON 500 for an unexpected error.

    The 500 is made here because Starlette sends its own outside of all middleware: without the id, and without the
    headers of the CORS middleware that let a browser's script read it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        request = logs.RequestContext(request_id.decode())
        logs.current.set(request)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                headers += (_NO_SNIFFING, (b"x-request-id", request_id))
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
            await send(message)

        metrics: Metrics = scope["app"].state.metrics
        metrics.in_progress += 1
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            # Not logger.exception, because it writes the texts of errors, which quote what people sent.
            logger.error("%s %s failed:\n%s", scope["method"], _route(scope), logs.outline(error))  # noqa: TRY400
            if not status:  # Otherwise the response has begun, and the server cuts it short when this returns.
                response = JSONResponse({"detail": "Internal server error."}, status_code=500)
                await response(scope, receive, send_with_id)
        finally:
            metrics.in_progress -= 1
            if scope["method"] == "OPTIONS":
                log_preflight_without_cors(scope)
            _record(scope, request, metrics, status, time.perf_counter() - started)


def _request_id(scope: Scope) -> bytes:
    """The X-Request-ID that a proxy or the client sent, unless it could spoil the log; else a random id."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_REQUEST_ID.fullmatch(value):
            return bytes(value)
    return os.urandom(16).hex().encode()


def _record(scope: Scope, request: logs.RequestContext, metrics: Metrics, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    route = _route(scope)
    metrics.requests(method, route, status).observe(seconds)
    level = logging.INFO if scope["path"].startswith("/api/") else logging.DEBUG
    if logger.isEnabledFor(level):
        fields = {"method": method, "route": route, "status": status, "milliseconds": round(seconds * 1000, 1)}
        actor = request.actor
        logger.log(level, "%s %s %d %.1f ms %s", *fields.values(), actor, extra=fields | {"actor": actor})


def _route(scope: Scope) -> str:
    """The route's template; a path that matches none stays out of the log, because it may hold anything."""
    route = scope.get("route")
    return route.path if route is not None else "(no route)"
