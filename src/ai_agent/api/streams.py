"""Streamed replies: the AI SDK's UI message stream, version 1, as server-sent events."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.types import Scope

from ai_agent.services.assistant.parts import Part, TextDelta, TextEnd, TextStart, ToolCall, ToolOutput
from ai_agent.services.chat import Reply

MEDIA_TYPE = "text/event-stream"
HEADERS = {
    "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
    "Cache-Control": "no-store, no-cache",
    "X-Accel-Buffering": "no",  # nginx would hold the parts back until they fill a buffer.
    "X-Vercel-AI-UI-Message-Stream": "v1",
}

# A client refuses a media type by giving it the quality 0.
_WANTED = re.compile(rb"text/event-stream(?![^,]*;\s*q=0(?:\.0*)?\s*(?:[;,]|$))", re.IGNORECASE)

START = {"type": "start"}
DONE = b"data: [DONE]\n\n"
SILENCE = b": the reply is being made\n\n"
"""A comment, which clients ignore; it keeps proxies from taking the connection for dead."""


def is_wanted(scope: Scope) -> bool:
    """Whether `Accept` names the stream's media type anywhere in its list, and does not refuse it."""
    return any(name == b"accept" and _WANTED.search(value) is not None for name, value in scope["headers"])


def encode(*parts: dict[str, Any]) -> bytes:
    """The parts as events; line breaks are escaped in JSON, so each is one line."""
    return b"".join(
        b"data: " + json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n" for part in parts
    )


def show(parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    """The parts of a run as the stream writes them."""
    for part in parts:
        match part:
            case TextStart(number):
                yield {"type": "text-start", "id": str(number)}
            case TextDelta(number, delta):
                yield {"type": "text-delta", "id": str(number), "delta": delta}
            case TextEnd(number):
                yield {"type": "text-end", "id": str(number)}
            case ToolCall(call_id, name, given):
                yield {
                    "type": "tool-input-available",
                    "toolCallId": call_id,
                    "toolName": name,
                    "input": given,
                    "dynamic": True,
                }
            case ToolOutput(call_id, output):
                yield {"type": "tool-output-available", "toolCallId": call_id, "output": output, "dynamic": True}


def encode_whole(reply: Reply) -> bytes:
    """The stream of a reply that is stored already, in one piece."""
    parts = show([TextStart(1), TextDelta(1, reply.text), TextEnd(1)])
    return encode(START, *parts) + finish(reply)


def finish(reply: Reply) -> bytes:
    """The end of a stream whose turn is stored."""
    metadata = {"conversation_id": reply.conversation_id, "replayed": reply.replayed}
    return encode({"type": "finish", "finishReason": "stop", "messageMetadata": metadata}) + DONE


def fail(detail: str) -> bytes:
    """The end of a stream if what it has shown is not stored, or may not be; `detail` is for a person to read."""
    return encode({"type": "error", "errorText": detail}) + DONE
