"""Keyset cursors: where a page ended, as an opaque string that fits one list only.

A cursor holds the time and the id of the last row returned, so the row itself may be deleted meanwhile. Its digest
binds it to its list and its owner, and reveals damage. It needs no secret, because the queries check the owner.
"""

import base64
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ai_agent.errors import InvalidCursor

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAYOUT = struct.Struct(">qq8s")


class Position(NamedTuple):
    """The row after which a page goes on, in the descending order of both fields."""

    at: datetime
    id: int


START = Position(datetime.max.replace(tzinfo=UTC), 2**63 - 1)
FIRST_PAGE = "start"
"""The cursor of a request that has none; it cannot be one that `encode` makes."""


def encode(position: Position, *scope: object) -> str:
    """The cursor of a position in the list that `scope` names."""
    microseconds = (position.at - _EPOCH) // timedelta(microseconds=1)
    digest = _digest(microseconds, position.id, scope)
    return base64.urlsafe_b64encode(_LAYOUT.pack(microseconds, position.id, digest)).decode()


def decode(cursor: str, *scope: object) -> Position:
    """The position in the list that `scope` names, or the start; raises InvalidCursor for any other text."""
    if cursor == FIRST_PAGE:
        return START
    try:
        microseconds, row_id, _ = _LAYOUT.unpack(base64.b64decode(cursor, b"-_", validate=True))
        position = Position(_EPOCH + timedelta(microseconds=microseconds), row_id)
    except (ValueError, struct.error, OverflowError):
        raise InvalidCursor from None
    if cursor != encode(position, *scope):
        raise InvalidCursor
    return position


def _digest(microseconds: int, row_id: int, scope: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr((microseconds, row_id, *scope)).encode()).digest()[:8]
