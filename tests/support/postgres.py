"""A PostgreSQL server that one test may stop, kill and start again."""

import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ai_agent.local.postgres import free_port, run_postgres
from tests.support.types import Headers


class Server:
    """A server as durable as PostgreSQL's defaults make it. Its data, port and URL survive a restart."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = ExitStack()
        self._port = free_port()
        self.url = ""

    def start(self, *options: str) -> None:
        """Start with these settings, and return when connections are accepted."""
        url = urlsplit(self._running.enter_context(run_postgres(self._directory, *options, f"port={self._port}")))
        self.url = url._replace(netloc=f"{url.netloc.rpartition(':')[0]}:{self._port}").geturl()

    def stop(self) -> None:
        """Stop as an operator does, which ends all connections."""
        self._running.close()

    def kill(self) -> None:
        """Kill every process of the server with SIGKILL."""
        postmaster = int((self._directory / "data/postmaster.pid").read_text().partition("\n")[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in (postmaster, *map(int, children)):
            with suppress(ProcessLookupError):  # It may have ended when the others did.
                os.kill(process, signal.SIGKILL)
        self._running.close()

    @property
    def hold(self) -> Path:
        """A file that a slow start waits for; it stands where the server may look."""
        return self._directory / "data/hold"

    def start_slowly(self) -> None:
        """Start in recovery, as from a backup: PostgreSQL refuses connections until the file `hold` is gone."""
        (self._directory / "data/recovery.signal").touch()
        self.start("restore_command=while [ -e hold ]; do sleep 0.05; done; false")


class OwnServer(NamedTuple):
    """A running server with a migrated database, and the headers of a user who is signed in."""

    server: Server
    headers: Headers
