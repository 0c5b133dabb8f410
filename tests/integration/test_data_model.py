"""The published data model and the schema that the migrations make are the same, line for line."""

import re

import asyncpg
import pytest

from tests.support.database import PROJECT

DOCUMENT = (PROJECT / "specs/007-chat-persistence/data-model.md").read_text()
TABLES = ("conversations", "messages", "idempotency_keys", "ai_agent_alembic_version")

# The second cell of a column's row, as the document writes it.
COLUMNS = """
    SELECT
        attname,
        replace(replace(format_type(atttypid, atttypmod), 'character varying', 'varchar'),
            'timestamp with time zone', 'timestamptz')
        || CASE attidentity WHEN 'd' THEN ' identity' ELSE '' END
        || CASE WHEN attnotnull THEN ', not null' ELSE '' END
    FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
CONSTRAINTS = """
    SELECT conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE conrelid = to_regclass($1) AND contype IN ('p', 'f', 'c')
"""
INDEXES = r"""
    SELECT regexp_replace(indexdef, '.* ON (\w+\.)?(\w+) USING btree (.*)', '\2 \3')
    FROM pg_indexes
    WHERE tablename = ANY($1)
"""
FUNCTIONS = """
    SELECT proname || '(' || pg_get_function_identity_arguments(oid) || ')'
    FROM pg_proc
    WHERE pronamespace = current_schema()::regnamespace
"""


def section(title: str) -> str:
    found = re.search(rf"(?ms)^## {title}$(.*?)(?=^## |\Z)", DOCUMENT)
    assert found, f"the document has no section {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head, and without the marks of code."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_has_the_documented_columns(table: str, database: asyncpg.Connection) -> None:
    documented = {name: kind for name, kind, _ in rows(section(table))}

    columns = {name: kind for name, kind in await database.fetch(COLUMNS, table)}  # noqa: C416  # Records, not pairs.

    assert documented == columns


def shorten(definition: str) -> str:
    """A key as the server writes it; a check as people write it, because servers differ."""
    if not definition.startswith("CHECK"):
        return definition
    columns, values = re.findall(r"\((\w+)\)::text", definition), re.findall(r"'\w+'", definition)
    return f"CHECK ({', '.join(columns)} IN ({', '.join(values)}))"


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_has_the_documented_keys_and_checks(table: str, database: asyncpg.Connection) -> None:
    documented = dict(re.findall(r"^- `(\w+)`: `(.*?)`", section(table), re.MULTILINE))

    constraints = {name: shorten(definition) for name, definition in await database.fetch(CONSTRAINTS, table)}

    assert documented == constraints


async def test_the_indexes_are_those_of_the_document(database: asyncpg.Connection) -> None:
    documented = sorted(index for index, _ in rows(section("Indexes, and the query that each one serves")))

    assert documented == sorted([row[0] for row in await database.fetch(INDEXES, list(TABLES))])


async def test_the_functions_are_those_of_the_document(database: asyncpg.Connection) -> None:
    documented = re.findall(r"^- `(\w+\(.*\))`", section("Functions"), re.MULTILINE)

    assert documented == [row[0] for row in await database.fetch(FUNCTIONS)]
