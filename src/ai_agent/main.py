"""The application: settings in, routers, middleware and error responses put together."""

import sys
from importlib.metadata import version

from fastapi import FastAPI

from ai_agent import tracing
from ai_agent.api import chat, docs, errors, health, history, trusted_services
from ai_agent.api.cors import Cors
from ai_agent.api.middleware import RequestLog
from ai_agent.api.openapi import DESCRIPTION, TAGS, App
from ai_agent.config import Settings, load_settings
from ai_agent.database.pool import create_engine
from ai_agent.errors import ConfigurationError
from ai_agent.lifespan import lifespan
from ai_agent.metrics import Metrics
from ai_agent.services.assistant.loading import load
from ai_agent.services.assistant.runs import Runs
from ai_agent.services.assistant.turn import Means


def create_app(settings: Settings) -> FastAPI:
    """The service with these settings; raises ConfigurationError if DATABASE_URL or ASSISTANT cannot be used."""
    app = App(
        title="ai-agent",
        version=version("ai-agent"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # A redirect would repeat the request's Host before anybody has authenticated.
        telemetry=tracing.configure(),
    )
    app.state.settings = settings
    app.state.engine = create_engine(settings)
    app.state.metrics = Metrics(app.state.engine)
    app.state.runs = _make_runs(app)
    for router in (chat.router, history.router, trusted_services.router, health.router, docs.router):
        # The routes themselves, because FastAPI matches those of an included router twice on each request.
        app.router.routes.extend(router.routes)
    if settings.metrics_path != "off":
        app.add_api_route(settings.metrics_path, health.get_metrics, include_in_schema=False)
    errors.add_to(app)
    app.add_middleware(RequestLog)
    if settings.cors_origins:  # The last middleware added is the outermost.
        app.add_middleware(Cors, allow_origins=settings.cors_origins)
    return app


def _make_runs(app: FastAPI) -> Runs | None:
    settings: Settings = app.state.settings
    if settings.assistant is None:
        return None
    return Runs(Means(load(settings.assistant), app.state.engine, settings), app.state.metrics)


def __getattr__(name: str) -> object:
    """`ai_agent.main:app`, made when a server asks for it: importing this module reads no environment."""
    if name != "app":
        raise AttributeError(name)
    try:
        return globals().setdefault("app", create_app(load_settings()))
    except ConfigurationError as error:
        sys.stderr.write(f"ai-agent cannot start: {error}\n")
        sys.exit(3)  # uvicorn's own code for a failed start, after which it starts no worker again.
