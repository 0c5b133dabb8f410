"""Rows that a test stores itself, through the models that Alembic and the service's statements share."""

import json
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import asyncpg
from sqlalchemy import Column, DateTime, MetaData, Table, Text, cast, func, insert, inspect
from sqlmodel import SQLModel

from ai_agent.database.models import BetterAuth, UserSession
from ai_agent.database.statements import Statement


def user_session(user_id: str = "ada", token: str = "token") -> UserSession:
    """A session that lasts longer than the tests."""
    return UserSession(token=token, user_id=user_id, expires_at=datetime.now(UTC) + timedelta(days=1))


async def add(database: asyncpg.Connection, *rows: SQLModel) -> list[int]:
    """Store rows of one table, which all set the same fields, and return the ids of conversations or messages."""
    table, values = _table(rows[0]), [_values(row) for row in rows]
    assert all(of_row.keys() == values[0].keys() for of_row in values), "a row sets other fields than the first"
    ids = [column for column in table.columns if column.identity]
    statement = Statement(insert(table).values(values[0]).returning(*ids), tuple)
    arguments = [[of_row[name] for name in statement.parameters] for of_row in values]
    return [id_ for (id_,) in await database.fetchmany(statement.sql, arguments)]


async def seed(url: str, *seeds: str | SQLModel) -> None:
    """Run statements and store rows in a database, in this order."""
    database = await asyncpg.connect(url)
    try:
        for kind, group in groupby(seeds, type):
            alike: list[Any] = list(group)
            if kind is not str:
                await add(database, *alike)
                continue
            for statement in alike:
                await database.execute(statement)
    finally:
        await database.close()


def _table(row: SQLModel) -> Table:
    """The model's table. better-auth's has two more columns that must not be empty, and only better-auth uses them."""
    if not isinstance(row, UserSession):
        return SQLModel.metadata.tables[str(row.__tablename__)]
    table = BetterAuth.metadata.tables["user_sessions"].to_metadata(MetaData())
    table.append_column(Column("id", Text, default=cast(func.gen_random_uuid(), Text)))
    table.append_column(Column("updatedAt", DateTime(timezone=True), default=func.now()))
    return table


def _values(row: SQLModel) -> dict[str, Any]:
    """The fields that were set, by column."""
    fields = {attribute.key: attribute.columns[0].name for attribute in inspect(type(row)).column_attrs}
    values = {fields[name]: getattr(row, name) for name in row.model_fields_set}
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
