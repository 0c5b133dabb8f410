"""The local trial run: `ai-agent` serves at once, on a PostgreSQL of its own where DATABASE_URL names none."""

import asyncio
import logging
import os
import secrets
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
from ai_agent.local_postgres import TrialError, run_postgres
from ai_agent.main import create_app

TRIAL_DIRECTORY = Path(".trial")

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


def run(listener: socket.socket) -> None:
    """Serve on this socket until a signal ends it; raises TrialError or ConfigurationError when that cannot be."""
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
    Server(uvicorn.Config(app, access_log=False, log_config=None, timeout_graceful_shutdown=8)).run([listener])


def _print(page: str) -> None:
    """Print the page, with what stands in angle brackets in bold where that can be seen."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    sys.stdout.write(page.replace("<", bold).replace(">", plain))
    sys.stdout.flush()
