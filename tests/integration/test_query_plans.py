"""Every statement that the service sends finds its rows through an index, in a database of realistic size.

The server's own auto_explain tells how each statement was really run, with those of foreign keys and cascades. A
prepared statement is planned with its parameters at first and may be planned without them after five uses, when
a user of 20,000 conversations looks like any other: both kinds of plan must be good.
"""

import asyncpg
import pytest

from tests.support.database import USER_SESSIONS
from tests.support.plans import Plan, Statement, make_every_request, recording
from tests.support.types import NewDatabase

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


OUR_TABLES = ("conversations", "messages", "idempotency_keys")

# What the operator's line of data-model.md says, undone after it has run.
RETENTION = "DELETE FROM conversations WHERE created_at < now() - interval '1 year'"


@pytest.fixture(scope="module")
async def large_database_url(migrated_database: NewDatabase) -> str:
    return await migrated_database(USER_SESSIONS, *SEED)


@pytest.fixture(scope="module", params=["force_custom_plan", "force_generic_plan"])
async def statements(request: pytest.FixtureRequest, large_database_url: str) -> list[Statement]:
    """All that the service sends, for every kind of request, and the operator's deletion."""
    async with recording(large_database_url, plan_cache_mode=request.param) as recorder:
        await recorder.get("/api/conversations", page=1000, user=HEAVY)
        await recorder.get("/api/conversations", page=3, user=LIGHT)
        await recorder.get(f"/api/conversations/{LONG}", page=1000, user=HEAVY)
        deleted = 39998 if "custom" in request.param else 39996
        await make_every_request(recorder, HEAVY, LONG, deleted, key=request.param, page=50)
        await recorder.run("retention", 1000, large_database_url, RETENTION)
    return recorder.statements


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
