from collections.abc import Callable

import asyncpg
import pytest
from pydantic import TypeAdapter

from ai_agent import logs

PRIVATE = "4111 1111"


def refuse_by_pydantic() -> None:
    TypeAdapter(int).validate_python(PRIVATE)


def refuse_by_driver() -> None:
    raise asyncpg.DataError(f"invalid input for query argument $1: {PRIVATE!r}")


def refuse_by_server() -> None:
    error = asyncpg.UniqueViolationError('duplicate key value violates unique constraint "pk_keys"')
    error.detail = f"Key (key)=({PRIVATE}) already exists."
    raise error


RAISERS = {
    "pydantic": (refuse_by_pydantic, "pydantic_core._pydantic_core.ValidationError"),
    "asyncpg": (refuse_by_driver, "asyncpg.exceptions.DataError"),
    "PostgreSQL": (
        refuse_by_server,
        'asyncpg.exceptions.UniqueViolationError: duplicate key value violates unique constraint "pk_keys"',
    ),
}


def describe(refuse: Callable[[], None], *, chained: bool) -> str:
    try:
        try:
            refuse()
        except Exception as error:
            raise LookupError(PRIVATE) from (error if chained else None)
    except LookupError as error:
        return logs.outline(error)
    raise AssertionError


@pytest.mark.parametrize(("refuse", "name"), RAISERS.values(), ids=RAISERS.keys())
def test_an_error_is_described_by_its_causes_but_without_the_values_they_quote(
    refuse: Callable[[], None], name: str
) -> None:
    description = describe(refuse, chained=True)

    causes = [line for line in description.splitlines() if not line.startswith(" ")]
    assert causes == [name, "which led to", "builtins.LookupError"]
    assert PRIVATE not in description


def test_a_cause_that_the_code_hides_stays_hidden() -> None:
    assert "which led to" not in describe(refuse_by_driver, chained=False)


def test_an_error_that_is_its_own_cause_is_described_once() -> None:
    error = LookupError(PRIVATE)
    with pytest.raises(LookupError):
        raise error from error

    description = logs.outline(error)

    assert [line for line in description.splitlines() if not line.startswith(" ")] == ["builtins.LookupError"]
