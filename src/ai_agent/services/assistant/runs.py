"""Runs: a task of the process makes and stores each turn of the assistant, whether or not anybody listens."""

import asyncio
import logging
import time
from uuid import uuid4

from ai_agent import logs
from ai_agent.errors import (
    ApiError,
    AssistantFailed,
    AssistantRefused,
    AssistantTooSlow,
    AssistantUnavailable,
    ConversationNotFound,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    ServiceStopping,
    StoppedWhileStoring,
)
from ai_agent.metrics import Metrics
from ai_agent.services.assistant import turn
from ai_agent.services.assistant.run import Run
from ai_agent.services.assistant.turn import Means
from ai_agent.services.chat import Question
from ai_agent.services.turns import Key

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0
"""How long a stopping service waits for clients to take the last part of their responses."""

OUTCOMES: dict[type[Exception], str] = {
    AssistantUnavailable: "unavailable",
    AssistantTooSlow: "too_slow",
    ServiceStopping: "stopped",
    StoppedWhileStoring: "stopped",
    AssistantFailed: "failed",
    AssistantRefused: "refused",
    ConversationNotFound: "not_found",
    IdempotencyKeyReused: "key_reused",
    DatabaseUnavailable: "not_stored",
}


class Runs:
    """The runs of a process, by user and key."""

    def __init__(self, means: Means, metrics: Metrics) -> None:
        self._means = means
        self._metrics = metrics
        self._runs: dict[tuple[str, str], tuple[Run, asyncio.Task[None]]] = {}
        for outcome in (
            "stored",
            "replayed",
            "error",
            *OUTCOMES.values(),
        ):  # Prometheus needs a 0 to see the first one.
            metrics.assistant_turns.labels(outcome)
        self._is_closed = False

    def begin(self, question: Question) -> Run:
        """The run of the question: the one that its key has begun already, or a new one.

        Raises IdempotencyKeyReused when the key has begun the run of another question, and ServiceStopping.
        """
        if self._is_closed:
            raise ServiceStopping
        # Without a key of the client's a run gets one of its own, because storing the turn may have to be tried again
        # without knowing whether it was stored. No client can send that key, because it has a space in it.
        key = question.key or Key(f"run {uuid4()}", b"")
        place = (question.user_id, key.value)
        if place in self._runs:
            run, _ = self._runs[place]
            if run.fingerprint != key.fingerprint:
                raise IdempotencyKeyReused
            return run
        run = Run(key.fingerprint)
        self._runs[place] = (run, asyncio.create_task(self._make(run, question, key)))
        return run

    async def close(self) -> None:
        """Cancel the runs that are left, tell those who listen, and close the connections to models."""
        self._is_closed = True
        left = list(self._runs.values())
        for _, task in left:
            task.cancel()
        await asyncio.gather(*(task for _, task in left), return_exceptions=True)
        for run, _ in self._runs.values():  # Those whose task was canceled before it began.
            run.fail(ServiceStopping())
        if listeners := {listener for run, _ in left for listener in run.listeners}:
            await asyncio.wait(listeners, timeout=CLOSE_SECONDS)
        await self._means.assistant.close()

    async def _make(self, run: Run, question: Question, key: Key) -> None:
        started = time.perf_counter()
        self._metrics.assistant_running += 1
        try:
            run.end(await turn.make(self._means, run, question, key))
        except asyncio.CancelledError:
            run.fail(run.stop() if self._is_closed else AssistantFailed("the agent canceled its own task"))
        except Exception as error:  # Those who listen raise it, if anybody does.
            run.fail(error)
        finally:
            del self._runs[question.user_id, key.value]
            self._metrics.assistant_running -= 1
            self._record(run, time.perf_counter() - started)

    def _record(self, run: Run, seconds: float) -> None:
        outcome = _outcome(run)
        self._metrics.assistant_turns.labels(outcome).inc()
        self._metrics.assistant_seconds.observe(seconds)
        if run.reply is not None:
            logs.note_conversation(run.reply.conversation_id)
        is_fault = run.error is not None and (not isinstance(run.error, ApiError) or run.error.status_code >= 500)
        milliseconds, cause = round(seconds * 1000, 1), _cause(run.error)
        level = logging.ERROR if is_fault else logging.INFO
        fields = {"outcome": outcome, "milliseconds": milliseconds, "cause": cause}
        logger.log(
            level, "assistant's turn: %s after %.1f ms%s", outcome, milliseconds, cause and f", {cause}", extra=fields
        )


def _outcome(run: Run) -> str:
    if run.reply is not None:
        return "replayed" if run.reply.replayed else "stored"
    return next((outcome for kind, outcome in OUTCOMES.items() if type(run.error) is kind), "error")


def _cause(error: Exception | None) -> str:
    """The type of the cause, or our own reason; for an unexpected error, its traceback too. Its text may be secret."""
    if error is None:
        return ""
    if not isinstance(error, ApiError):
        return logs.outline(error)
    if error.__cause__ is None:
        return str(error.args[0]) if error.args else ""
    names: list[str] = []
    for cause in logs.chain(error.__cause__):
        names.append(logs.type_name(cause))
        if not names[-1].startswith("agents."):  # The SDK wraps what a tool raises in an error of its own.
            break
    return " from ".join(names)
