"""Replaces the characters that PostgreSQL or UTF-8 cannot hold: NUL, and half a surrogate pair."""

import re
from typing import Any

from ai_agent.database.models import UNSTORABLE

# It matches an escaped backslash, and the two escapes of one character, as a whole. The group is an unstorable escape.
_ESCAPE = re.compile(r"(?ai)\\(?:ud[89ab][\da-f]{2}\\ud[c-f][\da-f]{2}|(ud[89a-f][\da-f]{2}|u0000)|.)")


def clean[Json](value: Json) -> Json:
    """The value with U+FFFD for each character that PostgreSQL or UTF-8 cannot hold; texts may come in pieces."""
    cleaned: Any = value
    if isinstance(value, str):
        cleaned = UNSTORABLE.sub("\ufffd", value)
    elif isinstance(value, dict):
        cleaned = {clean(key): clean(field) for key, field in value.items()}
    elif isinstance(value, list):
        cleaned = [clean(element) for element in value]
    json: Json = cleaned
    return json


def clean_json(text: str) -> str:
    """The JSON text with U+FFFD for each unstorable character, whether it is written as itself or as an escape."""
    return _ESCAPE.sub(lambda escape: r"\ufffd" if escape[1] else escape[0], clean(text))
