"""Let each idempotency key name the first message of its turn.

There is no foreign key, because it would search the keys for each message that is deleted. The previous release leaves
the column NULL.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The id that a key names is drawn before its message is stored. That takes USAGE, which the column's default does not.
GRANT_SEQUENCE = """
    DO $$
    DECLARE
        service text;
    BEGIN
        FOR service IN
            SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
            FROM pg_class
            CROSS JOIN LATERAL aclexplode(relacl)
            WHERE pg_class.oid = 'messages'::regclass AND privilege_type = 'INSERT'
        LOOP
            EXECUTE 'GRANT USAGE ON SEQUENCE messages_id_seq TO ' || service;
        END LOOP;
    END
    $$
"""


def upgrade() -> None:
    op.add_column("idempotency_keys", sa.Column("message_id", sa.BigInteger(), nullable=True))
    op.execute(GRANT_SEQUENCE)


def downgrade() -> None:
    op.drop_column("idempotency_keys", "message_id")
