"""The event loop's tasks while agents run: what their code does in one ends that task alone, and no text is logged."""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from ai_agent import logs

logger = logging.getLogger(__name__)

in_turn = ContextVar("in_turn", default=False)
"""Whether a task belongs to a turn: the tasks that it creates have it too."""


class ToolEndedProcess(Exception):
    """An agent's code has raised SystemExit or KeyboardInterrupt."""


def guard(loop: asyncio.AbstractEventLoop) -> None:
    """Let an agent's tasks neither end the process nor log what they raise."""
    loop.set_task_factory(_make_task)
    loop.set_exception_handler(_log)


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(_Guarded(coroutine) if in_turn.get() else coroutine, loop=loop, **options)


class _Guarded(Coroutine[Any, Any, Any]):
    """A coroutine whose SystemExit or KeyboardInterrupt is an error like others: asyncio ends its loop for those two.

    It is no coroutine function around the other one, as that would never be awaited if the task is canceled early.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # Libraries look at a coroutine's state.

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise ToolEndedProcess from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except (SystemExit, KeyboardInterrupt) as ending:
            raise ToolEndedProcess from ending

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()


def _log(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio says of a task that nobody waits for, with the error's type and place for its text."""
    error = context.get("exception")
    logger.error("asyncio: %s%s", context["message"], f"\n{logs.outline(error)}" if error else "")
