"""What an agent's tools may know about the turn that they work for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TurnContext:
    """The context of a run: a tool takes it as `RunContextWrapper[TurnContext]`."""

    user_id: str
    conversation_id: int | None
    """None for the first message of a conversation, which begins when the turn is stored."""
    idempotency_key: str | None
    """The client's key, if it sent one. A retry after a failure has the same key, so a tool can do its work once."""
