"""What the API shows, with ANY for what a test does not ask about; the fields are those of the published contract."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import ANY

CONTRACT = Path(__file__).parents[2] / "specs/007-chat-persistence/contracts/openapi.json"
SCHEMAS = json.loads(CONTRACT.read_text())["components"]["schemas"]


def a_conversation(**known: object) -> dict[str, Any]:
    """A conversation without its messages."""
    return dict.fromkeys(SCHEMAS["ConversationListResponse"]["properties"], ANY) | known
