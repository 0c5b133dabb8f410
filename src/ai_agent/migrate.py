"""The console script `ai-agent-migrate`: `alembic upgrade head` with our migrations, in whatever folder it is run."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

SHIPPED = Path(__file__).parent / "migrations"
"""The wheel's migrations. A checkout does not have this folder, and runs those in `alembic/`."""


def upgrade() -> None:
    """Bring the database of DATABASE_URL to the newest migration; raises CommandError if that fails."""
    migrations = SHIPPED if SHIPPED.exists() else Path(__file__).parents[2] / "alembic"
    configuration = Config()
    configuration.set_main_option("script_location", str(migrations).replace("%", "%%"))
    command.upgrade(configuration, "head")


def main() -> None:
    try:
        upgrade()
    except CommandError as error:
        sys.exit(f"ai-agent-migrate: {error}")
