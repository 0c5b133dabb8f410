"""The commands of docs/operations.md that split the three tables by user, and rows to be split."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmodel import SQLModel

from ai_agent.database.models import Conversation, IdempotencyKey, Message
from tests.support.database import PROJECT
from tests.support.rows import user_session

_SECTION = (PROJECT / "docs/operations.md").read_text().partition("\n### Partitions on one primary\n")[2]

PARTITION, DROP_COPY = re.findall(r"```sql\n(.*?)```", _SECTION.partition("\n### ")[0], re.DOTALL)

TABLES = ("conversations", "messages", "idempotency_keys")

USERS = range(1, 21)


def rows_of_twenty_users() -> Iterator[SQLModel]:
    """6 conversations of 8 messages for each user, and a key for each conversation, many older than a day."""
    now = datetime.now(UTC)
    owners = {n: f"user-{1 + n % 20}" for n in range(1, 121)}
    yield from (user_session(f"user-{n}", f"token-{n}") for n in USERS)
    for n, user_id in owners.items():
        yield Conversation(user_id=user_id, title=f"Chat {n}", created_at=now, updated_at=now + timedelta(minutes=n))
    for id_, user_id in owners.items():
        place: dict[str, Any] = {"conversation_id": id_, "user_id": user_id, "role": "user", "created_at": now}
        yield from (Message(**place, content=f"message {n}", details={"n": 1}) for n in range(1, 9))
    for id_, user_id in owners.items():
        used_at = now - timedelta(hours=id_)
        yield IdempotencyKey(user_id=user_id, key=str(id_), fingerprint=b"", conversation_id=id_, created_at=used_at)
