"""Messages and the SDK's items, both ways: what a run made is what the next one is given, whatever else is stored."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_agent.services.assistant.cleaning import clean, clean_json
from ai_agent.services.assistant.mapping import Item, to_items, to_messages
from ai_agent.services.turns import Message

CALL = {"type": "function_call", "call_id": "call_1", "name": "clock", "arguments": '{"city": "Karachi"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "09:30"}


def said(text: str) -> Item:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def user(text: str = "Hello") -> Message:
    return Message("user", text, None)


def assistant(text: str, metadata: Any = None) -> Message:
    return Message("assistant", text, metadata)


def tool(text: str, metadata: Any = None) -> Message:
    return Message("tool", text, metadata)


def chat_call(call_id: Any, name: Any = "clock", arguments: Any = "{}") -> dict[str, Any]:
    return {"tool_calls": [{"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}]}


def call(call_id: str, name: str = "clock", arguments: str = "{}") -> Item:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, text: Any = "09:30") -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


PICTURE = "data:image/png;base64,iVBORw0KGgo="
IMAGE = [{"type": "input_text", "text": "A cat"}, {"type": "input_image", "image_url": PICTURE, "detail": "auto"}]

MADE: dict[str, tuple[Item, list[Message]]] = {
    "a text": (said("Half past nine."), [assistant("Half past nine.")]),
    "a text in parts": (
        {"role": "assistant", "content": [*said("Half ")["content"], *said("past nine.")["content"]]},
        [assistant("Half past nine.")],
    ),
    "a refusal": (
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        [assistant("No.")],
    ),
    "an empty text": (said(""), []),
    "a call": ({**CALL, "id": "fc_1", "status": "completed"}, [assistant("", CALL)]),
    "an output": ({**OUTPUT, "id": "fco_1", "status": "completed"}, [tool("09:30", OUTPUT)]),
    "an output in parts": ({**OUTPUT, "output": IMAGE}, [tool("A cat", {**OUTPUT, "output": IMAGE})]),
    "reasoning": ({"type": "reasoning", "id": "rs_1", "summary": []}, []),
    "a hosted tool's trace": ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, []),
    "what PostgreSQL cannot hold": (
        {**OUTPUT, "output": "a\0b\ud800", "\0": ["\udfff"]},
        [tool("a\ufffdb\ufffd", {**OUTPUT, "output": "a\ufffdb\ufffd", "\ufffd": ["\ufffd"]})],
    ),
}

GIVEN: dict[str, tuple[list[Message], list[Item]]] = {
    "texts": (
        [user("Hello"), assistant("Echo: Hello")],
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Echo: Hello"}],
    ),
    "a call with its output, under an id of ours": (
        [user(), assistant("", CALL), tool("09:30", OUTPUT), assistant("Half past nine.")],
        [
            {"role": "user", "content": "Hello"},
            {**CALL, "call_id": "past00001"},
            {**OUTPUT, "call_id": "past00001"},
            {"role": "assistant", "content": "Half past nine."},
        ],
    ),
    "the same id in two turns": (
        [user(), assistant("", CALL), tool("09:30", OUTPUT), user("Later"), assistant("", CALL), tool("09:30", OUTPUT)],
        [
            {"role": "user", "content": "Hello"},
            {**CALL, "call_id": "past00001"},
            {**OUTPUT, "call_id": "past00001"},
            {"role": "user", "content": "Later"},
            {**CALL, "call_id": "past00002"},
            {**OUTPUT, "call_id": "past00002"},
        ],
    ),
    "two calls at once": (
        [user(), *to_messages([call("a"), call("b"), output("b", "2"), output("a", "1")])],
        [
            {"role": "user", "content": "Hello"},
            *(call("past00001"), call("past00002"), output("past00002", "2"), output("past00001", "1")),
        ],
    ),
    "an output that comes after the next call": (
        [user(), *to_messages([call("a"), call("b"), output("a"), call("c"), output("b"), output("c")])],
        [
            {"role": "user", "content": "Hello"},
            *(call("past00001"), call("past00002"), output("past00001"), output("past00002")),
            *(call("past00003"), output("past00003")),
        ],
    ),
    "Chat Completions' metadata": (
        [user(), assistant("Let me look.", chat_call("call_1")), tool("09:30", {"tool_call_id": "call_1"})],
        [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Let me look."},
            *(call("past00001"), output("past00001")),
        ],
    ),
    "the quickstart's metadata": (
        [user(), assistant("", {"tool_calls": [{"id": "call_1"}]}), tool("09:30", {"tool_call_id": "call_1"})],
        [{"role": "user", "content": "Hello"}],
    ),
    "what the agent's session stored": (
        [user(), assistant("Hi", said("Hi")), assistant("", {"type": "reasoning", "id": "rs_1"}), user("Bye")],
        [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "Bye"},
        ],
    ),
    "an output of texts and images": (
        [user(), assistant("", CALL), tool("A cat", {**OUTPUT, "output": IMAGE})],
        [
            {"role": "user", "content": "Hello"},
            {**CALL, "call_id": "past00001"},
            output("past00001", [IMAGE[0], {"type": "input_image", "image_url": PICTURE}]),
        ],
    ),
    "an output that no other model can read": (
        [user(), assistant("", CALL), tool("", {**OUTPUT, "output": [{"type": "input_file", "file_id": "file_1"}]})],
        [{"role": "user", "content": "Hello"}, {**CALL, "call_id": "past00001"}, output("past00001", "")],
    ),
    "a call without arguments": (
        [user(), assistant("", {**CALL, "arguments": ""}), tool("09:30", OUTPUT)],
        [{"role": "user", "content": "Hello"}, call("past00001"), output("past00001")],
    ),
    "an output with a part that is empty": (
        [user(), assistant("", CALL), tool("A cat", {**OUTPUT, "output": [IMAGE[0], {**IMAGE[1], "image_url": ""}]})],
        [{"role": "user", "content": "Hello"}, {**CALL, "call_id": "past00001"}, output("past00001", "A cat")],
    ),
    "an output with an empty text beside an image": (
        [user(), assistant("", CALL), tool("A cat", {**OUTPUT, "output": [{**IMAGE[0], "text": ""}, IMAGE[1]]})],
        [{"role": "user", "content": "Hello"}, {**CALL, "call_id": "past00001"}, output("past00001", "A cat")],
    ),
    "an output with an image that is none": (
        [user(), assistant("", CALL), tool("A cat", {**OUTPUT, "output": [{**IMAGE[1], "image_url": "data:,"}]})],
        [{"role": "user", "content": "Hello"}, {**CALL, "call_id": "past00001"}, output("past00001", "A cat")],
    ),
    "an output that is not in the metadata": (
        [user(), assistant("", CALL), tool("09:30", {"type": "function_call_output", "call_id": "call_1"})],
        [{"role": "user", "content": "Hello"}, {**CALL, "call_id": "past00001"}, output("past00001")],
    ),
    "a call without an output": ([user(), assistant("", CALL)], [{"role": "user", "content": "Hello"}]),
    "an output without a call": ([user(), tool("09:30", OUTPUT)], [{"role": "user", "content": "Hello"}]),
    "an output before its call": (
        [user(), tool("09:30", OUTPUT), assistant("", CALL)],
        [{"role": "user", "content": "Hello"}],
    ),
    "a message between a call and its output": (
        [user(), assistant("", CALL), assistant("Hm."), tool("09:30", OUTPUT)],
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hm."}],
    ),
    "nothing before the user's first message": (
        [assistant("", CALL), tool("09:30", OUTPUT), assistant("Hi"), user(), assistant("Hey")],
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hey"}],
    ),
    "no message of the user": ([assistant("Hi")], []),
    "a call of the user": ([user("Hello")._replace(metadata=CALL)], [{"role": "user", "content": "Hello"}]),
}


REFUSED = {
    "no name": call("call_1", ""),
    "a name with a space": call("call_1", "the clock"),
    "a name with a line break": call("call_1", "clock\n"),
    "a name that is too long": call("call_1", "c" * 65),
    "arguments that are cut off": call("call_1", arguments='{"city": '),
    "arguments that are no object": call("call_1", arguments="[]"),
    "arguments that are not JSON's": call("call_1", arguments='{"city": NaN}'),
    "arguments that are too deep": call("call_1", arguments='{"city":' * 100_000),
}


@pytest.mark.parametrize("metadata", REFUSED.values(), ids=REFUSED.keys())
def test_a_call_that_a_provider_refuses_is_left_out_with_its_output(metadata: Item) -> None:
    as_chat = chat_call("call_1", metadata["name"], metadata["arguments"])

    for stored in (metadata, as_chat):
        items = to_items([user(), assistant("", stored), tool("09:30", OUTPUT), user("Later")])

        assert items == [{"role": "user", "content": "Hello"}, {"role": "user", "content": "Later"}]


@pytest.mark.parametrize(("item", "messages"), MADE.values(), ids=MADE.keys())
def test_an_item_of_a_run_is_stored_as(item: Item, messages: list[Message]) -> None:
    assert to_messages([item]) == messages


def test_a_text_between_a_call_and_its_output_does_not_hide_the_pair_from_the_next_turn() -> None:
    made = [call("a"), said("Let me"), call("b"), said("look."), output("a"), output("b"), said("It is 09:30.")]

    messages = to_messages(made)

    assert [message.content for message in messages] == ["Let me", "look.", "", "", "09:30", "09:30", "It is 09:30."]
    assert [item.get("type") for item in to_items([user(), *messages])[3:7]] == [
        *["function_call"] * 2,
        *["function_call_output"] * 2,
    ]


def test_a_call_without_an_output_stays_before_the_reply() -> None:
    assert [message.content for message in to_messages([call("a"), said("It is 09:30.")])] == ["", "It is 09:30."]


@pytest.mark.parametrize(("messages", "items"), GIVEN.values(), ids=GIVEN.keys())
def test_a_model_is_given(messages: list[Message], items: list[Item]) -> None:
    assert to_items(messages) == items


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
IDS = st.sampled_from(["a", "b", "c"])
# Shapes that nearly are calls and outputs: any field may be missing, or hold anything.
FIELDS = {
    "type": st.sampled_from(["function_call", "function_call_output", "reasoning", "message"]) | JSON,
    "call_id": IDS | JSON,
    "name": st.just("clock") | JSON,
    "arguments": st.just("{}") | JSON,
    "output": st.text(max_size=3) | JSON | st.lists(st.fixed_dictionaries({"type": st.just("input_text") | JSON})),
    "tool_call_id": IDS | JSON,
    "tool_calls": st.lists(st.builds(lambda *said: chat_call(*said)["tool_calls"][0], IDS | JSON, JSON, JSON) | JSON)
    | JSON,
}
METADATA = (
    st.none()
    | IDS.map(call)
    | IDS.map(output)
    | IDS.map(chat_call)
    | IDS.map(lambda call_id: {"tool_call_id": call_id})
    | st.fixed_dictionaries({}, optional=FIELDS)
    | JSON
)
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["user", "assistant", "tool"]), st.sampled_from(["", "Hello"]), METADATA)
)


@given(MESSAGES)
def test_whatever_is_stored_a_model_is_given_texts_and_whole_pairs_only(messages: list[Message]) -> None:
    items = to_items(messages)

    waiting: set[str] = set()
    known: set[str] = set()
    assert items[:1] in ([], [{"role": "user", "content": "Hello"}])
    for item in items:
        if item.get("type") == "function_call":
            assert item["call_id"] not in known, "two calls with one id"
            assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", item["name"])
            assert isinstance(json.loads(item["arguments"]), dict)
            known.add(item["call_id"])
            waiting.add(item["call_id"])
        elif item.get("type") == "function_call_output":
            waiting.remove(item["call_id"])  # A KeyError for one without a call, or a second one.
        else:
            assert not waiting, "a call without an output"
            assert item.keys() == {"role", "content"}
    assert not waiting


@given(MESSAGES)
def test_no_text_is_lost_after_the_first_one_of_the_user(messages: list[Message]) -> None:
    spoken = [(message.role, message.content) for message in messages if message.role != "tool" and message.content]
    first = next((n for n, (role, _) in enumerate(spoken) if role == "user"), len(spoken))

    given = [(item["role"], item["content"]) for item in to_items(messages) if "role" in item]

    assert given == spoken[first:]


NAMES = st.from_regex("[a-zA-Z0-9_-]{1,64}", fullmatch=True)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON).map(json.dumps)
TURNS = st.lists(
    st.one_of(
        st.text(min_size=1).map(lambda text: [said(text)]),
        st.builds(lambda name, given, text: [call("c", name, given), output("c", text)], NAMES, OBJECTS, st.text()),
        st.just([{"type": "reasoning", "id": "rs_1", "summary": []}]),
    )
)


@given(TURNS)
def test_what_a_run_made_is_what_the_next_one_is_given(steps: list[list[Item]]) -> None:
    made = [item for step in steps for item in step]

    given = to_items([user(), *to_messages(made)])[1:]

    expected = [
        {"role": "assistant", "content": item["content"][0]["text"]} if item["type"] == "message" else item
        for item in clean(made)
        if item["type"] != "reasoning"
    ]
    assert [{**item, "call_id": "c"} if "call_id" in item else item for item in given] == expected


@given(st.text(st.characters() | st.sampled_from(["\0", "\ud83d", "\ude00"])))
def test_a_clean_text_can_be_stored_and_is_as_long(text: str) -> None:
    cleaned = clean(text)

    cleaned.encode()
    assert "\0" not in cleaned
    assert len(cleaned) == len(text)


PIECES = st.sampled_from(["a", "\\", '"', "u0000", "\0", "\ud83d", "\ude00", "\U0001f559"])
HALVES = st.lists(PIECES, max_size=6).map("".join)


@given(st.dictionaries(HALVES, HALVES), st.booleans())
def test_a_clean_json_text_is_read_as_what_can_be_stored(value: dict[str, str], escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped)

    cleaned = clean_json(text)

    cleaned.encode()
    assert json.loads(cleaned) == clean(json.loads(text))
