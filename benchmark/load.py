"""The work that both apps are given: two users' data, four operations, and clients that ask for them."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import psutil

from tests.support.database import PROJECT, USER_SESSIONS, migrate, run_sql
from tests.support.service import Service, run_service

APPS = {"service": "ai_agent.main:app", "bare": "benchmark.bare:app"}
OPERATIONS = ("chat-new", "chat-append", "list of 20", "history of 50")
FEW, MANY = 4, 16  # Clients; the many are more than the connections of the pool.

# A new user, and one who has been here for years. The last conversation of each is the longest.
SEED = """
    INSERT INTO user_sessions (id, token, "userId", "updatedAt", "expiresAt")
    SELECT id, rpad(id, 32, 'x'), id, now(), now() + interval '1 day' FROM unnest(ARRAY['small', 'large']) AS id;

    INSERT INTO conversations (user_id, title, created_at, updated_at)
    SELECT id, 'Chat - 2026-11-22 09:30', now() - n * interval '1 minute', now() - n * interval '1 minute'
    FROM (VALUES ('small', 100), ('large', 20000)) AS amount (id, conversations),
         generate_series(1, conversations) AS n;

    INSERT INTO messages (conversation_id, user_id, role, content, created_at)
    SELECT id, user_id, (ARRAY['user', 'assistant'])[1 + n % 2], repeat('All is well. ', 10),
        now() + n * interval '1 us'
    FROM (SELECT user_id, max(id) AS id FROM conversations GROUP BY user_id) AS last,
         generate_series(1, CASE user_id WHEN 'small' THEN 100 ELSE 10000 END) AS n;

    ANALYZE;
"""
LONGEST = "SELECT user_id, max(id) AS id FROM conversations GROUP BY user_id"


class Case(NamedTuple):
    """What is compared: an operation for a user with few rows or many, requested by few clients or many."""

    operation: str
    user: str
    clients: int


CASES = (
    *(Case(operation, user, FEW) for operation, user in product(OPERATIONS, ("small", "large"))),
    *(Case(operation, "small", MANY) for operation in OPERATIONS),
)


class Turn(NamedTuple):
    """One app's turn at an operation: the seconds of each request, of all, and of CPU in the app's process."""

    latencies: list[float]
    elapsed: float
    cpu: float


@contextmanager
def run_app(folder: Path, app: str, url: str, *, under: tuple[str, ...] = (), **environment: str) -> Iterator[Service]:
    """Run the service or the bare app on this database, with the service's own settings where none are given."""
    settings = {"DATABASE_URL": url, "PYTHONPATH": str(PROJECT), **environment}
    server = "ai_agent.server" if app == "service" else "uvicorn"
    arguments = ("--no-access-log",) if app == "bare" else ()
    with run_service(folder, *arguments, server=server, app=APPS[app], ready="/", under=under, **settings) as service:
        yield service


async def seed(url: str) -> dict[str, int]:
    """Fill the database; return the id of each user's longest conversation."""
    await run_sql(url, USER_SESSIONS)
    migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute(SEED)
    longest = {row["user_id"]: row["id"] for row in await connection.fetch(LONGEST)}
    await connection.close()
    return longest


def compose(operation: str, user: str, conversation_id: int, key: str | None = None) -> bytes:
    """The request as it goes over the wire."""
    method, path, body = "GET", "/api/conversations?limit=20", b""
    if operation == "history of 50":
        path = f"/api/conversations/{conversation_id}?limit=50"
    elif operation.startswith("chat"):
        into = None if operation == "chat-new" else conversation_id
        method, path, body = "POST", "/api/chat", json.dumps({"message": "Hello", "conversation_id": into}).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: benchmark\r\nAuthorization: Bearer {user.ljust(32, 'x')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    key_line = "" if key is None else f"Idempotency-Key: {key}\r\n"
    return f"{head}{key_line}\r\n".encode() + body


async def take_turn(app: Service, request: bytes, requests: int, clients: int) -> Turn:
    """Send this many requests in all, shared among the clients, each with a connection of its own."""
    before, started = cpu_seconds(app), time.perf_counter()
    latencies = await asyncio.gather(*(send(app, [request] * (requests // clients)) for _ in range(clients)))
    elapsed = time.perf_counter() - started
    return Turn([latency for client in latencies for latency in client], elapsed, cpu_seconds(app) - before)


def cpu_seconds(app: Service) -> float:
    user, system, *_ = psutil.Process(app.process.pid).cpu_times()
    return float(user + system)


async def send(app: Service, requests: Iterable[bytes]) -> list[float]:
    """Send the requests one after the other over one connection; the seconds that each response took."""
    parts = urlsplit(app.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    latencies = []
    for request in requests:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        latencies.append(time.perf_counter() - started)
        assert b" 200 " in head.partition(b"\r\n")[0], head
    writer.close()
    return latencies
