"""The server's options, which are set only here, and the console script `ai-agent-serve` that serves with them."""

import os
import sys
from pathlib import Path
from typing import Any

import click
from uvicorn.main import main as uvicorn_command

from ai_agent import open_files

OPTIONS: dict[str, Any] = {
    "http": "ai_agent.protocol:Protocol",
    # uvicorn would log a WebSocket's query. With WebSockets off, the request is an ordinary 404.
    "ws": "none",
    # The service logs each request itself.
    "access_log": False,
    # Seconds: longer than a proxy keeps an idle connection (nginx and AWS: 60), because a server that closes first may
    # do so just as the proxy sends the next request, which then becomes a 502.
    "timeout_keep_alive": 75,
    # Seconds: without a limit, a stop waits forever for a client that does not read a response. Docker kills after 10.
    "timeout_graceful_shutdown": 8,
}


def main() -> None:
    """Serve in production: run uvicorn's command with these options as defaults, which its arguments can change."""
    open_files.open_missing_streams()
    _check_concurrency()
    open_files.raise_limit()
    _check_addresses()
    uvicorn_command.main(sys.argv[1:], prog_name="ai-agent-serve", default_map={"app": "ai_agent.main:app", **OPTIONS})


def _check_concurrency() -> None:
    """Refuse a value that would end uvicorn with a traceback. An empty one counts as unset, as in the settings."""
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if not workers:
        os.environ.pop("WEB_CONCURRENCY", None)
    elif not workers.isdecimal():
        sys.stderr.write("ai-agent cannot start: WEB_CONCURRENCY must be a number of workers\n")
        sys.exit(3)


def _check_addresses() -> None:
    """Let the command refuse where it cannot listen: uvicorn takes 70000 for port 4464, and ends with tracebacks."""
    for option in uvicorn_command.params:
        if option.name == "port":
            option.type = click.IntRange(0, 65535)
        elif option.name == "uds":
            option.type = _SocketPath(dir_okay=False)


class _SocketPath(click.Path):
    """Where a Unix socket can be made."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        folder = Path(value).parent
        if not folder.is_dir():
            self.fail(f"There is no folder {folder}: make it first.", param, ctx)
        if len(os.fsencode(value)) > 103:  # Linux allows 107 bytes, others 103.
            self.fail("The path is too long: at most 103 bytes are allowed.", param, ctx)
        return super().convert(value, param, ctx)


if __name__ == "__main__":
    main()
