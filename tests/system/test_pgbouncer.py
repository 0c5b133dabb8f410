"""The service behind PgBouncer in transaction mode, and how that differs from a direct connection."""

import asyncio
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from ai_agent.database.connection import Connection
from ai_agent.database.pool import create_engine
from ai_agent.database.statements import Statement
from ai_agent.errors import DatabaseUnavailable
from ai_agent.local.postgres import run_postgres
from tests.support.app import client_of, make_settings, running
from tests.support.database import FAST, USER_SESSIONS, alembic, migrate, run_sql
from tests.support.middlemen import run_pgbouncer
from tests.support.rows import seed, user_session
from tests.support.types import Headers, NewDatabase, SignIn, StartService

# The line of each protocol message in the log of a server; the further lines of a long statement begin with a tab.
HEARD = re.compile(r"^ai-agent (\d+) LOG:  duration: \S+ ms  (\w+)(.*\n(?:\t.*\n)*)", re.MULTILINE)


@pytest.fixture
def pooled_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    with run_pgbouncer(tmp_path, database_url) as url:
        yield url


async def use(url: str, headers: Headers) -> Counter[int]:
    """Open two conversations, continue, list and read each; count the responses by status."""
    statuses: Counter[int] = Counter()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        for _ in range(2):
            first = await client.post("/api/chat", json={"message": "Hello"})
            conversation = first.json().get("conversation_id")
            answers = [
                first,
                await client.post("/api/chat", json={"message": "Go on", "conversation_id": conversation}),
                await client.get("/api/conversations"),
                await client.get(f"/api/conversations/{conversation}"),
                await client.patch(f"/api/conversations/{conversation}", json={"title": "Holiday"}),
                await client.get("/health/ready"),
                await client.get("/api/conversations/0"),
                await client.post("/api/chat", json={"message": "Again"}, headers={"Idempotency-Key": "always"}),
            ]
            statuses.update(answer.status_code for answer in answers)
    return statuses


