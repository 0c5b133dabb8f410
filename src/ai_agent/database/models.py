"""The tables: three of this service, and better-auth's sessions, which it only reads."""

import re
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

Role = Literal["user", "assistant", "tool"]

# What PostgreSQL's text and UTF-8 cannot hold: NUL, and half a surrogate pair.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")

SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Conversation(SQLModel, table=True):
    __tablename__ = "conversations"
    __table_args__ = (
        Index(None, "user_id", "updated_at", "id"),  # The list of conversations, read backwards.
        Index(None, "created_at"),  # An operator's deletion of old conversations.
    )

    id: int = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    title: str | None = Field(default=None, sa_column=Column(String(200)))
    created_at: datetime = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    updated_at: datetime = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )


class Message(SQLModel, table=True):
    """A message; the primary key is also the index by which a page of history is read backwards."""

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'assistant', 'tool')", name="role"),
        PrimaryKeyConstraint("conversation_id", "user_id", "created_at", "id"),
        ForeignKeyConstraint(
            ["conversation_id", "user_id"], ["conversations.id", "conversations.user_id"], ondelete="CASCADE"
        ),
    )

    id: int = Field(default=None, sa_column=Column(BigInteger, Identity()))
    conversation_id: int = Field(sa_column=Column(BigInteger))
    user_id: str = Field(sa_column=Column(Text))
    role: Role = Field(sa_column=Column(String(20), nullable=False))
    content: str = Field(sa_column=Column(Text, nullable=False))
    # SQLModel keeps the attribute name `metadata` for itself; the column and the JSON field are called that.
    details: dict[str, Any] | None = Field(default=None, sa_column=Column("metadata", JSONB(none_as_null=True)))
    created_at: datetime = Field(default=None, sa_column=Column(DateTime(timezone=True), server_default=func.now()))


class IdempotencyKey(SQLModel, table=True):
    """The key of a turn, which the client sent or the service made, and the first and last message of that turn.

    Both ids are NULL for the opening of a conversation, which stores no message. There is no foreign key, because a
    key outlives its conversation: a retry must not bring back what was deleted.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "user_id", "created_at"),)  # A user's expired keys, to be deleted.

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(String(255), primary_key=True))
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    conversation_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    first_message_id: int | None = Field(default=None, sa_column=Column(BigInteger))
    last_message_id: int | None = Field(default=None, sa_column=Column(BigInteger))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class BetterAuth(SQLModel, registry=registry()):
    """The base of better-auth's tables. They have metadata of their own, so Alembic never sees them."""


class UserSession(BetterAuth, table=True):
    """A user's signed-in session, read only; ids may be text, uuid or integer columns."""

    __tablename__ = "user_sessions"

    token: str = Field(sa_column=Column(Text, primary_key=True))
    user_id: str = Field(sa_column=Column("userId", Text))
    expires_at: datetime = Field(sa_column=Column("expiresAt", DateTime(timezone=True)))
