"""Compare the service with `bare.py` doing the same work: `uv run python -m benchmark`.

Both run under uvicorn on the same PostgreSQL and take turns at the same load, so that the machine's other work slows
both alike. Look at the ratios, because the absolute numbers are those of one machine on one day. Only the counts of
instructions hardly depend on it. `--capacity` measures what an operator plans with instead.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from ai_agent.local.postgres import run_postgres
from benchmark import capacity, instructions, table
from benchmark.load import APPS, CASES, OPERATIONS, Case, Turn, compose, run_app, seed, send, take_turn
from tests.support.database import FAST
from tests.support.proxy import run_proxy
from tests.support.service import Service


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="turns of each app at each operation (default: 8)")
    parser.add_argument("--requests", type=int, default=400, help="requests in each turn (default: 400)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--smoke", action="store_true", help="send a few requests only, to see that it runs")
    mode.add_argument(
        "--capacity", action="store_true", help="measure what PostgreSQL spends, and requests per second over a network"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        if arguments.capacity:
            capacity.main(Path(name), arguments.requests)
        elif arguments.smoke:
            compare(Path(name), rounds=1, requests=32, count=False)
        else:
            compare(Path(name), arguments.rounds, arguments.requests, count=True)


def compare(folder: Path, rounds: int, requests: int, *, count: bool) -> None:
    with run_postgres(folder / "postgres", *FAST) as url:
        longest = asyncio.run(seed(url))
        turns = measure(folder, url, longest, rounds, requests)
        trips = {app: asyncio.run(count_round_trips(folder, app, url, longest["small"])) for app in APPS}
        counts = None
        if count and instructions.is_there():
            counts = instructions.count(folder, url, longest["small"])
        elif count:
            print("Valgrind is not on PATH, so the instructions are not counted.", file=sys.stderr)
    print(table.make(turns, trips, counts))


def measure(
    folder: Path, url: str, longest: dict[str, int], rounds: int, requests: int
) -> dict[tuple[Case, str], list[Turn]]:
    """Let the apps take turns at each case; the first turn of each is a warm-up and does not count."""
    turns: dict[tuple[Case, str], list[Turn]] = {}
    with ExitStack() as stack:
        apps = {app: stack.enter_context(run_app(folder, app, url)) for app in APPS}
        for n, case, app in product(range(rounds + 1), CASES, APPS):
            request = compose(case.operation, case.user, longest[case.user])
            turn = asyncio.run(take_turn(apps[app], request, requests, case.clients))
            if n > 0:
                turns.setdefault((case, app), []).append(turn)
    return turns


async def count_round_trips(folder: Path, app: str, url: str, conversation_id: int) -> dict[str, float]:
    """How often each operation waits for the database, once its statements are prepared."""
    trips: dict[str, float] = {}
    with ExitStack() as stack:
        async with run_proxy(url) as proxy:
            service: Service = await asyncio.to_thread(stack.enter_context, run_app(folder, app, proxy.url))
            for operation in OPERATIONS:
                requests = [compose(operation, "small", conversation_id)] * 10
                await send(service, requests)
                before = proxy.sent.count(b"S")
                await send(service, requests)
                trips[operation] = (proxy.sent.count(b"S") - before) / 10
            await asyncio.to_thread(stack.close)
    return trips


if __name__ == "__main__":
    main()
