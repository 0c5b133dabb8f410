"""The commands of docs/operations.md that split the three tables by user, and rows to be split."""

import re

from tests.support.database import PROJECT

_SECTION = (PROJECT / "docs/operations.md").read_text().partition("\n### Partitions on one primary\n")[2]

PARTITION, DROP_COPY = re.findall(r"```sql\n(.*?)```", _SECTION.partition("\n### ")[0], re.DOTALL)

TABLES = ("conversations", "messages", "idempotency_keys")

# 20 users with 6 conversations of 8 messages each, and some of their keys, one of which is older than a day.
SEED = (
    """
    INSERT INTO user_sessions (id, token, "userId", "expiresAt", "updatedAt")
    SELECT n, 'token-' || n, 'user-' || n, now() + interval '1 day', now() FROM generate_series(1, 20) AS n
    """,
    """
    INSERT INTO conversations (user_id, title, created_at, updated_at)
    SELECT 'user-' || 1 + n % 20, 'Chat ' || n, now(), now() + n * interval '1 minute' FROM generate_series(1, 120) AS n
    """,
    """
    INSERT INTO messages (conversation_id, user_id, role, content, metadata)
    SELECT id, user_id, 'user', 'message ' || n, '{"n": 1}' FROM conversations CROSS JOIN generate_series(1, 8) AS n
    """,
    """
    INSERT INTO idempotency_keys (user_id, key, fingerprint, conversation_id, created_at)
    SELECT user_id, id, '', id, now() - interval '1 hour' * id FROM conversations
    """,
)
USERS = range(1, 21)
