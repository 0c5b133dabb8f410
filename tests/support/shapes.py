"""What the API shows, with ANY for what a test does not ask about: a new field is added here, and not in each test."""

from typing import Any
from unittest.mock import ANY


def a_conversation(**known: object) -> dict[str, Any]:
    """A conversation without its messages."""
    return {"id": ANY, "title": ANY, "created_at": ANY, "updated_at": ANY} | known
