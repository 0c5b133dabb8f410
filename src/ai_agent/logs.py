"""Logging: where lines go and what they look like. Each names the request and the conversation it is about."""

import logging
import time
import traceback
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import asyncpg
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from uvicorn.logging import DefaultFormatter


@dataclass(slots=True)
class RequestContext:
    """What the log says of the request that is being served."""

    id: str
    actor: Literal["user", "service"] = "user"
    conversation_id: int | None = None


current: ContextVar[RequestContext] = ContextVar("current")


class _TextFormatter(logging.Formatter):
    """Times are ISO 8601 in UTC, as in JSON, whatever the zone of the machine."""

    converter = time.gmtime  # type: ignore[assignment]  # As the library's documentation does it.
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


FORMATS: dict[str, logging.Formatter] = {
    "text": _TextFormatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s%(conversation)s] %(message)s"),
    "json": JsonFormatter(
        ["levelname", "name", "request_id", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
        # The former is uvicorn's, for terminals; the latter is for text, while JSON has `conversation_id` as a number.
        reserved_attrs=[*RESERVED_ATTRS, "color_message", "conversation"],
    ),
}


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Log to standard error, unless the process that embeds the app has set logging up already."""
    embedded = logging.getLogger().hasHandlers()
    console = logging.StreamHandler()
    console.setFormatter(FORMATS[form])
    console.addFilter(add_context)
    logging.basicConfig(level=level, handlers=[console])
    logging.getLogger("ai_agent").setLevel(level)
    server, access = logging.getLogger("uvicorn"), logging.getLogger("uvicorn.access")
    if any(isinstance(handler.formatter, DefaultFormatter) for handler in server.handlers):  # Not a --log-config.
        server.handlers.clear()
        server.propagate = True
        if not embedded:
            _skip_what_no_format_shows()
    # Our own line for each request says more than uvicorn's, and uvicorn's costs as much as the request.
    access.handlers.clear()
    access.propagate = False


def _skip_what_no_format_shows() -> None:
    """Spare each line the look for its place in the code, its thread, process and task, as logging's manual advises."""
    logging._srcfile = None  # noqa: SLF001  # The manual's own name for it.
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)


def add_context(record: logging.LogRecord) -> bool:
    request = current.get(None)
    record.request_id = "-" if request is None else request.id
    record.conversation = ""
    if request is not None and request.conversation_id is not None:
        record.conversation_id = request.conversation_id
        record.conversation = f" conversation {request.conversation_id}"
    return True


def note_conversation(id_: int) -> None:
    """Let the lines that follow carry the id of the conversation that the current request is about."""
    request = current.get(None)
    if request is not None:
        request.conversation_id = id_


def outline(error: BaseException) -> str:
    """The traceback of an error with its causes, the first one first, but with few of their texts.

    Texts quote what people sent: pydantic's the input, asyncpg's the parameters, PostgreSQL's DETAIL the row.
    """
    steps: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        steps.insert(0, "".join(traceback.format_tb(cause.__traceback__)) + _name(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nwhich led to\n".join(steps)


def _name(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    # The server's first line speaks of its own tables and constraints, except where a value is what is wrong.
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.DataError):
        return f"{name}: {error.args[0]}"
    return name
