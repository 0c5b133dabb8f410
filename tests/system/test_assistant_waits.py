"""An agent that takes its time, or whose turn cannot be stored: what a client gets while it waits, and in the end.

The module begins all the waits at once, each for a user of its own, because each is long.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from tests.support.assistant import finished, send, send_for_stream, shown, stream, with_agent
from tests.support.database import USER_SESSIONS
from tests.support.model_server import ModelServer, run_model_server, says
from tests.support.proxy import Proxy, run_proxy
from tests.support.rows import user_session
from tests.support.service import Service, run_service
from tests.support.types import Headers, NewDatabase

TOO_SLOW = "The assistant took too long to reply, and nothing was stored; try again shortly."
USERS = ("patient", "late", "given-up", "not-stored")
SCRIPT = (
    says("Half past nine.", silence=21),
    says("Half past nine.", silence=60),
    says("Half past nine.", silence=60),
    says("Half past nine.", silence=1),
)


class Streamed(NamedTuple):
    """A stream that was read to its end, and after how many seconds its head came."""

    waited: float
    comments: int
    parts: list[Any]


class Waits(NamedTuple):
    """The responses to come, from a service with ASSISTANT_TIMEOUT=26 and from one whose database goes away."""

    patient: asyncio.Task[Streamed]
    late: asyncio.Task[tuple[httpx.Response, list[Any]]]
    given_up: asyncio.Task[httpx.Response]
    not_stored: asyncio.Task[tuple[float, httpx.Response]]
    model: ModelServer
    database: asyncpg.Connection
    log: Path
    """What the first service writes."""

    async def count_messages(self, user_id: str) -> int:
        count: int = await self.database.fetchval("SELECT count(*) FROM messages WHERE user_id = $1", user_id)
        return count


def signed_in(user_id: str) -> Headers:
    return {"Authorization": f"Bearer {user_id}"}


async def read_patiently(url: str) -> Streamed:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        started = time.monotonic()
        async with stream(client, signed_in("patient"), message="Hello") as response:
            waited = time.monotonic() - started
            parts = await response.rest()
    return Streamed(waited, response.comments, parts)


async def send_in_vain(url: str) -> tuple[float, httpx.Response]:
    started = time.monotonic()
    response = await send(url, signed_in("not-stored"))
    return time.monotonic() - started, response


@pytest.fixture(scope="module")
async def waits(migrated_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Waits]:
    url = await migrated_database(USER_SESSIONS, *(user_session(user_id, user_id) for user_id in USERS))
    database = await asyncpg.connect(url)
    async with run_model_server() as model, run_proxy(url) as proxy:
        with ExitStack() as services:
            serve = partial(run_service, tmp_path_factory.mktemp("services"), **with_agent(model))
            slow = services.enter_context(serve(ASSISTANT_TIMEOUT="26", DATABASE_URL=url))
            # The service looks at the database when it starts, and this thread is the proxy.
            cut_off = serve(ASSISTANT_TIMEOUT="5", DATABASE_URL=proxy.url)
            away = await asyncio.to_thread(services.enter_context, cut_off)
            waits = await begin(slow, away.url, model, proxy, database)
            yield waits
            for task in waits[:4]:
                task.cancel()
    await database.close()


async def begin(slow: Service, away: str, model: ModelServer, proxy: Proxy, database: asyncpg.Connection) -> Waits:
    """Send each message when the model has got the one before, because the model follows its script."""
    model.script = list(SCRIPT)
    patient = asyncio.create_task(read_patiently(slow.url))
    await model.until_answering(1)
    late = asyncio.create_task(send_for_stream(slow.url, signed_in("late")))
    await model.until_answering(2)
    given_up = asyncio.create_task(send(slow.url, signed_in("given-up")))
    await model.until_answering(3)
    not_stored = asyncio.create_task(send_in_vain(away))
    await model.until_answering(4)
    proxy.refuse()
    return Waits(patient, late, given_up, not_stored, model, database, slow.log)


async def test_the_head_of_a_stream_waits_ten_seconds_and_silence_is_filled_with_comments(waits: Waits) -> None:
    waited, comments, parts = await waits.patient

    assert waited >= 10
    assert parts == [{"type": "start"}, *shown("Half past nine."), finished(ANY)]
    assert comments >= 1


async def test_a_database_that_stays_away_is_a_503_within_the_time_that_is_promised(waits: Waits) -> None:
    seconds, response = await waits.not_stored

    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert seconds >= 20
    assert await waits.count_messages("not-stored") == 0


async def test_a_failure_after_the_head_has_gone_is_an_error_part(waits: Waits) -> None:
    head, parts = await waits.late

    assert head.status_code == 200
    assert parts == [{"type": "start"}, {"type": "error", "errorText": TOO_SLOW}]


async def test_a_model_that_is_too_slow_is_given_up_and_its_connection_closed(waits: Waits) -> None:
    response = await waits.given_up

    assert (response.status_code, response.json()) == (503, {"detail": TOO_SLOW})
    assert response.headers["Retry-After"] == "5"
    await waits.model.until_answering(0)
    assert await waits.count_messages("given-up") == 0
    assert "ms, longer than ASSISTANT_TIMEOUT: raise it if the agent needs more" in waits.log.read_text()
