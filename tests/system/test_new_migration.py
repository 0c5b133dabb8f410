"""`alembic revision` writes the next migration, numbered and ready for the formatter, without a database."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.database import PROJECT

NEWEST = max(file.name.partition("_")[0] for file in (PROJECT / "alembic/versions").glob("*.py"))

NEXT = f'''\
"""Archive conversations."""

revision = "{int(NEWEST) + 1:04}"
down_revision = "{NEWEST}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that Alembic and ruff read, where a new one does no harm."""
    shutil.copytree(PROJECT / "alembic", tmp_path / "alembic")
    for name in ("alembic.ini", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_new_migration_gets_the_next_number_and_passes_the_linter_and_the_formatter(copy: Path) -> None:
    written = run(copy, "alembic", "revision", "-m", "Archive conversations")

    assert written.returncode == 0, written.stderr
    file = copy / f"alembic/versions/{int(NEWEST) + 1:04}_archive_conversations.py"
    assert file.read_text() == NEXT
    for arguments in (["check"], ["format", "--check"]):
        checked = run(copy, "ruff", *arguments, str(file))
        assert checked.returncode == 0, checked.stdout


def test_a_number_that_is_asked_for_is_kept(copy: Path) -> None:
    written = run(copy, "alembic", "revision", "--rev-id", "0042", "-m", "Archive conversations")

    assert written.returncode == 0, written.stderr
    assert (copy / "alembic/versions/0042_archive_conversations.py").is_file()
