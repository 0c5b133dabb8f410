"""The console script `ai-agent`: its options, and the port that it listens on."""

import argparse
import socket
import sys
from importlib.metadata import version

from ai_agent.local.programs import TrialError
from ai_agent.local.signals import Stopped, note_signals
from ai_agent.local.supervisor import supervise
from ai_agent.open_files import open_missing_streams

MANUAL = """\
With DATABASE_URL set, in the environment or in .env, that database is migrated and served.
Nothing else is made in it: users and tokens are better-auth's.

Without DATABASE_URL a private PostgreSQL is started in ./.trial, better-auth's tables are
made in it, and a demo user is signed in: the page printed at the start shows the token, a
curl command to paste, and the database's URL for a better-auth server of your own. The next
start finds the same conversations and the same token; delete ./.trial to begin again.
POSTGRES_BIN may name the folder of the PostgreSQL to use.

Ctrl-C stops the service and its PostgreSQL."""


def main() -> None:
    """Serve on this machine until a signal ends it."""
    open_missing_streams()
    note_signals()
    arguments = _parse()
    try:
        with _listen(arguments.host, arguments.port) as listener:
            sys.exit(supervise(listener))
    except TrialError as error:
        sys.exit(f"ai-agent: {error}")
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ai-agent",
        description="Serve the chat API on this machine, with a database of its own if need be.",
        epilog=MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=port, help="port to listen on (default: %(default)s; 0: any free)")
    parser.add_argument("--version", action="version", version=f"ai-agent {version('ai-agent')}")
    return parser.parse_args()


def port(text: str) -> int:
    """Read a port; argparse puts this function's name into its error. The system would take 70000 for 4464."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError
    return number


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before any work is done for it; the service then listens on this very socket."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` has an address of each family, and most clients use 127.0.0.1.
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        reason = str(error).partition(" (while")[0]
        problem = f"cannot listen on {host} port {port}, choose others with --host and --port"
        raise TrialError(f"{problem}: {reason}") from error
