"""Imports point one way: main, api, services, database; `config` and `errors` are leaves."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "src/ai_agent"

# These modules of the tests' support import the service.
INSIDE = {
    f"tests.support.{module}"
    for module in ("app", "middlemen", "pages", "partitions", "plans", "postgres", "rows", "standby")
}

# What the files of a folder, or one file, must not import.
FORBIDDEN = {
    "services": (PACKAGE / "services", {"fastapi", "starlette", "ai_agent.api", "ai_agent.main"}),
    "database": (PACKAGE / "database", {"fastapi", "starlette", "ai_agent.api", "ai_agent.main", "ai_agent.services"}),
    "api": (PACKAGE / "api", {"ai_agent.main"}),
    "the contract tests": (PROJECT / "tests/contract", {"ai_agent", *INSIDE}),
}

LEAVES = {"config.py": {"ai_agent.errors"}, "errors.py": set[str]()}


def imports(file: Path) -> Iterator[str]:
    """The full name of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {file}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(("folder", "forbidden"), FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_layer_imports_nothing_from_above_it(folder: Path, forbidden: set[str]) -> None:
    files = list(folder.rglob("*.py"))

    wrong = {(file.name, name) for file in files for name in imports(file) if within(name, forbidden)}

    assert files
    assert wrong == set()


@pytest.mark.parametrize(("file", "allowed"), LEAVES.items(), ids=LEAVES.keys())
def test_a_leaf_imports_no_more_of_ours_than_the_errors(file: str, allowed: set[str]) -> None:
    ours = {name for name in imports(PACKAGE / file) if within(name, {"ai_agent"})}

    assert all(within(name, allowed) for name in ours), ours
