"""The version is the same wherever it is written."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

WRITTEN = {
    "CHANGELOG.md": r"^## ([0-9.]+)$",
    "Dockerfile": r'org.opencontainers.image.version="([^"]+)"',
    "specs/007-chat-persistence/contracts/openapi.json": r'^    "version": "([^"]+)"$',
}


@pytest.mark.parametrize(("file", "pattern"), WRITTEN.items(), ids=WRITTEN.keys())
def test_a_file_names_the_version_of_the_package(file: str, pattern: str) -> None:
    found = re.search(pattern, (PROJECT / file).read_text(), re.MULTILINE)

    assert found is not None
    assert found[1] == version("ai-agent")
