"""A turn that is being made. Any number of requests may listen to it, and one that goes away changes nothing."""

import asyncio

from ai_agent.errors import ApiError, ServiceStopping, StoppedWhileStoring
from ai_agent.services.assistant.parts import Part
from ai_agent.services.chat import Reply


class Run:
    """What the assistant has shown so far and, in the end, the reply that is stored or the error."""

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.parts: list[Part] = []
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.may_be_stored = False
        """Whether the database was asked to store the turn. It may be stored even if the database did not answer."""
        self.is_shown_otherwise = False
        """Whether another process stored a reply that differs from the one that was shown here."""
        self.listeners: set[asyncio.Task[object]] = set()
        """The tasks of the requests that listen."""
        self._moved = asyncio.Event()

    def add_listener(self) -> None:
        """Count the current task among the listeners until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self.listeners.add(task)
        task.add_done_callback(self.listeners.discard)

    @property
    def is_over(self) -> bool:
        return self.reply is not None or self.error is not None

    def stop(self) -> ApiError:
        """The error for those who listen when the service stops now."""
        return StoppedWhileStoring() if self.may_be_stored else ServiceStopping()

    def show(self, part: Part) -> None:
        self.parts.append(part)
        self._move()

    def end(self, reply: Reply) -> None:
        self.reply = reply
        self._move()

    def fail(self, error: Exception) -> None:
        self.error = error
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait(self) -> Reply:
        """Wait for the stored reply; raises the run's error if it failed."""
        while not self.is_over:
            await self._moved.wait()
        if self.reply is None:
            assert self.error is not None
            raise self.error
        return self.reply

    async def wait_for_more(self, seen: int, seconds: float) -> bool:
        """Wait for more than the `seen` parts or for the end; False if neither comes within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.parts) == seen and not self.is_over:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True
