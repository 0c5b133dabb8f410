"""What a distributed PostgreSQL refuses, or takes apart over all of its servers, is in no statement and in no key."""

import re
import sys
from typing import Any

import pytest
from sqlalchemy import ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint
from sqlmodel import SQLModel

from ai_agent import main  # noqa: F401  # Importing it fills the metadata, and defines every statement.
from ai_agent.database.statements import Statement
from tests.support.database import PROJECT

FUNCTIONS = {file.name: file.read_text() for file in (PROJECT / "alembic/functions").glob("*.sql")}
STATEMENTS = {
    f"{module}.{name}": value.sql
    for module in list(sys.modules)
    if module.startswith("ai_agent.services.")
    for name, value in vars(sys.modules[module]).items()
    if isinstance(value, Statement)
}
TEXTS = {name: re.sub(r"--.*", "", text) for name, text in (FUNCTIONS | STATEMENTS).items()}

# Each pattern with a statement that it finds.
REFUSED = {
    "a function in ON CONFLICT ... WHERE, as it may be volatile": (
        r"\bON CONFLICT\b[^;]*\bDO UPDATE\b[^;]*\bWHERE\b[^;]*\w\(",
        "INSERT INTO idempotency_keys AS old VALUES ($1) ON CONFLICT (user_id, key) DO UPDATE SET created_at = $2"
        " WHERE old.created_at <= clock_timestamp() - interval '24 hours'",
    ),
    "a function in the RETURNING of an UPDATE or a DELETE, as it may not be immutable": (
        r"\b(?:UPDATE|DELETE)\b[^;]*\bRETURNING\b[^;)]*\w\(",
        "UPDATE conversations SET title = $1 WHERE id = $2 AND user_id = $3 RETURNING row_to_json(conversations)",
    ),
    "SKIP LOCKED among the rows of all users": (
        r"\bSELECT\b(?:(?!\bSELECT\b|\buser_id = ).)*\bSKIP LOCKED\b",
        "DELETE FROM idempotency_keys WHERE user_id = $1 AND key IN"
        " (SELECT key FROM idempotency_keys WHERE created_at < $2 LIMIT 10 FOR UPDATE SKIP LOCKED)",
    ),
    "an argument of the function that is not a bare parameter": (
        r"\bFROM\s+store_turn_\d+\((?!\$\d+(?:, \$\d+)*\))",
        "SELECT outcome FROM store_turn_1($1, $2, coalesce($3, 'Chat'), $4, $5, $6)",
    ),
}


@pytest.mark.parametrize(("pattern", "example"), REFUSED.values(), ids=REFUSED.keys())
def test_no_statement_has(pattern: str, example: str) -> None:
    found = [name for name, text in TEXTS.items() if re.search(pattern, text, re.DOTALL | re.IGNORECASE)]

    assert re.search(pattern, example, re.DOTALL | re.IGNORECASE)
    assert found == []


def test_the_statements_that_were_looked_at_are_there() -> None:
    assert "store_turn_1.sql" in FUNCTIONS
    assert {"ai_agent.services.turns.STORE_TURN", "ai_agent.services.conversations.READ"} <= STATEMENTS.keys()


def test_every_key_has_the_user() -> None:
    without = [
        (table.name, str(key.name))
        for table in SQLModel.metadata.tables.values()
        for key in [*table.constraints, *(index for index in table.indexes if index.unique)]
        if isinstance(key, ForeignKeyConstraint | PrimaryKeyConstraint | UniqueConstraint) or key in table.indexes
        if "user_id" not in columns_of(key)
    ]

    assert without == []


def columns_of(key: Any) -> list[str]:
    return [column.name for column in key.columns]
