"""Let each idempotency key name the first message of its turn.

Without a foreign key, which would look for keys at each message that is deleted. NULL where the release before writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The id of a message that a key names is drawn before the message is stored, which its default needs no privilege for.
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
