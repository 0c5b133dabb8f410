"""Each statement stays on one partition where the tables are split by user.

The server's own auto_explain tells which partitions a statement read. A table's partitions have the same numbers as the
other tables', so one number stands for all rows of a user. What a distributed PostgreSQL asks of keys and statements is
the same, so this holds for it too.
"""

import asyncio
import re
import sys
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from ai_agent.database.models import IdempotencyKey
from ai_agent.database.statements import Statement as SentStatement
from ai_agent.services.turns import FIND_TURN
from tests.support.database import PROJECT, USER_SESSIONS, until_waiting_for_locks
from tests.support.partitions import PARTITION, TABLES, rows_of_twenty_users
from tests.support.plans import Recorder, Statement, explaining, make_every_request, recording
from tests.support.rows import add
from tests.support.types import NewDatabase

# An operator's, as data-model.md has it.
RETENTION = "DELETE FROM conversations WHERE created_at < now() - interval '1 year'"


@pytest.fixture(scope="module")
async def partitioned_database_url(migrated_database: NewDatabase) -> str:
    return await migrated_database(USER_SESSIONS, *rows_of_twenty_users(), PARTITION)


@pytest.fixture(scope="module", params=["force_custom_plan", "force_generic_plan"])
async def statements(request: pytest.FixtureRequest, partitioned_database_url: str) -> list[Statement]:
    """All that the service sends for a user, and all that the function of turns does, whichever way it takes."""
    user = "7" if "custom" in request.param else "8"
    connection = await asyncpg.connect(partitioned_database_url)
    ids = await connection.fetch("SELECT id FROM conversations WHERE user_id = $1 ORDER BY id", f"user-{user}")
    async with recording(partitioned_database_url, plan_cache_mode=request.param) as recorder:
        await make_every_request(recorder, user, ids[0]["id"], ids[1]["id"], key="key")
        await replay_though_the_time_was_changed(recorder, connection, user)
        await lose_a_race_for_a_key(recorder, connection, user)
        await find_the_turn_of_a_key(
            recorder, explaining(partitioned_database_url, plan_cache_mode=request.param), user
        )
        await recorder.write("DELETE", "/api/conversations?all=true", user)
        await recorder.write("GET", "/health/ready", user)
        await recorder.run("retention", 0, partitioned_database_url, RETENTION)
    await connection.close()
    return recorder.statements


async def replay_though_the_time_was_changed(recorder: Recorder, connection: asyncpg.Connection, user: str) -> None:
    chat: Any = ("POST", "/api/chat", user, {"message": "Hello"})
    await recorder.write(*chat, **{"Idempotency-Key": "changed"})
    await connection.execute("UPDATE idempotency_keys SET created_at = created_at - interval '1 second'")
    await recorder.write(*chat, **{"Idempotency-Key": "changed"})


async def lose_a_race_for_a_key(recorder: Recorder, connection: asyncpg.Connection, user: str) -> None:
    """Claim a key for the turn of another one, while the request for a new conversation waits to claim it."""
    known = "SELECT * FROM idempotency_keys WHERE key = 'changed' AND user_id = $1"
    [row] = await connection.fetch(known, f"user-{user}")
    async with connection.transaction():
        await add(connection, IdempotencyKey(**{**row, "key": "raced"}))
        body = {"message": "Hello"}
        waiting = asyncio.create_task(recorder.write("POST", "/api/chat", user, body, **{"Idempotency-Key": "raced"}))
        await until_waiting_for_locks(connection)
    await waiting


async def find_the_turn_of_a_key(recorder: Recorder, url: str, user: str) -> None:
    """Send what only a service with an agent sends."""
    values = {"user_id": f"user-{user}", "key": "key", "fingerprint": b""}
    connection = await asyncpg.connect(url)
    recorder.listen(connection)
    found = await connection.fetchrow(FIND_TURN.sql, *(values[name] for name in FIND_TURN.parameters))
    await connection.close()
    assert found is not None


def partitions(statement: Statement) -> set[str]:
    """The numbers of the partitions that the statement read; rows that it wrote are rows that it read, or new ones."""
    relations = [node["Relation Name"] for node in statement.nodes() if "Scan" in node["Node Type"] and reads(node)]
    return {number for relation in relations for number in re.findall(rf"(?:{'|'.join(TABLES)})_(\d+)", relation)}


def reads(node: dict[str, Any]) -> bool:
    return "Relation Name" in node and float(node["Actual Loops"]) > 0


def test_each_statement_of_a_user_stays_on_the_same_partition(statements: list[Statement]) -> None:
    visits = {
        (number, statement.request, statement.text)
        for statement in statements
        if statement.request != "retention"
        for number in partitions(statement)
    }

    assert len({number for number, *_ in visits}) == 1, visits


def test_a_statement_that_names_no_user_visits_all_partitions(statements: list[Statement]) -> None:
    [retention] = [
        statement for statement in statements if statement.text.startswith("DELETE FROM conversations WHERE created_at")
    ]

    assert len(partitions(retention)) == 16


def test_each_statement_of_the_service_was_seen(statements: list[Statement]) -> None:
    seen = {statement.text for statement in statements}

    unseen = {sent.sql for sent in sent_statements()} - seen

    assert [text for text in unseen if any(table in text for table in TABLES)] == []


def sent_statements() -> Iterator[SentStatement[Any]]:
    for name, module in list(sys.modules.items()):
        if name.startswith("ai_agent.services."):
            yield from (value for value in vars(module).values() if isinstance(value, SentStatement))


def test_each_statement_of_the_function_was_seen(statements: list[Statement]) -> None:
    flat = " ".join((PROJECT / "alembic/functions/store_turn_1.sql").read_text().split())
    seen = " ".join(" ".join(statement.text.split()) for statement in statements)

    named = re.findall(rf"(?:FROM|INTO|UPDATE) (?:{'|'.join(TABLES)})\b(?:(?! LOOP)[^;)])*", flat)

    assert len(named) == 13, named
    assert [text for text in named if text not in seen] == []
