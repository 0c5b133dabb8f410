"""Every statement that the service sends finds its rows through an index, in a database of realistic size.

The server's own auto_explain tells how each statement was really run, with those of foreign keys and cascades. A
prepared statement is planned with its parameters at first and may be planned without them after five uses, when
a user of 20,000 conversations looks like any other: both kinds of plan must be good.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import asyncpg
import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS
from tests.support.service import SERVICE_TOKEN
from tests.support.types import Headers, NewDatabase

# 2,000 users with ten conversations each and one with 20,000; one conversation of 10,000 messages. Rows of different
# users lie side by side, as they do in reality, and a few are older than a year or, for keys, than a day.
SEED = (
    "SET session_replication_role = replica",  # 400,000 foreign keys need not be checked one by one.
    """
    INSERT INTO user_sessions (id, token, "userId", "expiresAt", "updatedAt")
    SELECT n, 'token-' || n, 'user-' || n, now() + interval '1 day', now()
    FROM generate_series(0, 2000) AS n
    """,
    """
    INSERT INTO conversations (user_id, title, created_at, updated_at)
    SELECT 'user-' || CASE WHEN n % 2 = 0 THEN 0 ELSE 1 + n / 2 % 2000 END, 'Chat', at, at
    FROM generate_series(1, 40000) AS n
    CROSS JOIN LATERAL (SELECT now() - (40000 - n) * interval '13.2 minutes' AS at) AS shared
    """,
    """
    INSERT INTO messages (conversation_id, user_id, role, content, created_at)
    SELECT conversations.id, user_id, 'user', repeat('word ', 20), now() - (400000 - n) * interval '1 minute'
    FROM generate_series(1, 400000) AS n
    JOIN conversations ON conversations.id = CASE WHEN n % 40 = 0 THEN 40000 ELSE 1 + n % 40000 END
    """,
    """
    INSERT INTO idempotency_keys (user_id, key, fingerprint, conversation_id, created_at)
    SELECT 'user-' || 1 + n % 2000, n, '', 1 + n % 40000, now() - n * interval '30 seconds'
    FROM generate_series(1, 4000) AS n
    """,
    "VACUUM ANALYZE",
)
# The user with 20,000 conversations, one with ten, and the conversation of 10,000 messages, which is the first user's.
HEAVY, LIGHT, LONG = "0", "7", 40000


# Settings for one connection, given in its URL.
EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}

OUR_TABLES = ("conversations", "messages", "idempotency_keys")

# What the operator's line of data-model.md says, undone after it has run.
RETENTION = "DELETE FROM conversations WHERE created_at < now() - interval '1 year'"

type Plan = dict[str, Any]


class Statement(NamedTuple):
    """One that the server ran, and how; `page` is the size of the page that the request was for."""

    request: str
    page: int
    text: str
    plan: Plan

    def nodes(self) -> Iterator[Plan]:
        """The nodes of the plan, each before those that feed it."""
        waiting = [self.plan]
        while waiting:
            yield (node := waiting.pop())
            waiting += node.get("Plans", [])


class Recorder:
    """Makes requests for the statements that they lead to."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.statements: list[Statement] = []
        self._client = client
        self._request, self._page = "", 0

    def listen(self, connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        self.listen_to(connection.driver_connection)

    def listen_to(self, connection: asyncpg.Connection) -> None:
        connection.add_log_listener(lambda _, message: self._record(message.message))

    def _record(self, notice: str) -> None:
        explained = json.loads(notice.partition("plan:")[2])
        self.statements.append(Statement(self._request, self._page, explained["Query Text"], explained["Plan"]))

    async def get(self, path: str, page: int, user: str = HEAVY) -> None:
        """Read every page."""
        following: str | None = f"{path}?limit={page}"
        while following is not None:
            response = await self._send("GET", following, page, headers={"Authorization": f"Bearer token-{user}"})
            following = response.links["next"]["url"] if "Link" in response.headers else None

    async def write(self, method: str, path: str, body: object = None, user: str = HEAVY, **headers: str) -> None:
        await self._send(method, path, 1, json=body, headers={"Authorization": f"Bearer token-{user}", **headers})

    async def serve(self, path: str, body: object, **headers: str) -> None:
        """Write as a trusted service."""
        service = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": f"user-{HEAVY}"}
        await self._send("POST", path, 1, json=body, headers={**service, **headers})

    async def _send(self, method: str, path: str, page: int, headers: Headers, json: object = None) -> httpx.Response:
        self._request, self._page = f"{method} {path}", page
        response = await self._client.request(method, path, headers=headers, json=json)
        assert response.is_success, response.text
        return response

    async def retain(self, url: str) -> None:
        self._request, self._page = "retention", 1000
        connection = await asyncpg.connect(url)
        self.listen_to(connection)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(RETENTION)
        await transaction.rollback()
        await connection.close()


@pytest.fixture(scope="module")
async def large_database_url(migrated_database: NewDatabase) -> str:
    return await migrated_database(USER_SESSIONS, *SEED)


@pytest.fixture(scope="module", params=["force_custom_plan", "force_generic_plan"])
async def statements(request: pytest.FixtureRequest, large_database_url: str) -> list[Statement]:
    """All that the service sends, for every kind of request, and the operator's deletion."""
    options = " ".join(f"-c {name}={value}" for name, value in {**EXPLAIN, "plan_cache_mode": request.param}.items())
    url = f"{large_database_url}?{urlencode({'options': options}, quote_via=quote)}"
    settings = make_settings(database_url=url, service_auth_token=SERVICE_TOKEN)
    async with running(settings) as app, client_of(app) as client:
        recorder = Recorder(client)
        event.listen(app.state.engine.sync_engine, "connect", recorder.listen)
        await app.state.engine.dispose()  # The start has used a connection that nobody listens to.
        await make_every_request(recorder, key=request.param)
        await recorder.retain(url)
    return recorder.statements


async def make_every_request(recorder: Recorder, key: str) -> None:
    await recorder.get("/api/conversations", page=1000)
    await recorder.get("/api/conversations", page=3, user=LIGHT)
    await recorder.get(f"/api/conversations/{LONG}", page=1000)
    await recorder.get(f"/api/conversations/{LONG}", page=50)
    for id_ in (None, LONG):
        body = {"message": "Hello", "conversation_id": id_}
        await recorder.write("POST", "/api/chat", body)
        for _ in ("stored", "replayed"):
            await recorder.write("POST", "/api/chat", body, **{"Idempotency-Key": f"{key}-{id_}"})
    for _ in ("stored", "replayed"):
        messages = f"/api/conversations/{LONG}/messages"
        await recorder.serve(messages, [{"role": "user", "content": "Hello"}], **{"Idempotency-Key": key})
    await recorder.serve("/api/conversations", {"title": "Chat"})
    await recorder.write("PATCH", f"/api/conversations/{LONG}", {"title": "Chat"})
    await recorder.write("DELETE", f"/api/conversations/{39998 if 'custom' in key else 39996}")


def ours(statements: list[Statement]) -> list[Statement]:
    """Without what asyncpg asks about types on a new connection."""
    return [statement for statement in statements if "pg_catalog.pg_type" not in statement.text]


def rows_read(node: Plan) -> float:
    removed: float = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return (float(node["Actual Rows"]) + removed) * float(node["Actual Loops"])


def test_no_table_is_read_from_end_to_end(statements: list[Statement]) -> None:
    read_whole = [
        (statement.request, node["Relation Name"], statement.text)
        for statement in ours(statements)
        for node in statement.nodes()
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in (*OUR_TABLES, "user_sessions")
    ]

    assert read_whole == []


def test_nothing_is_sorted_but_the_rows_of_the_page_and_the_one_that_shows_that_more_follow(
    statements: list[Statement],
) -> None:
    sorted_more = [
        (statement.request, sum(rows_read(source) for source in node["Plans"]), statement.text)
        for statement in ours(statements)
        for node in statement.nodes()
        if "Sort" in node["Node Type"] and sum(rows_read(source) for source in node["Plans"]) > statement.page + 1
    ]

    assert sorted_more == []


def test_a_request_reads_no_more_rows_than_its_page_holds(statements: list[Statement]) -> None:
    most = max(
        (rows_read(node) - statement.page, statement.request, statement.text)
        for statement in ours(statements)
        if statement.request.startswith("GET")
        for node in statement.nodes()
    )

    # One that shows that more follow, and one that a window function reads ahead.
    assert most[0] <= 2, most


def test_each_index_serves_a_query(statements: list[Statement], index_names: set[str]) -> None:
    used = {node["Index Name"] for statement in statements for node in statement.nodes() if "Index Name" in node}

    assert index_names - used == set()


@pytest.fixture(scope="module")
async def index_names(large_database_url: str) -> set[str]:
    connection = await asyncpg.connect(large_database_url)
    rows = await connection.fetch("SELECT indexname FROM pg_indexes WHERE tablename = ANY($1)", OUR_TABLES)
    await connection.close()
    return {row["indexname"] for row in rows}
