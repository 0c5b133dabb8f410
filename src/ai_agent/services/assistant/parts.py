"""What a run shows while it goes on: texts piece by piece, calls of tools, and their outputs."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from ai_agent.services.assistant.cleaning import clean
from ai_agent.services.assistant.mapping import Item, text_of


class TextStart(NamedTuple):
    number: int


class TextDelta(NamedTuple):
    number: int
    delta: str


class TextEnd(NamedTuple):
    number: int


class ToolCall(NamedTuple):
    call_id: str
    name: str
    input: Any


class ToolOutput(NamedTuple):
    call_id: str
    output: Any


type Part = TextStart | TextDelta | TextEnd | ToolCall | ToolOutput


class Transcript:
    """Shows a run, and keeps its texts. Each is shown once: piece by piece, or whole if the model does not stream."""

    def __init__(self, show: Callable[[Part], None]) -> None:
        self.texts: list[str] = []
        self._show = show
        self._is_open = False
        self._whole = 0

    def add(self, delta: str) -> None:
        if not delta:
            return
        if not self._is_open:
            self._is_open = True
            self.texts.append("")
            self._show(TextStart(len(self.texts)))
        self.texts[-1] += clean(delta)
        self._show(TextDelta(len(self.texts), clean(delta)))

    def end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._show(TextEnd(len(self.texts)))

    def add_item(self, item: Item) -> None:
        """Show an item that the run has made, except a message whose text has been shown piece by piece."""
        item = clean(item)
        kind, call_id = str(item.get("type")), item.get("call_id")
        if kind == "message" and (text := text_of(item.get("content"))):
            self._whole += 1
            if self._whole > len(self.texts):
                self.add(text)
            self.end()
        elif kind.endswith("_call") and isinstance(call_id, str):
            name = item.get("name")
            name = name if isinstance(name, str) else kind.removesuffix("_call")
            self._show(ToolCall(call_id, name, _input_of(item)))
        elif kind.endswith("_output") and isinstance(call_id, str):
            self._show(ToolOutput(call_id, item.get("output")))


def _input_of(call: Item) -> Any:
    """The arguments of a call, parsed; the model's own text if it is not JSON that a browser can parse."""
    arguments = call.get("arguments", call.get("input", call.get("action")))
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = clean(json.loads(arguments))
        json.dumps(parsed, allow_nan=False)
    except (ValueError, RecursionError):
        return arguments
    return parsed
