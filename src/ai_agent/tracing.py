"""Tracing with OpenTelemetry: off unless the environment asks for it. No span holds what people wrote."""

import os
from threading import Thread

import asyncpg
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

_FLUSH_SECONDS = 1.0  # An exporter tries for ten seconds, which is more than a process may have to end.


def is_wanted() -> bool:
    """Whether a variable of OpenTelemetry or of FastAPI's part in it is set."""
    return any(name.startswith(("OTEL_", "FASTAPI_OTEL_")) for name in os.environ)


def configure() -> TelemetryConfig:
    """What FastAPI is to record: spans and metrics. Its log records quote what was sent, so they stay off."""
    if not is_wanted():
        return {"tracing": False, "metrics": False, "logs": False}  # Without these, FastAPI would ask on each request.
    # A span keeps the text of an error that passes through it, so the text must quote no value.
    asyncpg.PostgresError.__str__ = _name_no_value  # type: ignore[method-assign]
    return {"logs": False}


def _name_no_value(error: BaseException) -> str:
    """The first line of the server's text, because DETAIL quotes the row; nothing if a value is wrong."""
    return "" if isinstance(error, asyncpg.DataError) else str(error.args[0])


def flush() -> None:
    """Send what was recorded last, because uvicorn then ends the process by the signal that stopped it."""
    provider = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):  # Without a configured exporter there is nothing to send.
        sending = Thread(target=provider.force_flush, daemon=True)
        sending.start()
        sending.join(_FLUSH_SECONDS)
