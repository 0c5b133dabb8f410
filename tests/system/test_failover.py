"""A primary is lost while clients send turns, and its synchronous standby takes over.

The clients send a turn again, with its key, until it is acknowledged, as a careful front end does.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS, migrate, stored_questions
from tests.support.middlemen import run_database_balancer, run_pgbouncer
from tests.support.rows import seed, user_session
from tests.support.standby import Node, Pair, tell_who_takes_writes, until_synchronous

CLIENTS = 16

# Seconds between two tries of a client: fewer than `Retry-After` asks for, so that the first 200 is not missed.
RETRY_AFTER = 0.2


class Answer(NamedTuple):
    """The status of a response, and when the request was sent and answered."""

    status: int
    sent_at: float
    answered_at: float


@dataclass
class Record:
    """What the clients got: every answer, and the messages of each user whose turn has a 200."""

    answers: list[Answer] = field(default_factory=list)
    acknowledged: dict[str, list[str]] = field(
        default_factory=lambda: {f"user-{number}": [] for number in range(CLIENTS)}
    )

    async def until_everybody_has_turns(self, more: int) -> None:
        """Wait until each user has so many turns more than now."""
        wanted = {user: len(messages) + more for user, messages in self.acknowledged.items()}
        async with asyncio.timeout(60):
            while any(len(self.acknowledged[user]) < turns for user, turns in wanted.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # The clients go on meanwhile.

    async def until_refused(self) -> None:
        """Wait until a client has noticed that the primary is gone."""
        async with asyncio.timeout(60):
            while all(answer.status == 200 for answer in self.answers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@asynccontextmanager
async def conversing(client: httpx.AsyncClient, record: Record) -> AsyncIterator[None]:
    """Let every user send turns until the block ends, and wait until what was sent is acknowledged."""
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as users:
        for number in range(CLIENTS):
            users.create_task(converse(client, number, record, enough))
        try:
            yield
        finally:
            enough.set()


async def converse(client: httpx.AsyncClient, number: int, record: Record, enough: asyncio.Event) -> None:
    conversation_id = None
    acknowledged = record.acknowledged[f"user-{number}"]
    while not enough.is_set():
        message = f"message {len(acknowledged)}"
        request = client.build_request(
            "POST",
            "/api/chat",
            json={"message": message, "conversation_id": conversation_id},
            headers={"Authorization": f"Bearer token-{number}", "Idempotency-Key": f"key-{len(acknowledged)}"},
        )
        conversation_id = await send(client, request, record)
        acknowledged.append(message)


async def send(client: httpx.AsyncClient, request: httpx.Request, record: Record) -> int:
    """Send the request until it is acknowledged, and return the conversation's id."""
    for _ in range(30):
        sent_at = time.monotonic()
        response = await client.send(request)
        record.answers.append(Answer(response.status_code, sent_at, time.monotonic()))
        if response.status_code == 200:
            conversation_id: int = response.json()["conversation_id"]
            return conversation_id
        assert response.status_code == 503, response.text
        await asyncio.sleep(RETRY_AFTER)
    raise AssertionError("a turn was not acknowledged in 30 tries")


@pytest.fixture(scope="module")
async def prepared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Two servers with a migrated database and users who are signed in, saved."""
    pair = Pair(tmp_path_factory.mktemp("pair"))
    pair.start()
    await seed(pair.primary.url, USER_SESSIONS, *(user_session(f"user-{n}", f"token-{n}") for n in range(CLIENTS)))
    migrate(pair.primary.url)
    pair.save()
    yield pair
    pair.restore()


@pytest.fixture
async def pair(prepared: Pair) -> Pair:
    prepared.restore()
    prepared.start()
    await until_synchronous(prepared)
    return prepared


@asynccontextmanager
async def several_hosts(pair: Pair, _: Path) -> AsyncIterator[str]:
    parts = urlsplit(pair.primary.url)
    hosts = f"{parts.netloc},127.0.0.1:{pair.standby.port}"
    yield parts._replace(netloc=hosts, query="target_session_attrs=read-write").geturl()


@asynccontextmanager
async def pgbouncer_and_haproxy(pair: Pair, folder: Path) -> AsyncIterator[str]:
    nodes = pair.primary, pair.standby
    async with tell_who_takes_writes(nodes) as told:
        servers = {node.port: port for node, port in zip(nodes, told, strict=True)}
        with run_database_balancer(folder, servers) as balancer:
            parts = urlsplit(pair.primary.url)
            balanced = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{balancer}").geturl()
            settings = ("server_login_retry = 1", "server_connect_timeout = 2", "query_wait_timeout = 5")
            with run_pgbouncer(folder, balanced, *settings) as url:
                yield url


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[httpx.AsyncClient]:
    # A connection for each client: those in the process of the pool would never let the last one have its turn.
    settings = make_settings(database_url=url, database_pool_size=CLIENTS, database_max_overflow=0)
    async with running(settings) as app, client_of(app) as client:
        yield client


# A frozen server need not be fenced, because it acknowledges nothing without its standby.
LOSSES = {"killed": Node.kill, "stopped in order": Node.stop, "silent": Node.freeze}


@pytest.mark.parametrize("way", [several_hosts, pgbouncer_and_haproxy])
@pytest.mark.parametrize("loss", LOSSES)
async def test_no_acknowledged_turn_is_lost_or_doubled_when_the_primary_is(
    loss: str, way: Callable[[Pair, Path], AbstractAsyncContextManager[str]], pair: Pair, tmp_path: Path
) -> None:
    record = Record()
    async with way(pair, tmp_path) as url, serving(url) as client, conversing(client, record):
        await record.until_everybody_has_turns(3)
        await asyncio.to_thread(LOSSES[loss], pair.primary)
        await record.until_refused()
        await pair.promote()
        takes_writes_at = time.monotonic()
        if loss == "stopped in order":
            await asyncio.to_thread(pair.follow)
        await record.until_everybody_has_turns(3)

    statuses = Counter(answer.status for answer in record.answers)
    recovered_at = min(a.answered_at for a in record.answers if a.status == 200 and a.answered_at > takes_writes_at)
    print(f"{statuses}; the first 200 {recovered_at - takes_writes_at:.2f} s after a primary took writes")
    assert statuses.keys() == {200, 503}
    assert await read_questions(pair.primary.url) == record.acknowledged


async def read_questions(url: str) -> dict[str, list[str]]:
    """The questions that are stored for each user, after a check that each has its reply."""
    database = await asyncpg.connect(url)
    conversations = await stored_questions(database)
    owners = await database.fetch("SELECT id, user_id FROM conversations")
    await database.close()
    return {user_id: conversations[id_] for id_, user_id in owners}


async def test_a_standby_on_its_own_serves_reads_and_the_log_says_what_to_do(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(pair.standby.url) as client:
        client.headers["Authorization"] = "Bearer token-0"
        answers = [await client.get("/health/ready"), await client.get("/api/conversations")]
        written = await client.post("/api/chat", json={"message": "Hello"})

    assert [answer.status_code for answer in [*answers, written]] == [200, 200, 503]
    assert (
        "The server is a standby, so every write is refused: name the primary in DATABASE_URL, or all hosts,"
        " with target_session_attrs=read-write."
    ) in caplog.messages
    assert "Name the primary in DATABASE_URL" in caplog.text
