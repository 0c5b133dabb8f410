"""The service as its own process, as `ai-agent-serve` runs it in production."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.waiting import wait_until_answered

# As short as SERVICE_AUTH_TOKEN may be.
SERVICE_TOKEN = "0123456789abcdef0123456789abcdef"


class Service(NamedTuple):
    """A running service: its address, its process, and the file with its output."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def run_service(
    folder: Path,
    *arguments: str,
    app: str = "ai_agent.main:app",
    ready: str = "/health",
    server: str = "ai_agent.server",
    under: Sequence[str] = (),
    **environment: str,
) -> Iterator[Service]:
    """Serve with these settings alone until the block ends; the block begins when the path `ready` is answered.

    `arguments` are uvicorn's own, for example `--workers=2`; `server` is the module that serves; `under` is a command
    that runs it, such as `prlimit` or a profiler. At the end the process gets SIGTERM if it still runs.
    """
    log = folder / f"service-{time.monotonic_ns()}.log"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*under, sys.executable, "-m", server, app, f"--port={port}", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **environment},
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_answered(process, url + ready, log, seconds=300 if under else 60)
        yield Service(url, process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
