"""Statements in the form that asyncpg runs: each is compiled once, when its module is imported."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import ClauseElement, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]


class Statement[Row]:
    """SQL with numbered parameters, their names in the order of the numbers, and what makes a row of its columns."""

    def __init__(self, clause: ClauseElement, row: Callable[..., Row]) -> None:
        compiled = clause.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        self.sql = str(compiled)
        self.parameters = tuple(compiled.positiontup or ())
        self.row = row


def load[Row](file: Path, row: Callable[..., Row]) -> Statement[Row]:
    """The statement in a file, with parameters written like psql's variables: `:user_id`."""
    return Statement(text(file.read_text()), row)
