from datetime import UTC, datetime

import pytest

from ai_agent.errors import InvalidCursor
from ai_agent.services.cursors import FIRST_PAGE, START, Position, decode, encode

POSITION = Position(datetime(2026, 11, 22, 9, 30, 12, 345678, tzinfo=UTC), 42)
SCOPE = ("messages", "ada", 7)

BAD = {
    "empty": "",
    "garbage": "not a cursor",
    "not ASCII": "é" * 32,
    "too short": encode(POSITION, *SCOPE)[:-4],
    "too long": encode(POSITION, *SCOPE) + "AAAA",
    "one bit off": "B" + encode(POSITION, *SCOPE)[1:],
    "another conversation": encode(POSITION, "messages", "ada", 8),
    "another user": encode(POSITION, "messages", "bob", 7),
    "another list": encode(POSITION, "conversations", "ada"),
}


@pytest.mark.parametrize(
    "position",
    [POSITION, START, Position(datetime(1, 1, 1, tzinfo=UTC), -(2**63)), Position(datetime(1969, 1, 1, tzinfo=UTC), 0)],
    ids=["today", "the start", "the least", "before 1970"],
)
def test_a_cursor_gives_its_position_back(position: Position) -> None:
    assert decode(encode(position, *SCOPE), *SCOPE) == position


def test_no_cursor_is_the_start() -> None:
    assert decode(FIRST_PAGE, *SCOPE) == START


@pytest.mark.parametrize("cursor", BAD.values(), ids=BAD.keys())
def test_a_cursor_of_another_list_or_a_damaged_one_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        decode(cursor, *SCOPE)
