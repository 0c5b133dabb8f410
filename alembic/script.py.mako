<%!
def without_notes(code):
    """What Alembic wrote, without the comments before and after it."""
    return "\n".join(line for line in (code or "").splitlines() if "# ###" not in line).strip() or "pass"
%>"""${message}."""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${without_notes(upgrades)}


def downgrade() -> None:
    ${without_notes(downgrades)}
