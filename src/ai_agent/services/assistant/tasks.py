"""Guards the event loop: what an agent's code raises ends only its own task, and its text is not logged."""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from ai_agent import logs

logger = logging.getLogger(__name__)

in_turn = ContextVar("in_turn", default=False)
"""Whether the task belongs to a turn; the tasks that it creates inherit the answer."""

ENDINGS = (SystemExit, KeyboardInterrupt, GeneratorExit)


class ToolEndedProcess(Exception):
    """An agent's code has raised SystemExit, KeyboardInterrupt or GeneratorExit."""


def guard(loop: asyncio.AbstractEventLoop) -> None:
    """Keep an agent's tasks from ending the process, and from logging the text of what they raise."""
    loop.set_task_factory(_make_task)
    loop.set_exception_handler(_log)


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(_Guarded(coroutine) if in_turn.get() else coroutine, loop=loop, **options)


class _Guarded(Coroutine[Any, Any, Any]):
    """Makes a coroutine's SystemExit or KeyboardInterrupt an ordinary error, because asyncio ends its loop for them.

    Its GeneratorExit becomes one too, because whatever waits for the task would take that for its own end.

    It is a class because, if the task is canceled before it starts, a coroutine function would never await the inner
    coroutine, and Python would warn about that.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # Libraries look at a coroutine's state.

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except ENDINGS as error:
            raise ToolEndedProcess from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except ENDINGS as ending:
            raise ToolEndedProcess from ending

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()


def _log(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio reports of a task that nobody waits for, with the error's type and place instead of its text."""
    error = context.get("exception")
    logger.error("asyncio: %s%s", context["message"], f"\n{logs.outline(error)}" if error else "")
