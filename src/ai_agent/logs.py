"""Logging: where lines go and what they look like. Each carries the id of the request it belongs to."""

import logging
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="-")

FORMATS: dict[str, logging.Formatter] = {
    "text": logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"),
    "json": JsonFormatter(
        ["asctime", "levelname", "name", "request_id", "message"],
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
    ),
}


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Log to standard error, unless the process that embeds the app has set logging up already."""
    console = logging.StreamHandler()
    console.setFormatter(FORMATS[form])
    console.addFilter(add_request_id)
    logging.basicConfig(level=level, handlers=[console])
    logging.getLogger("ai_agent").setLevel(level)
    # Our own line for each request says more than uvicorn's, and uvicorn's costs as much as the request.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False


def add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True
