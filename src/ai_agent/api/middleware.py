"""What happens around every request: its id, its log line, the limit of its body, and the answer of last resort."""

import asyncio
import logging
import re
import time
from uuid import uuid4

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_agent import logs
from ai_agent.metrics import Metrics

MAX_BODY_BYTES = 1024 * 1024
BODY_TOO_LARGE = "The request body is larger than 1 MiB."
BODY_TOO_SLOW = "The request body arrives too slowly."

# A request body has five seconds, and another for every 16 KiB of it that have arrived.
BODY_SECONDS = 5.0
BODY_BYTES_PER_SECOND = 16 * 1024

logger = logging.getLogger(__name__)

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestLog:
    """Gives each request an id, logs it in one line, and turns an unexpected error into a JSON 500.

    The 500 is made here rather than by Starlette, whose own is sent outside of all middleware: without the id and,
    as this stands inside the CORS middleware, without the headers that let a browser's script read it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else uuid4().hex
        logs.request_id.set(request_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        metrics: Metrics = scope["app"].state.metrics
        metrics.in_progress.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            # Not logger.exception: it writes the texts of errors, which quote what people sent.
            logger.error("%s %s failed:\n%s", scope["method"], _route(scope), logs.describe(error))  # noqa: TRY400
            if not status:  # Otherwise the answer has begun, and the server cuts it short when this returns.
                response = JSONResponse({"detail": "Internal server error."}, status_code=500)
                await response(scope, receive, send_with_id)
        finally:
            metrics.in_progress.dec()
            _record(scope, metrics, status, time.perf_counter() - started)


def _record(scope: Scope, metrics: Metrics, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    route = _route(scope)
    metrics.requests(method, route, status).observe(seconds)
    level = logging.INFO if scope["path"].startswith("/api/") else logging.DEBUG
    actor = "service" if scope.get("state", {}).get("by_service") else "user"
    fields = {"method": method, "route": route, "status": status, "milliseconds": round(seconds * 1000, 1)}
    logger.log(level, "%s %s %d %.1f ms %s", *fields.values(), actor, extra=fields | {"actor": actor})


def _route(scope: Scope) -> str:
    """The route's template; a path that matches none stays out of the log, as it may hold anything."""
    route = scope.get("route")
    return route.path if route is not None else "(no route)"


class BodyLimit:
    """Refuses a request body beyond MAX_BODY_BYTES, declared or not, and one that arrives too slowly.

    A server such as uvicorn waits for a body as long as its client likes, even after it was told to stop.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at = asyncio.get_running_loop().time()
        declared = Headers(scope=scope).get("content-length", "")
        too_large = declared.isdecimal() and int(declared) > MAX_BODY_BYTES
        size = 0
        more = True

        async def receive_within_limit() -> Message:
            nonlocal size, more
            if too_large:
                raise HTTPException(413, BODY_TOO_LARGE)
            if not more:
                return await receive()  # What comes after the body is that the client has gone, at any time.
            try:
                async with asyncio.timeout_at(started_at + BODY_SECONDS + size / BODY_BYTES_PER_SECOND):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, BODY_TOO_SLOW, {"Connection": "close"}) from None
            more = message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise HTTPException(413, BODY_TOO_LARGE)
            return message

        await self.app(scope, receive_within_limit, send)
