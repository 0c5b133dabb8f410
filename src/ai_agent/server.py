"""The server's options, which stand here alone, and the console script `ai-agent-serve` that serves with them."""

import sys
from typing import Any

from uvicorn.main import main as uvicorn_command

from ai_agent import open_files

OPTIONS: dict[str, Any] = {
    "http": "ai_agent.protocol:Protocol",
    # A WebSocket would be logged with its query; without the library's part it is an ordinary 404.
    "ws": "none",
    # The service logs each request itself.
    "access_log": False,
    # Longer than a proxy keeps an idle connection (nginx and AWS: 60 s), because a server that closes first may do so
    # just as the proxy sends the next request, which then is a 502.
    "timeout_keep_alive": 75,
    # Without it a stop waits for ever for a client that does not read its response. Docker kills after 10 s.
    "timeout_graceful_shutdown": 8,
}


def main() -> None:
    """Serve in production: uvicorn's command with these options as its defaults, so that each can still be changed."""
    open_files.raise_limit()
    uvicorn_command.main(sys.argv[1:], prog_name="ai-agent-serve", default_map={"app": "ai_agent.main:app", **OPTIONS})


if __name__ == "__main__":
    main()
