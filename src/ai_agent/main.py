"""The application: settings in, routers, middleware and error answers put together."""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from ai_agent import logs
from ai_agent.api import chat, docs, health, history, trusted_services
from ai_agent.api.deps import SERVICE_SCHEMES
from ai_agent.api.middleware import BodyLimit, RequestLog
from ai_agent.config import Settings, load_settings
from ai_agent.database.connection import close_engine, create_engine
from ai_agent.errors import ApiError, ConfigurationError
from ai_agent.metrics import Metrics

logger = logging.getLogger(__name__)

NOT_JSON = {
    "type": "json_invalid",
    "loc": ["body"],
    "msg": "The body must be JSON in UTF-8, not nested too deep and with integers of at most 4300 digits,"
    " sent with 'Content-Type: application/json'",
}

DESCRIPTION = """
Keeps people's conversations. Sign in with better-auth, send each message to `POST /api/chat`, and read everything back
from `/api/conversations`, on any device.

**Authorize** with the token that better-auth handed out, then *Try it out*. Every error is `{"detail": ...}`.
"""

TAGS = [
    {"name": "chat", "description": "Sending a message and getting the assistant's answer."},
    {"name": "history", "description": "Reading conversations back, renaming and deleting them."},
    {"name": "trusted services", "description": "What a service does for a user, with its own token."},
    {"name": "health", "description": "For operators and their load balancers."},
]


class App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["securitySchemes"] |= SERVICE_SCHEMES
        return document


def create_app(settings: Settings) -> FastAPI:
    """The service with these settings; raises ConfigurationError for a DATABASE_URL that cannot be used."""
    app = App(
        title="ai-agent",
        version=version("ai-agent"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.engine = create_engine(settings)
    app.state.metrics = Metrics(app.state.engine)
    for router in (chat.router, history.router, trusted_services.router, health.router, docs.router):
        # The routes themselves, as FastAPI matches those of an included router twice on each request.
        app.router.routes.extend(router.routes)
    if settings.metrics_path != "off":
        app.add_api_route(settings.metrics_path, health.get_metrics, include_in_schema=False)
    _add_error_answers(app)
    _add_middleware(app, settings)
    return app


def _add_error_answers(app: FastAPI) -> None:
    app.exception_handler(ApiError)(_answer_api_error)
    app.exception_handler(RequestValidationError)(_answer_invalid_request)
    app.exception_handler(400)(_answer_unreadable_body)
    app.exception_handler(405)(_answer_other_method)


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """The last one added is the outermost."""
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestLog)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Link", "Retry-After", "WWW-Authenticate", "Idempotency-Replayed", "X-Request-ID"],
        )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    logs.configure(settings.log_level, settings.log_format)
    yield
    await close_engine(app.state.engine)


async def _answer_api_error(request: Request, error: ApiError) -> JSONResponse:
    if error.status_code == 503:
        request.app.state.metrics.unavailable.labels(error.cause).inc()
        cause = getattr(error.__cause__, "orig", error.__cause__)  # SQLAlchemy's text repeats the whole statement.
        logger.error("%s: %s", type(error).__name__, error.detail if cause is None else repr(cause))
    return JSONResponse({"detail": error.detail}, error.status_code, dict(error.headers))


async def _answer_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    """FastAPI's own answer repeats the input, which may be secret, and cannot be JSON when it holds NaN."""
    if isinstance(error.body, bytes):  # Left unparsed, as its media type is not JSON.
        return JSONResponse({"detail": [NOT_JSON]}, 422)
    problems = [{name: problem[name] for name in ("type", "loc", "msg")} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


async def _answer_unreadable_body(_: Request, __: Exception) -> JSONResponse:
    """FastAPI's only 400 is for JSON in another encoding, nested too deep, or with too long an integer."""
    return JSONResponse({"detail": [NOT_JSON]}, 422)


async def _answer_other_method(request: Request, error: HTTPException) -> JSONResponse:
    """The framework's `Allow` has the methods of one route only; RFC 9110 asks for all that the path has."""
    path = getattr(request.scope.get("route"), "path", None)
    routes = [route for route in request.app.router.routes if isinstance(route, APIRoute) and route.path == path]
    methods = sorted({method for route in routes for method in route.methods or ()})
    return JSONResponse({"detail": error.detail}, 405, {"Allow": ", ".join(methods)} if methods else error.headers)


def __getattr__(name: str) -> object:
    """`ai_agent.main:app`, made when a server asks for it: importing this module reads no environment."""
    if name != "app":
        raise AttributeError(name)
    try:
        return globals().setdefault("app", create_app(load_settings()))
    except ConfigurationError as error:
        sys.stderr.write(f"ai-agent cannot start: {error}\n")
        sys.exit(3)  # uvicorn's own code for a start that failed: with several workers it stops retrying.
