"""Waiting for what another process does."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx


def wait_until_answered(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 60) -> None:
    """Return when the process gives a response there that is no failure of its own."""
    with httpx.Client(timeout=1) as client:

        def answered() -> bool:
            with suppress(httpx.TransportError):
                return client.get(url).status_code < 500
            return False

        wait_until_ready(process, answered, log, seconds)


def wait_until_ready(
    process: subprocess.Popen[bytes], condition: Callable[[], bool], log: Path, seconds: float = 30
) -> None:
    """Return when the condition holds; where the process ends before that, fail with its log."""

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        return condition()

    try:
        wait_until(ready, seconds)
    except TimeoutError as error:
        raise AssertionError(f"{error}: {log.read_text()}") from None


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} seconds")
        time.sleep(0.02)  # Asking without a pause would take the processor from the process.
