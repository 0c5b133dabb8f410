"""Put the user into every key, and let a function store turns.

Stop the service for this one, because the previous release does not store the user of a message.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STORE_TURN = (Path(__file__).parents[1] / "functions/store_turn_1.sql").read_text()

# Turns lock the tables one by one, in this order. Locking all three first keeps this from deadlocking with a turn.
LOCK = "LOCK TABLE conversations, messages, idempotency_keys IN ACCESS EXCLUSIVE MODE"

# Every role that may store messages may call the function, even where functions are not public by default.
GRANT_EXECUTE = """
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
            EXECUTE 'GRANT EXECUTE ON FUNCTION store_turn_1 TO ' || service;
        END LOOP;
    END
    $$
"""

# A turn's messages and its key have the same time. Where somebody has changed either, the turn's first message leads to
# the others. A key that finds no message is useless, and is deleted below.
FIND_MESSAGES = """
    UPDATE idempotency_keys
    SET first_message_id = turn.first_id, last_message_id = turn.last_id
    FROM (
        SELECT keys.user_id, keys.key, min(messages.id) AS first_id, max(messages.id) AS last_id
        FROM idempotency_keys AS keys
        JOIN messages
            ON messages.conversation_id = keys.conversation_id
            AND messages.created_at = coalesce(
                (
                    SELECT min(same.created_at)
                    FROM messages AS same
                    WHERE same.conversation_id = keys.conversation_id AND same.created_at = keys.created_at
                ),
                (
                    SELECT first.created_at
                    FROM messages AS first
                    WHERE first.conversation_id = keys.conversation_id AND first.id = keys.first_message_id
                )
            )
        GROUP BY keys.user_id, keys.key
    ) AS turn
    WHERE idempotency_keys.user_id = turn.user_id AND idempotency_keys.key = turn.key
"""


def upgrade() -> None:
    op.execute(LOCK)
    op.drop_constraint("fk_messages_conversation_id", "messages")
    op.drop_constraint("fk_idempotency_keys_conversation_id", "idempotency_keys")
    op.alter_column("idempotency_keys", "message_id", new_column_name="first_message_id")
    op.add_column("idempotency_keys", sa.Column("last_message_id", sa.BigInteger(), nullable=True))
    op.execute(FIND_MESSAGES)
    op.execute("DELETE FROM idempotency_keys WHERE last_message_id IS NULL")
    op.drop_index("ix_idempotency_keys_conversation_id", "idempotency_keys")
    op.drop_index("ix_idempotency_keys_created_at", "idempotency_keys")
    op.create_index("ix_idempotency_keys_user_id_created_at", "idempotency_keys", ["user_id", "created_at"])

    op.drop_constraint("pk_conversations", "conversations")
    op.create_primary_key("pk_conversations", "conversations", ["id", "user_id"])

    op.drop_constraint("pk_messages", "messages")
    op.drop_index("ix_messages_conversation_id_created_at_id", "messages")
    op.add_column("messages", sa.Column("user_id", sa.Text(), nullable=True))
    op.execute(
        "UPDATE messages SET user_id = owned.user_id FROM conversations AS owned WHERE owned.id = conversation_id"
    )
    op.alter_column("messages", "user_id", nullable=False)
    op.create_primary_key("pk_messages", "messages", ["conversation_id", "user_id", "created_at", "id"])
    op.create_foreign_key(
        "fk_messages_conversation_id",
        "messages",
        "conversations",
        ["conversation_id", "user_id"],
        ["id", "user_id"],
        ondelete="CASCADE",
    )

    op.execute(STORE_TURN)
    op.execute(GRANT_EXECUTE)


def downgrade() -> None:
    op.execute(LOCK)
    op.execute("DROP FUNCTION store_turn_1")

    op.drop_constraint("fk_messages_conversation_id", "messages")
    op.drop_constraint("pk_messages", "messages")
    op.drop_column("messages", "user_id")
    op.create_primary_key("pk_messages", "messages", ["id"])
    op.create_index("ix_messages_conversation_id_created_at_id", "messages", ["conversation_id", "created_at", "id"])

    op.drop_constraint("pk_conversations", "conversations")
    op.create_primary_key("pk_conversations", "conversations", ["id"])
    op.create_foreign_key(
        "fk_messages_conversation_id", "messages", "conversations", ["conversation_id"], ["id"], ondelete="CASCADE"
    )

    # Revision 0004 cannot hold keys of deleted conversations, or of turns without messages.
    op.execute("DELETE FROM idempotency_keys WHERE conversation_id NOT IN (SELECT id FROM conversations)")
    op.execute("DELETE FROM idempotency_keys WHERE first_message_id IS NULL")
    op.drop_index("ix_idempotency_keys_user_id_created_at", "idempotency_keys")
    op.drop_column("idempotency_keys", "last_message_id")
    op.alter_column("idempotency_keys", "first_message_id", new_column_name="message_id")
    op.create_foreign_key(
        "fk_idempotency_keys_conversation_id",
        "idempotency_keys",
        "conversations",
        ["conversation_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_index("ix_idempotency_keys_conversation_id", "idempotency_keys", ["conversation_id"])
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
