"""Tracing with OpenTelemetry: off unless the environment asks for it. No span holds what people wrote."""

import os
from threading import Thread

import asyncpg
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

_FLUSH_SECONDS = 1.0  # An exporter tries for ten seconds, which is more than a process may have to end.


def is_wanted() -> bool:
    return any(name.startswith(("OTEL_", "FASTAPI_OTEL_")) for name in os.environ)


def configure() -> TelemetryConfig:
    """What FastAPI is to record. FastAPI's own log records quote what was sent, so they stay off."""
    if not is_wanted():
        return {"tracing": False, "metrics": False, "logs": False}  # FastAPI would look on each request.
    # A span that an error passes through keeps its text, in an event, in its status and in a traceback.
    asyncpg.PostgresError.__str__ = _name_no_value  # type: ignore[method-assign]
    return {"logs": False}


def _name_no_value(error: BaseException) -> str:
    """The server's first line alone, as its DETAIL quotes the row; and nothing where a value is what is wrong."""
    return "" if isinstance(error, asyncpg.DataError) else str(error.args[0])


def flush() -> None:
    """Send what was recorded in the last seconds: uvicorn ends the process by the signal that stopped it."""
    provider = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):  # Without a configured exporter there is nothing to send.
        sending = Thread(target=provider.force_flush, daemon=True)
        sending.start()
        sending.join(_FLUSH_SECONDS)
