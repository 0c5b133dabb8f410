"""Tables that are new: the planner knows nothing of their rows, and keeps the plans of the first, empty days."""

import asyncpg

from ai_agent.services.turns import STORE_TURN
from tests.support.types import NewDatabase

TURNS = 50
MESSAGES = '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Echo: Hello"}]'
ROWS_READ = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname LIKE '%idempotency_keys%'"


async def test_turns_read_no_key_but_their_own(migrated_database: NewDatabase) -> None:
    url = await migrated_database()
    service = await asyncpg.connect(url)
    await service.execute("ALTER TABLE idempotency_keys SET (autovacuum_enabled = off)")
    values: dict[str, object] = {"user_id": "ada", "conversation_id": None, "title": None, "messages": MESSAGES}

    for number in range(TURNS):
        sent = values | {"key": f"key-{number}", "fingerprint": b"Hello"}
        stored = await service.fetchrow(STORE_TURN.sql, *(sent[name] for name in STORE_TURN.parameters))
        assert stored is not None
        assert stored["outcome"] == "stored"
    await service.execute("SELECT pg_stat_force_next_flush()")

    read = [row["idx_tup_read"] for row in await service.fetch(ROWS_READ)]
    assert len(read) == 2
    assert TURNS <= sum(read) <= 2 * TURNS
    await service.close()
