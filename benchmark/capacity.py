"""What an operator plans with: PostgreSQL's CPU and bytes for a turn, and requests per second across a network.

The server runs with its defaults here, so commits are durable. Its CPU is that of all its processes, so commits, vacuum
and the lookup of the token are in it.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import asyncpg
import psutil

from ai_agent.local.postgres import run_postgres
from benchmark.load import FEW, compose, run_app, seed, send
from tests.support.proxy import run_proxy
from tests.support.service import Service

# It makes the service take the server for a pooler, so it sends each statement's text and PostgreSQL plans it anew.
POOLED = "?pgbouncer=true"

ROUND_TRIPS = (1, 5, 40)  # Milliseconds.
CLIENTS, CONNECTIONS = 32, 15
SECONDS = 4

# The bytes of everything that turns are written to, with indexes and TOAST, and of the log so far.
SIZES = """
    SELECT sum(pg_total_relation_size(name::regclass))::bigint, (pg_current_wal_lsn() - '0/0')::bigint
    FROM unnest(ARRAY['conversations', 'messages', 'idempotency_keys']) AS name
"""


class Cost(NamedTuple):
    """What the server spends: microseconds of CPU, bytes of tables, and bytes of its log."""

    cpu: float
    stored: float
    logged: float


class Reach(NamedTuple):
    """Requests per second when the database is `trip` seconds away, and what the connections would allow at most."""

    trip: float
    per_second: float
    bound: float


def main(folder: Path, requests: int) -> None:
    with run_postgres(folder / "postgres") as url:
        conversation_id = asyncio.run(seed(url))["small"]
        server = psutil.Process(int((folder / "postgres/data/postmaster.pid").read_text().partition("\n")[0]))
        direct, pooled = {}, {}
        with run_app(folder, "service", url) as service:
            for kind, compose_nth in kinds(conversation_id, "direct").items():
                direct[kind] = asyncio.run(measure_cost(service, url, server, compose_nth, requests))
        with run_app(folder, "service", url + POOLED) as service:
            for kind, compose_nth in kinds(conversation_id, "pooled").items():
                pooled[kind] = asyncio.run(measure_cost(service, url, server, compose_nth, requests))
        print("PostgreSQL per request   CPU, us: prepared   behind a pooler   stored, bytes   log, bytes")
        for kind, cost in direct.items():
            print(f"{kind:18} {cost.cpu:23.0f} {pooled[kind].cpu:17.0f} {cost.stored:15.0f} {cost.logged:12.0f}")
        print(f"\nNew turns across a network, {CLIENTS} clients, {CONNECTIONS} connections")
        print("round trip, ms   requests/s   connections / (2 x round trip)")
        for milliseconds in ROUND_TRIPS:
            reach = asyncio.run(measure_reach(folder, url, milliseconds / 1000))
            print(f"{reach.trip * 1000:14.1f} {reach.per_second:12.0f} {reach.bound:32.0f}")


def kinds(conversation_id: int, prefix: str) -> dict[str, Callable[[int], bytes]]:
    """For each kind of request, what makes the bytes of the n-th one."""
    append = compose("chat-append", "small", conversation_id)
    return {
        "new turn": lambda _: compose("chat-new", "small", conversation_id),
        "append": lambda _: append,
        "append with key": lambda n: compose("chat-append", "small", conversation_id, f"{prefix}-{n}"),
        "replay": lambda _: compose("chat-append", "small", conversation_id, f"{prefix}-0"),
        "list of 20": lambda _: compose("list of 20", "small", conversation_id),
        "history of 50": lambda _: compose("history of 50", "small", conversation_id),
    }


async def measure_cost(
    service: Service, url: str, server: psutil.Process, compose_nth: Callable[[int], bytes], requests: int
) -> Cost:
    """What a request costs the server. A quarter as many are sent first, to warm caches and to make plans."""
    connection = await asyncpg.connect(url)
    await share_out(service, [compose_nth(n) for n in range(requests // 4)])
    before = await read_meters(connection, server)
    await share_out(service, [compose_nth(requests + n) for n in range(requests)])
    after = await read_meters(connection, server)
    await connection.close()
    return Cost(*((last - first) / requests for first, last in zip(before, after, strict=True)))


async def share_out(service: Service, requests: list[bytes]) -> None:
    await asyncio.gather(*(send(service, requests[client::FEW]) for client in range(FEW)))


async def read_meters(connection: asyncpg.Connection, server: psutil.Process) -> Cost:
    """What the server has spent since it started."""
    sizes = await connection.fetchrow(SIZES)
    assert sizes is not None  # It is an aggregate.
    spent = [process.cpu_times() for process in (server, *server.children())]
    ended = server.cpu_times()  # The postmaster's children that are gone, such as vacuum's.
    cpu = sum(times.user + times.system for times in spent) + ended.children_user + ended.children_system
    return Cost(cpu * 1e6, *sizes)


async def measure_reach(folder: Path, url: str, trip: float) -> Reach:
    """Send new turns for some seconds through a proxy that delays everything to and from the database."""
    with ExitStack() as stack:
        async with run_proxy(url) as proxy:
            service: Service = await asyncio.to_thread(stack.enter_context, run_app(folder, "service", proxy.url))
            request = compose("chat-new", "large", 0)
            await asyncio.gather(*(send(service, [request] * 3) for _ in range(CLIENTS)))
            proxy.delay(trip / 2)
            measured = await measure_trip(proxy.url)
            deadline = time.monotonic() + SECONDS
            requests = (request for _ in iter(lambda: time.monotonic() < deadline, False))
            started = time.perf_counter()
            sent = await asyncio.gather(*(send(service, requests) for _ in range(CLIENTS)))
            per_second = sum(map(len, sent)) / (time.perf_counter() - started)
            await asyncio.to_thread(stack.close)
    return Reach(measured, per_second, CONNECTIONS / (2 * measured))


async def measure_trip(url: str) -> float:
    """The seconds that a round trip really takes, because the proxy's timer may be late."""
    connection = await asyncpg.connect(url, timeout=30)
    trips = []
    for _ in range(20):
        started = time.perf_counter()
        await connection.fetchval("SELECT 1")
        trips.append(time.perf_counter() - started)
    await connection.close()
    return statistics.median(trips)
