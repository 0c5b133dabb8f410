"""The local trial run: `ai-agent` serves at once, on a PostgreSQL of its own where DATABASE_URL names none."""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import string
import sys
from pathlib import Path
from types import FrameType

import asyncpg
import uvicorn
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from pydantic import ValidationError

from ai_agent.config import Settings, load_settings
from ai_agent.errors import ConfigurationError
from ai_agent.local_postgres import TrialError, run_postgres
from ai_agent.main import create_app

TRIAL_DIRECTORY = Path(".trial")

MANUAL = """\
With DATABASE_URL set, in the environment or in .env, that database is migrated and served.
Nothing else is made in it: users and tokens are better-auth's.

Without DATABASE_URL a private PostgreSQL is started in ./.trial, better-auth's tables are
made in it, and a demo user is signed in: the page printed at the start shows the token and
a curl command to paste. The next start finds the same conversations and the same token;
delete ./.trial to begin again. POSTGRES_BIN may name the folder of the PostgreSQL to use.

Ctrl-C stops the service and its PostgreSQL."""

ADDRESS = """
  <ai-agent> is serving on {address}

  <Swagger UI:>  {address}/docs
"""

TOKEN_AND_EXAMPLE = """\
  <Token:>       {token}

  <Say hello:>

curl {address}/api/chat \\
  -H 'Authorization: Bearer {token}' \\
  -H 'Content-Type: application/json' \\
  -d '{{"message": "Hello"}}'

  The conversations are kept in {directory}.
"""

# As better-auth's own migration makes them, and one user in them.
BETTER_AUTH_TABLES = """
CREATE TABLE IF NOT EXISTS "user" (
    id text PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    "emailVerified" boolean NOT NULL,
    image text,
    "createdAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL,
    "updatedAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL
);
CREATE TABLE IF NOT EXISTS user_sessions (
    id text PRIMARY KEY,
    "expiresAt" timestamptz NOT NULL,
    token text NOT NULL UNIQUE,
    "createdAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL,
    "updatedAt" timestamptz NOT NULL,
    "ipAddress" text,
    "userAgent" text,
    "userId" text NOT NULL REFERENCES "user" (id) ON DELETE CASCADE
);
INSERT INTO "user" (id, name, email, "emailVerified")
VALUES ('demo-user', 'Demo User', 'demo@example.com', true)
ON CONFLICT DO NOTHING;
"""

DEMO_SESSION = """
INSERT INTO user_sessions (id, token, "expiresAt", "updatedAt", "userId")
VALUES ('demo-session', $1, now() + interval '7 days', now(), 'demo-user')
ON CONFLICT (id) DO UPDATE SET "expiresAt" = excluded."expiresAt", "updatedAt" = excluded."updatedAt"
RETURNING token
"""


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
    _stop_on_signals()
    try:
        with _listen(arguments.host, arguments.port) as listener:
            _run(listener)
    except (TrialError, ConfigurationError) as error:
        sys.exit(f"ai-agent: {error}")


def _stop_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal end the process alike, through every `finally`."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it.
        # While it serves, uvicorn takes the other two, and this one must then reach it as one of them.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _stop(number: int, _: FrameType | None) -> None:
    # What is left to do takes a bounded time, and an impatient second Ctrl-C must not break it off half-way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before any work is done for it; uvicorn then serves on this very socket."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = str(error).partition(" (while")[0]
        raise TrialError(f"cannot listen on {host} port {port}, choose another with --port: {reason}") from error


def _run(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    address = f"http://{host}:{port}"
    page = ADDRESS.format(address=address)
    if _database_is_set():
        _migrate()
        _serve(listener, page)
        return
    with run_postgres(TRIAL_DIRECTORY) as url:
        os.environ["DATABASE_URL"] = url
        _migrate()
        token = asyncio.run(_sign_in_demo_user(url))
        directory = TRIAL_DIRECTORY.resolve()
        _serve(listener, page + TOKEN_AND_EXAMPLE.format(address=address, token=token, directory=directory))


def _database_is_set() -> bool:
    try:
        Settings()  # type: ignore[call-arg]  # The values come from the environment.
    except ValidationError as error:
        return all(problem["type"] != "missing" for problem in error.errors())  # Nothing else is required.
    return True


def _migrate() -> None:
    beside_the_sources = Path(__file__).parents[2] / "alembic.ini"
    configuration = Config(beside_the_sources if beside_the_sources.exists() else "alembic.ini")
    try:
        command.upgrade(configuration, "head")
    except CommandError as error:
        raise TrialError(str(error)) from error


async def _sign_in_demo_user(url: str) -> str:
    """Return the demo user's token: the one of the first start, valid for another 7 days."""
    letters_and_digits = string.ascii_letters + string.digits
    new_token = "".join(secrets.choice(letters_and_digits) for _ in range(32))
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(BETTER_AUTH_TABLES)
        token: str = await connection.fetchval(DEMO_SESSION, new_token)
    finally:
        await connection.close()
    return token


def _serve(listener: socket.socket, page: str) -> None:
    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _print(page + "  Ctrl-C stops the service.\n\n")

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not self.should_exit:  # A second Ctrl-C would break off the lifespan, with a traceback in the log.
                super().handle_exit(sig, frame)

    app = create_app(load_settings())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # The page says what its other lines would.
    Server(uvicorn.Config(app, access_log=False, log_config=None, timeout_graceful_shutdown=5)).run([listener])


def _print(page: str) -> None:
    """Print the page, with what stands in angle brackets in bold where that can be seen."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    sys.stdout.write(page.replace("<", bold).replace(">", plain))
    sys.stdout.flush()
