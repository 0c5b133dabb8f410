"""The server's options, which are set only here, and the console script `ai-agent-serve` that serves with them."""

import os
import sys
from typing import Any

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
    _check_concurrency()
    open_files.raise_limit()
    uvicorn_command.main(sys.argv[1:], prog_name="ai-agent-serve", default_map={"app": "ai_agent.main:app", **OPTIONS})


def _check_concurrency() -> None:
    """Refuse a value that would end uvicorn with a traceback. An empty one counts as unset, as in the settings."""
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if not workers:
        os.environ.pop("WEB_CONCURRENCY", None)
    elif not workers.isdecimal():
        sys.stderr.write("ai-agent cannot start: WEB_CONCURRENCY must be a number of workers\n")
        sys.exit(3)


if __name__ == "__main__":
    main()
