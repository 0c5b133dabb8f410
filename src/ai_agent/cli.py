"""The console script `ai-agent`: its options and signals, known before the service is loaded."""

import argparse
import os
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from ai_agent.errors import ConfigurationError
from ai_agent.local_postgres import TrialError, stop_servers

MANUAL = """\
With DATABASE_URL set, in the environment or in .env, that database is migrated and served.
Nothing else is made in it: users and tokens are better-auth's.

Without DATABASE_URL a private PostgreSQL is started in ./.trial, better-auth's tables are
made in it, and a demo user is signed in: the page printed at the start shows the token and
a curl command to paste. The next start finds the same conversations and the same token;
delete ./.trial to begin again. POSTGRES_BIN may name the folder of the PostgreSQL to use.

Ctrl-C stops the service and its PostgreSQL."""


def main() -> None:
    """Serve on this machine until a signal ends it: the console script `ai-agent`."""
    parser = argparse.ArgumentParser(
        prog="ai-agent",
        description="Serve the chat API on this machine, with a database of its own if need be.",
        epilog=MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="port to listen on (default: %(default)s; 0: any free)")
    arguments = parser.parse_args()
    _end_on_signals()
    from ai_agent.trial import run  # noqa: PLC0415  # It takes two seconds, in which Ctrl-C must be heard already.

    try:
        with _listen(arguments.host, arguments.port) as listener:
            run(listener)
    except (TrialError, ConfigurationError) as error:
        sys.exit(f"ai-agent: {error}")


def _end_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal end the process alike; while it serves, uvicorn takes the first two."""
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _end(number: int, _: FrameType | None) -> NoReturn:
    # It ends here and unwinds nothing: an exception would come up in whatever runs just then, and Python drops those
    # from the callbacks of its imports, while greenlets and event loops break over them.
    for impatient in (signal.SIGINT, signal.SIGTERM):
        signal.signal(impatient, lambda *_: None)  # SIG_IGN would be a traceback for one that is already on its way.
    stop_servers()
    os._exit(128 + number)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before any work is done for it; uvicorn then serves on this very socket."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = str(error).partition(" (while")[0]
        problem = f"cannot listen on {host} port {port}, choose others with --host and --port"
        raise TrialError(f"{problem}: {reason}") from error
