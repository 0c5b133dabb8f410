"""The parent of a trial run: it starts PostgreSQL and the service, and stops both cleanly, whatever ends it.

It imports little, so that it hears Ctrl-C while the service is still being loaded.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from ai_agent.local.page import say
from ai_agent.local.postgres import free_port, run_postgres, stop
from ai_agent.local.programs import TrialError, tie
from ai_agent.local.signals import pause

TRIAL_DIRECTORY = Path(".trial")


def supervise(listener: socket.socket) -> int:
    """Run the service on this socket until it ends, and return its exit code."""
    if sys.platform == "win32":
        raise TrialError(
            "this command needs Linux or macOS: set DATABASE_URL, then run ai-agent-migrate and ai-agent-serve"
        )
    if database_is_set():
        return _serve(listener, {})
    first = not (TRIAL_DIRECTORY / "data").exists()
    say(f"Making a PostgreSQL database in {TRIAL_DIRECTORY}" if first else "Starting PostgreSQL")
    with run_postgres(TRIAL_DIRECTORY, f"port={free_port(_last_port())}") as superuser_url:
        return _serve(listener, {"TRIAL_DIRECTORY": str(TRIAL_DIRECTORY), "TRIAL_SUPERUSER_URL": superuser_url})


def database_is_set() -> bool:
    """Look for DATABASE_URL where the settings come from, without loading them, because that would take long."""
    try:
        values = [*os.environ.items(), *dotenv_values(".env").items()]
    except (OSError, UnicodeError):
        return True  # The service will say what is wrong with the file.
    return any(value for name, value in values if name.upper() == "DATABASE_URL")


def _last_port() -> int:
    """Return the port of the last start, so that a front end's DATABASE_URL stays true, or 0."""
    try:
        return urlsplit((TRIAL_DIRECTORY / "database-url").read_text().strip()).port or 0
    except (OSError, ValueError):
        return 0


def _serve(listener: socket.socket, environment: Mapping[str, str]) -> int:
    say("Loading the service")
    with _service(listener, environment) as service:
        listener.close()  # The service has it too, and frees the port as soon as it stops.
        while service.poll() is None:
            pause(0.05)
    if service.returncode < 0:
        raise TrialError(f"the service was ended by {signal.Signals(-service.returncode).name}")
    return service.returncode


@contextmanager
def _service(listener: socket.socket, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    service = subprocess.Popen(
        # -P keeps the modules of the working directory out, because it may be another project's.
        [*tie("KILL"), sys.executable, "-P", "-m", "ai_agent.local.service", str(listener.fileno())],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        pass_fds=[listener.fileno()],
        start_new_session=True,  # Ctrl-C reaches only this process, which passes it on once.
    )
    try:
        yield service
    finally:
        # The service gives its requests 8 seconds of the 14.
        stop(service, (signal.SIGTERM, 14), (signal.SIGKILL, 4))
