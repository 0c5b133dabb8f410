"""Every acknowledged turn is stored once and whole, no matter when the service or PostgreSQL is killed."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.database import stored_questions, until_the_service_is_gone
from tests.support.postgres import OwnServer
from tests.support.types import Headers, SignIn, StartService

CLIENTS = 6
RETRY_AFTER = 0.05  # While something is down each request fails at once, and clients must not spin.


@asynccontextmanager
async def load(client: httpx.AsyncClient, headers: Headers) -> AsyncIterator[list[str]]:
    """Send messages from several clients at once, as fast as they are answered, and list those that got a 200."""
    acknowledged: list[str] = []
    tasks = [asyncio.create_task(keep_sending(client, headers, name, acknowledged)) for name in range(CLIENTS)]
    yield acknowledged
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ended] == [asyncio.CancelledError] * CLIENTS, ended


async def keep_sending(client: httpx.AsyncClient, headers: Headers, name: int, acknowledged: list[str]) -> None:
    """Send one client's messages, numbered; every seventh begins a new conversation."""
    conversation_id = None
    for number in count(1):
        body = {"message": f"{name} {number:06}", "conversation_id": conversation_id if number % 7 else None}
        try:
            response = await client.post("/api/chat", headers=headers, json=body)
        except httpx.TransportError:
            await asyncio.sleep(RETRY_AFTER)
            continue
        assert response.status_code in {200, 503}, response.text
        if response.status_code == 200:
            acknowledged.append(response.json()["user_message"])
            conversation_id = response.json()["conversation_id"]
        else:
            await asyncio.sleep(RETRY_AFTER)


async def until_more_than(number: int, acknowledged: list[str]) -> None:
    async with asyncio.timeout(10):
        while len(acknowledged) <= number:  # noqa: ASYNC110  # Six tasks take turns in causing the event.
            await asyncio.sleep(0.01)  # Lets the six tasks run.


async def assert_exactly_once(database: asyncpg.Connection, acknowledged: list[str], unanswered: int) -> None:
    """Every acknowledged message is stored, in order, with no more others than had no response yet."""
    conversations = await stored_questions(database)
    stored = [question for questions in conversations.values() for question in questions]
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    assert len(stored) <= len(acknowledged) + unanswered
    assert all(questions == sorted(questions) for questions in conversations.values())


async def test_nothing_is_lost_or_torn_when_the_service_is_killed(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection, database_url: str
) -> None:
    service = start_service(DATABASE_URL=f"{database_url}?application_name=killed")
    async with httpx.AsyncClient(base_url=service.url) as client, load(client, await sign_in()) as acknowledged:
        await until_more_than(100, acknowledged)
        service.process.kill()
        service.process.wait()

    await until_the_service_is_gone(database, "killed")
    await assert_exactly_once(database, acknowledged, unanswered=CLIENTS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the processes of a server")
async def test_nothing_is_lost_or_torn_when_postgres_is_killed(own_server: OwnServer) -> None:
    server, headers = own_server
    settings = make_settings(database_url=server.url)
    async with running(settings) as app, client_of(app) as client, load(client, headers) as acknowledged:
        for _ in range(3):
            await until_more_than(len(acknowledged) + 50, acknowledged)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        await until_more_than(len(acknowledged) + 50, acknowledged)

    database = await asyncpg.connect(server.url)
    await until_the_service_is_gone(database)
    await assert_exactly_once(database, acknowledged, unanswered=4 * CLIENTS)
    await database.close()


FAILING = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'no space left' USING ERRCODE = '{sqlstate}';
    END $$;
    CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON messages {when}
    FOR EACH ROW WHEN (NEW.role = 'assistant') EXECUTE FUNCTION fail()
"""


@pytest.fixture
async def failing(database: asyncpg.Connection) -> AsyncIterator[str]:
    yield FAILING
    await database.execute("DROP FUNCTION fail CASCADE")


@pytest.mark.parametrize("when", ["NOT DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"], ids=["statement", "commit"])
@pytest.mark.parametrize(("sqlstate", "status"), [("53100", 503), ("P0001", 500)])
async def test_a_failing_write_is_not_acknowledged_and_stores_nothing(
    when: str,
    sqlstate: str,
    status: int,
    failing: str,
    client: httpx.AsyncClient,
    sign_in: SignIn,
    database: asyncpg.Connection,
) -> None:
    headers = await sign_in()
    await database.execute(failing.format(sqlstate=sqlstate, when=when))

    response = await client.post("/api/chat", headers=headers, json={"message": "Hello"})

    assert (response.status_code, list(response.json())) == (status, ["detail"])
    assert await stored_questions(database) == {}
