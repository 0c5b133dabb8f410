"""Rules that OpenAPI cannot express: valid cursors come from pages, keys are used once, and 1.0 is not an integer."""

from typing import Any
from uuid import uuid4

import schemathesis


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Change a request that only the document allows into one that the service accepts too."""
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    if case.query:
        case.query.pop("cursor", None)
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid4().hex
    if isinstance(case.body, dict) and isinstance(id_ := case.body.get("conversation_id"), float):
        case.body["conversation_id"] = int(id_)
