"""Logging: where lines go and what they look like. Each line names its request and its conversation."""

import logging
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import asyncpg
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from uvicorn.logging import DefaultFormatter


@dataclass(slots=True)
class RequestContext:
    """What the log lines say about the request that is being served."""

    id: str
    actor: Literal["user", "service"] = "user"
    conversation_id: int | None = None


current: ContextVar[RequestContext] = ContextVar("current")


class _TextFormatter(logging.Formatter):
    """Writes times as ISO 8601 in UTC, as JSON lines have them, whatever the machine's time zone."""

    converter = time.gmtime  # type: ignore[assignment]  # As the library's documentation advises.
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


FORMATS: dict[str, logging.Formatter] = {
    "text": _TextFormatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s%(conversation)s] %(message)s"),
    "json": JsonFormatter(
        ["levelname", "name", "request_id", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
        # `color_message` is uvicorn's, for terminals. `conversation` is for text; JSON has `conversation_id`, a number.
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
    if any(isinstance(handler.formatter, DefaultFormatter) for handler in server.handlers):  # There is no --log-config.
        server.handlers.clear()
        server.propagate = True
        if not embedded:
            _skip_what_no_format_shows()
    # Our own line for each request says more than uvicorn's, which would cost as much as the rest of the request.
    access.handlers.clear()
    access.propagate = False


def _skip_what_no_format_shows() -> None:
    """Do not look up each line's place in the code, thread, process and task, as the logging manual advises."""
    logging._srcfile = None  # noqa: SLF001  # The manual names this variable.
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)


def add_context(record: logging.LogRecord) -> bool:
    """A filter that keeps every record, and adds the current request's id and conversation to it."""
    request = current.get(None)
    record.request_id = "-" if request is None else request.id
    record.conversation = ""
    if request is not None and request.conversation_id is not None:
        record.conversation_id = request.conversation_id
        record.conversation = f" conversation {request.conversation_id}"
    return True


def note_conversation(id_: int) -> None:
    """Add this conversation to the current request's log lines from here on."""
    request = current.get(None)
    if request is not None:
        request.conversation_id = id_


def outline(error: BaseException) -> str:
    """The traceback of an error and its causes, the first cause first, mostly without their texts.

    Texts quote what people sent: pydantic's quote the input, asyncpg's the parameters, PostgreSQL's DETAIL the row.
    """
    steps = ["".join(traceback.format_tb(cause.__traceback__)) + _name(cause) for cause in chain(error)]
    return "\nwhich led to\n".join(reversed(steps))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on; each once, because `raise error from error` makes a ring."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _name(error: BaseException) -> str:
    name = type_name(error)
    # The first line of the server's text names only its tables and constraints, unless a value is wrong.
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.DataError):
        return f"{name}: {error.args[0]}"
    return name
