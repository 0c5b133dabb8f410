"""The trial's database: the role of the service, and better-auth's tables with one user who is signed in."""

import os
import secrets
import string
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

ROLE = "ai_agent"

SQL = Path(__file__).parent

DEMO_SESSION = """
INSERT INTO user_sessions (id, token, "expiresAt", "updatedAt", "userId")
VALUES ('demo-session', $1, now() + interval '7 days', now(), 'demo-user')
ON CONFLICT (id) DO UPDATE SET "expiresAt" = excluded."expiresAt", "updatedAt" = excluded."updatedAt"
RETURNING token
"""


async def hand_over(superuser_url: str, url_file: Path) -> str:
    """Give the database to a role that is no superuser, write the role's URL to the file, and return it.

    The service and a better-auth server that joins connect as this role.
    """
    password = _password(url_file)
    connection = await asyncpg.connect(superuser_url)
    try:
        await connection.execute((SQL / "role.sql").read_text())
        await connection.execute(
            await connection.fetchval("SELECT format('ALTER ROLE ai_agent PASSWORD %L', $1::text)", password)
        )
    finally:
        await connection.close()
    server = urlsplit(superuser_url)
    url = server._replace(netloc=f"{ROLE}:{password}@{server.hostname}:{server.port}").geturl()
    _write_privately(url_file, url + "\n")
    return url


def _password(url_file: Path) -> str:
    """Return the password of the last start, so that a front end's DATABASE_URL stays true, or a new one."""
    try:
        known = urlsplit(url_file.read_text().strip()).password
    except (OSError, ValueError):
        known = None
    return known or secrets.token_urlsafe()


def _write_privately(file: Path, text: str) -> None:
    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    unfinished.replace(file)


async def sign_in_demo_user(url: str) -> str:
    """Return the demo user's token: the one of the first start, valid for another 7 days."""
    letters_and_digits = string.ascii_letters + string.digits
    new_token = "".join(secrets.choice(letters_and_digits) for _ in range(32))
    connection = await asyncpg.connect(url)
    try:
        await connection.execute((SQL / "better_auth.sql").read_text())
        token: str = await connection.fetchval(DEMO_SESSION, new_token)
    finally:
        await connection.close()
    return token
