"""Turns messages into the OpenAI Agents SDK's items, and items into messages; it accepts whatever is stored.

An item is kept in a message's metadata only where a model needs it again: a tool's call, and its output. What people
read is the content. Anything else in the metadata, whoever stored it, is ignored.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import count, dropwhile
from typing import Any, NamedTuple, TypeGuard

from pydantic_core import from_json

from ai_agent.services.assistant.cleaning import clean
from ai_agent.services.turns import Message

type Item = dict[str, Any]

TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")
_PARTS = {
    "input_text": ("text", re.compile(".+", re.DOTALL)),
    "input_image": ("image_url", re.compile(r"https?://\S+|data:image/\w+;base64,[A-Za-z0-9+/]+={0,2}")),
}


def to_messages(items: Iterable[Item]) -> list[Message]:
    """The items of a run as messages, without reasoning and hosted tools' traces, which no other model accepts."""
    return [message for item in _put_texts_first(list(items)) if (message := to_message(clean(item)))]


def _put_texts_first(items: list[Item]) -> Iterator[Item]:
    """The items, with each text between a call and its output moved before the call, where the stream shows it.

    Otherwise the next turn would be given neither the call nor the output, because a message stands between them.
    """
    calls: list[Item] = []
    for index, item in enumerate(items):
        kind, call_id = str(item.get("type")), item.get("call_id")
        outputs = (later for later in items[index + 1 :] if str(later.get("type")).endswith("_output"))
        if kind.endswith("_call") and any(output.get("call_id") == call_id for output in outputs):
            calls.append(item)
            continue
        if kind.endswith("_output"):
            yield from calls
            calls = []
        yield item


def to_message(item: Item) -> Message | None:
    """The message for an item: a reply, a call or an output; None for any other item."""
    kind = str(item.get("type", "message"))
    if kind == "message" and item.get("role") == "assistant":
        text = text_of(item.get("content"))
        return Message("assistant", text, None) if text else None
    if not isinstance(item.get("call_id"), str):
        return None
    metadata = {name: value for name, value in item.items() if name not in {"id", "status"}}
    if kind.endswith("_call"):
        return Message("assistant", "", metadata)
    return Message("tool", text_of(item.get("output")), metadata) if kind.endswith("_output") else None


def text_of(said: object) -> str:
    """The joined texts of a message or an output; a refusal is a text too."""
    if not isinstance(said, list):
        return said if isinstance(said, str) else ""
    parts = [part for part in said if isinstance(part, dict)]
    texts = (part.get(TEXTS.get(str(part.get("type")), "")) for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


class _Call(NamedTuple):
    call_id: str
    name: str
    arguments: str


class _Output(NamedTuple):
    call_id: str
    output: str | list[Item]


class _Step(NamedTuple):
    """Calls that were made together, and the outputs that came for them, each with the index of its call."""

    calls: list[_Call]
    pairs: list[tuple[int, _Output]]


def to_items(messages: Iterable[Message]) -> list[Item]:
    """The messages as the input of a run, from the user's first one on.

    A call and its output are given as a pair, if no message stands between them. Neither is given alone, because
    providers refuse that.
    """
    items: list[Item] = []
    between: list[_Call | _Output] = []
    numbers = count(1)
    for message in dropwhile(lambda message: message.role != "user" or not message.content, messages):
        if message.role != "tool" and message.content:
            items += _pair(between, numbers)
            items.append({"role": message.role, "content": message.content})
            between = []
        between += _read_metadata(message)
    return items + _pair(between, numbers)


def _read_metadata(message: Message) -> Iterator[_Call | _Output]:
    """The calls or the output in a message's metadata, as the SDK or as Chat Completions writes them."""
    fields = message.metadata if isinstance(message.metadata, dict) else {}
    if message.role == "assistant":
        if fields.get("type") == "function_call":
            yield from _call(fields.get("call_id"), fields)
        listed = fields.get("tool_calls")
        for call in listed if isinstance(listed, list) else []:
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                yield from _call(call.get("id"), call["function"])
    elif message.role == "tool":
        is_item = fields.get("type") == "function_call_output"
        call_id = fields.get("call_id") if is_item else fields.get("tool_call_id")
        if isinstance(call_id, str):
            yield _Output(call_id, _read_output(fields.get("output"), message.content))


def _call(call_id: object, fields: Item) -> Iterator[_Call]:
    """The call, if every provider accepts it, because one that is refused would be refused in every later turn."""
    name, arguments = fields.get("name"), fields.get("arguments")
    arguments = "{}" if arguments == "" else arguments  # Some models write nothing for a tool without parameters.
    if isinstance(call_id, str) and isinstance(name, str) and _NAME.fullmatch(name) and _is_object(arguments):
        yield _Call(call_id, name, arguments)


def _is_object(arguments: object) -> TypeGuard[str]:
    try:
        return isinstance(arguments, str) and isinstance(from_json(arguments, allow_inf_nan=False), dict)
    except ValueError:
        return False


def _read_output(output: object, content: str) -> str | list[Item]:
    """The tool's output if other models accept all of it, texts and images by URL; else the message's text."""
    if not isinstance(output, list):
        return output if isinstance(output, str) else content
    parts = [
        {"type": kind, field: part[field]}
        for part in output
        if isinstance(part, dict)
        for kind, (field, form) in _PARTS.items()
        if part.get("type") == kind and isinstance(part.get(field), str) and form.fullmatch(part[field])
    ]
    return parts if parts and len(parts) == len(output) else content


def _pair(between: list[_Call | _Output], numbers: Iterator[int]) -> list[Item]:
    """The calls that have an output. The calls of a step precede its outputs, because Chat Completions demands it."""
    steps: list[_Step] = []
    waiting: defaultdict[str, deque[tuple[_Step, int]]] = defaultdict(deque)
    for entry in between:
        if isinstance(entry, _Call):
            if not steps or steps[-1].pairs:
                steps.append(_Step([], []))
            waiting[entry.call_id].append((steps[-1], len(steps[-1].calls)))
            steps[-1].calls.append(entry)
        elif waiting[entry.call_id]:
            step, index = waiting[entry.call_id].popleft()
            step.pairs.append((index, entry))
    return [item for step in steps for item in _step_items(step, numbers)]


def _step_items(step: _Step, numbers: Iterator[int]) -> Iterator[Item]:
    # The ids are made anew, because two turns may have used the same one and the SDK would merge their items. Every
    # provider accepts nine letters and digits.
    ids = {index: f"past{next(numbers):05}" for index in sorted(index for index, _ in step.pairs)}
    for index, call_id in ids.items():
        call = step.calls[index]
        yield {"type": "function_call", "call_id": call_id, "name": call.name, "arguments": call.arguments}
    for index, output in step.pairs:
        yield {"type": "function_call_output", "call_id": ids[index], "output": output.output}