SERVERS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
"""


async def test_two_replicas_share_servers_without_an_error(
    pooled_url: str, start_service: StartService, sign_in: SignIn, database: asyncpg.Connection, tmp_path: Path
) -> None:
    others = await database.fetchval(SERVERS)
    replicas = [start_service(DATABASE_URL=pooled_url) for _ in range(2)]
    users = [await sign_in(f"user-{number}") for number in range(24)]

    statuses = await asyncio.gather(*(use(replicas[i % 2].url, user) for i, user in enumerate(users)))

    servers = await database.fetchval(SERVERS) - others
    assert sum(statuses, Counter()) == {200: 24 * 14, 404: 24 * 2}
    assert servers <= 4
    assert await database.fetchval("SELECT count(*) FROM messages") == 24 * (2 * 4 + 2)
    logs = [(tmp_path / "pgbouncer.log").read_text(), *(replica.log.read_text() for replica in replicas)]
    assert not re.search("prepared statement|ERROR|Traceback", "".join(logs))


async def test_alembic_migrates_and_checks_through_the_pooler(new_database: NewDatabase, tmp_path: Path) -> None:
    with run_pgbouncer(tmp_path, await new_database()) as pooled_url:
        migrated = alembic(pooled_url, "upgrade", "head")
        checked = alembic(pooled_url, "check")

    assert (migrated.returncode, checked.returncode) == (0, 0), migrated.stderr + checked.stderr


class Listener(NamedTuple):
    """A migrated server that logs each message it gets, with a user signed in to it."""

    url: str
    log: Path
    user: Headers


@pytest.fixture(scope="module")
async def listener(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Listener]:
    folder = tmp_path_factory.mktemp("listener")
    with run_postgres(folder, *FAST, "log_min_duration_statement=0", "log_line_prefix=%a %p ") as url:
        await seed(url, USER_SESSIONS, user_session("ada", "token"))
        migrate(url)
        yield Listener(url, folder / "postgres.log", {"Authorization": "Bearer token"})


async def hear(listener: Listener, url: str, **settings: int) -> list[list[tuple[str, str]]]:
    """Serve with the database at this URL, and return the messages that each server process got meanwhile."""
    before = listener.log.stat().st_size
    app_settings = make_settings(database_url=url, **settings)
    async with running(app_settings) as app, client_of(app, headers=listener.user) as client:
        for _ in range(2):
            await asyncio.gather(*(client.get("/api/conversations") for _ in range(6)))
            await asyncio.gather(*(client.post("/api/chat", json={"message": "Hello"}) for _ in range(6)))
    heard = defaultdict(list)
    for process, verb, statement in HEARD.findall(listener.log.read_text()[before:]):
        # PgBouncer prepares a server for its next client, and the service a new connection for itself.
        if not statement.startswith((": SET ", ": SELECT set_config")):
            heard[process].append((verb, statement))
    return list(heard.values())


async def test_a_pooler_gets_every_statement_unnamed_and_whole(listener: Listener, tmp_path: Path) -> None:
    with run_pgbouncer(tmp_path, listener.url, "default_pool_size = 1") as pooled_url:
        [heard] = await hear(listener, pooled_url)

    assert all(statement.startswith(" <unnamed>: ") for _, statement in heard)
    assert re.fullmatch("(?:(?:parse )+bind execute )+", "".join(f"{verb} " for verb, _ in heard))
    assert all(parsed == bound for (_, parsed), (verb, bound) in pairwise(heard) if verb != "parse")


async def test_a_pooler_gets_a_known_statement_in_one_round_trip(listener: Listener, tmp_path: Path) -> None:
    with run_pgbouncer(tmp_path, listener.url, "default_pool_size = 1") as pooled_url:
        [heard] = await hear(listener, pooled_url, database_pool_size=1, database_max_overflow=0)

    verbs = [verb for verb, _ in heard]
    two_statements = ["parse", "bind", "execute"] * 2
    assert verbs[-6 * 12 :] == two_statements * 12, "the twelve requests of the second round"


async def test_a_server_itself_gets_single_statements_prepared_once(listener: Listener) -> None:
    heard = await hear(listener, listener.url)

    for messages in heard:
        parsed = [statement for verb, statement in messages if verb == "parse"]
        assert {verb for verb, _ in messages} == {"parse", "bind", "execute"}
        assert all(statement.startswith(" __asyncpg_stmt_") for _, statement in messages)
        assert len(parsed) == len({statement.partition(":")[2] for statement in parsed})


async def test_a_new_connection_asks_for_no_types(listener: Listener) -> None:
    heard = await hear(listener, listener.url)

    assert not any("pg_type" in statement for messages in heard for _, statement in messages)


async def test_a_pooler_is_found_out_even_where_it_ignores_timeouts(listener: Listener, tmp_path: Path) -> None:
    ignored = "ignore_startup_parameters = statement_timeout, idle_in_transaction_session_timeout"
    with run_pgbouncer(tmp_path, listener.url, ignored) as pooled_url:
        heard = await hear(listener, pooled_url)

    assert all(statement.startswith(" <unnamed>: ") for messages in heard for _, statement in messages)


async def test_a_pooler_that_lost_its_server_keeps_a_new_process_waiting_no_longer_than_allowed(tmp_path: Path) -> None:
    with ExitStack() as server:
        url = server.enter_context(run_postgres(tmp_path / "postgres", *FAST))
        with run_pgbouncer(tmp_path, url) as pooled_url:
            await run_sql(pooled_url, "SELECT 1")
            server.close()
            engine = create_engine(make_settings(database_url=pooled_url))
            started = time.monotonic()

            with pytest.raises(DatabaseUnavailable):
                async with Connection(engine, 4):
                    pass

            assert time.monotonic() - started < 5
            await engine.dispose()


SETTINGS = Statement(text("SELECT json_object_agg(name, current_setting(name))::text FROM pg_settings"), str)


async def test_the_server_ends_what_a_vanished_process_has_left_behind(database_url: str) -> None:
    engine = create_engine(make_settings(database_url=database_url, database_timeout=2.5))

    async with Connection(engine, 4) as connection:
        shown = await connection.fetch(SETTINGS)
    settings: dict[str, str] = json.loads(shown or "")

    await engine.dispose()
    assert (
        settings.items()
        >= {
            "statement_timeout": "3500ms",
            "idle_in_transaction_session_timeout": "3500ms",
            "idle_session_timeout": "5min",
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
        }.items()
    )


async def test_a_pooler_in_session_mode_with_fewer_servers_than_the_pool_serves_again_after_a_burst(
    database_url: str, sign_in: SignIn, tmp_path: Path
) -> None:
    headers = await sign_in()
    settings = ("pool_mode = session", "query_wait_timeout = 1")

    with run_pgbouncer(tmp_path, database_url, *settings) as url:
        async with running(make_settings(database_url=url)) as app, client_of(app, headers=headers) as client:
            burst = await asyncio.gather(*(client.get("/api/conversations") for _ in range(40)))
            afterwards = [await client.get("/api/conversations") for _ in range(20)]

    assert {answer.status_code for answer in burst} <= {200, 503}
    assert [answer.status_code for answer in afterwards] == [200] * 20
