"""Ctrl-C, SIGTERM and a closed terminal: they are noted when they come, and obeyed where work can stop cleanly."""

import signal
import sys
import time
from types import FrameType

_noted: list[int] = []


class Stopped(Exception):
    """Somebody asked the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def note_signals() -> None:
    """From here on, only note each signal that comes.

    A handler that raised would do so wherever Python is at that moment, even between the start of a process and the
    line that names it, or during the clean-up.
    """
    signal.signal(signal.SIGINT, _note)
    signal.signal(signal.SIGTERM, _note)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it.
        signal.signal(signal.SIGHUP, lambda _, frame: _note(signal.SIGTERM, frame))


def _note(number: int, _: FrameType | None) -> None:
    _noted.append(number)


def pause(seconds: float = 0.02) -> None:
    """Wait a moment, or raise Stopped if a signal has come. Everything but a clean-up waits with this."""
    if _noted:
        raise Stopped(_noted[0])
    time.sleep(seconds)
