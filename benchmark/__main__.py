"""Compare the service with `bare.py` doing the same work: `uv run python -m benchmark`.

Both run under uvicorn on the same PostgreSQL and take turns at the same load, so that what else the machine does hits
both alike. Look at the ratios: the absolute numbers are those of one machine on one day.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import psutil

from ai_agent.local.postgres import run_postgres
from tests.support.database import FAST, PROJECT, USER_SESSIONS, migrate, run_sql
from tests.support.proxy import run_proxy
from tests.support.service import Service, run_service

CLIENTS = 4

# A user who has just come, and one who has been here for years; the last of each one's conversations is the longest.
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

APPS = {"service": "ai_agent.main:app", "bare": "benchmark.bare:app"}
OPERATIONS = ("chat-new", "chat-append", "list of 20", "history of 50")


class Turn(NamedTuple):
    """One app's turn at an operation: seconds for each request, for all, and of CPU in the app's process."""

    latencies: list[float]
    elapsed: float
    cpu: float


class Case(NamedTuple):
    """What is compared: an app at an operation for a user with little or much."""

    operation: str
    user: str
    app: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="turns of each app at each operation (default: 8)")
    parser.add_argument("--requests", type=int, default=400, help="requests in each turn (default: 400)")
    parser.add_argument("--smoke", action="store_true", help="a few requests only, to see that it runs")
    arguments = parser.parse_args()
    rounds, requests = (1, 100) if arguments.smoke else (arguments.rounds, arguments.requests)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(run_postgres(folder / "postgres", *FAST))
        longest = asyncio.run(seed(url))
        settings = {"DATABASE_URL": url, "PYTHONPATH": str(PROJECT)}
        apps = {
            app: stack.enter_context(run_service(folder, "--no-access-log", app=target, ready="/", **settings))
            for app, target in APPS.items()
        }
        turns = measure(apps, longest, rounds, requests)
        trips = {app: asyncio.run(count_round_trips(folder, app, url, longest)) for app in APPS}
    report(turns, trips, requests)


async def seed(url: str) -> dict[str, int]:
    """Fill the database; the id of each user's longest conversation."""
    await run_sql(url, USER_SESSIONS)
    migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute(SEED)
    longest = {row["user_id"]: row["id"] for row in await connection.fetch(LONGEST)}
    await connection.close()
    return longest


def measure(apps: dict[str, Service], longest: dict[str, int], rounds: int, requests: int) -> dict[Case, list[Turn]]:
    """Let the apps take turns; the first turn of each is a warm-up and does not count."""
    turns: dict[Case, list[Turn]] = {}
    for n, operation, user, app in product(range(rounds + 1), OPERATIONS, longest, apps):
        turn = asyncio.run(take_turn(apps[app], compose(operation, user, longest[user]), requests))
        if n > 0:
            turns.setdefault(Case(operation, user, app), []).append(turn)
    return turns


def compose(operation: str, user: str, conversation_id: int) -> bytes:
    """The request as it goes over the wire."""
    method, path, body = "GET", "/api/conversations?limit=20", b""
    if operation == "history of 50":
        path = f"/api/conversations/{conversation_id}?limit=50"
    elif operation.startswith("chat"):
        into = None if operation == "chat-new" else conversation_id
        method, path, body = "POST", "/api/chat", json.dumps({"message": "Hello", "conversation_id": into}).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: benchmark\r\nAuthorization: Bearer {user.ljust(32, 'x')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def take_turn(app: Service, request: bytes, requests: int) -> Turn:
    before, started = cpu_seconds(app), time.perf_counter()
    latencies = await asyncio.gather(*(send(app, request, requests // CLIENTS) for _ in range(CLIENTS)))
    elapsed = time.perf_counter() - started
    return Turn([latency for client in latencies for latency in client], elapsed, cpu_seconds(app) - before)


def cpu_seconds(app: Service) -> float:
    user, system, *_ = psutil.Process(app.process.pid).cpu_times()
    return float(user + system)


async def send(app: Service, request: bytes, times: int) -> list[float]:
    """Send the request so often over one connection, and time each answer."""
    parts = urlsplit(app.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    latencies = []
    for _ in range(times):
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        latencies.append(time.perf_counter() - started)
        assert b" 200 " in head.partition(b"\r\n")[0], head
    writer.close()
    return latencies


async def count_round_trips(folder: Path, app: str, url: str, longest: dict[str, int]) -> dict[str, float]:
    """The waits for the database in each operation, as it sees them, once statements are known."""
    trips: dict[str, float] = {}
    with ExitStack() as stack:
        async with run_proxy(url) as proxy:
            settings = {"DATABASE_URL": proxy.url, "PYTHONPATH": str(PROJECT)}
            starting = run_service(folder, "--no-access-log", app=APPS[app], ready="/", **settings)
            service = await asyncio.to_thread(stack.enter_context, starting)
            for operation in OPERATIONS:
                request = compose(operation, "small", longest["small"])
                await send(service, request, 10)
                before = proxy.sent.count(b"S")
                await send(service, request, 10)
                trips[operation] = (proxy.sent.count(b"S") - before) / 10
            await asyncio.to_thread(stack.close)
    return trips


def report(turns: dict[Case, list[Turn]], trips: dict[str, dict[str, float]], requests: int) -> None:
    both = " {:>9} {:>5}"
    print(f"{'':14} {'throughput':>10} {'CPU/request, us':>20} {'p50, ms':>15} {'p99, ms':>15} {'round trips':>15}")
    print(
        f"{'':14} {'of bare':>10} {'service':>8} {'bare':>5} {'ratio':>5}" + both.format("service", "bare") * 3, end=""
    )
    print(" {:>7}".format("growth"))
    for operation in OPERATIONS:
        ours, bare = turns[Case(operation, "small", "service")], turns[Case(operation, "small", "bare")]
        cpu, least = cpu_of(ours, requests), cpu_of(bare, requests)
        quantiles = [(quantile(ours, q), quantile(bare, q)) for q in (50, 99)]
        growth = quantile(turns[Case(operation, "large", "service")], 50) / quantiles[0][0]
        print(
            f"{operation:14} {speed(ours) / speed(bare):10.2f} {cpu:8.0f} {least:5.0f} {cpu / least:5.2f}"
            + "".join(f" {ours_:9.2f} {bare_:5.2f}" for ours_, bare_ in quantiles)
            + f" {trips['service'][operation]:9.1f} {trips['bare'][operation]:5.1f} {growth:7.2f}"
        )


def cpu_of(turns: list[Turn], requests: int) -> float:
    """Microseconds of CPU for a request."""
    return statistics.median(turn.cpu for turn in turns) / requests * 1e6


def speed(turns: list[Turn]) -> float:
    return statistics.median(len(turn.latencies) / turn.elapsed for turn in turns)


def quantile(turns: list[Turn], percent: int) -> float:
    """Milliseconds within which so many of the requests were answered."""
    latencies = sorted(latency for turn in turns for latency in turn.latencies)
    return latencies[len(latencies) * percent // 100] * 1000


if __name__ == "__main__":
    main()
