"""The page for operators: its code blocks, which the tests run as a reader of the page would."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/operations.md"

ROLE = "chat_service"


def block(language: str, before: str) -> str:
    """The first code block of this language after the words `before`, which the page has once."""
    page = PAGE.read_text()
    assert page.count(before) == 1, before
    found = re.search(rf"(?s)```{language}\n(.*?)```", page[page.index(before) :])
    assert found, language
    return found[1]


def statements(before: str) -> list[str]:
    """The statements of the block, without their semicolons."""
    return [statement.strip() for statement in block("sql", before).split(";") if statement.strip()]
