import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_agent.api import streams
from ai_agent.services.assistant.parts import Part, TextDelta, TextEnd, TextStart, ToolCall, ToolOutput
from ai_agent.services.chat import Reply

ACCEPTED = {
    "text/event-stream": True,
    "application/json, TEXT/Event-Stream;q=0.5": True,
    "application/json": False,
    "*/*": False,
    "text/event-stream;q=0, application/json": False,
    "text/event-stream; charset=utf-8; Q=0.000": False,
    "text/event-stream;q=0.001": True,
    "text/event-stream, application/json;q=0": True,
}


@pytest.mark.parametrize(("accept", "wanted"), ACCEPTED.items())
def test_a_stream_is_sent_to_those_that_name_it(accept: str, wanted: bool) -> None:
    assert streams.is_wanted({"headers": [(b"host", b"service.test"), (b"accept", accept.encode())]}) is wanted


def test_each_part_is_an_event_of_the_protocol() -> None:
    parts: list[Part] = [
        TextStart(1),
        TextDelta(1, "Half\npast nïne 🕤"),
        TextEnd(1),
        ToolCall("call_1", "clock", {"city": "Karachi"}),
        ToolOutput("call_1", "09:30"),
    ]

    assert streams.encode(streams.START, *streams.show(parts)).decode() == (
        'data: {"type":"start"}\n\n'
        'data: {"type":"text-start","id":"1"}\n\n'
        'data: {"type":"text-delta","id":"1","delta":"Half\\npast nïne 🕤"}\n\n'
        'data: {"type":"text-end","id":"1"}\n\n'
        'data: {"type":"tool-input-available","toolCallId":"call_1","toolName":"clock","input":{"city":"Karachi"},'
        '"dynamic":true}\n\n'
        'data: {"type":"tool-output-available","toolCallId":"call_1","output":"09:30","dynamic":true}\n\n'
    )


def test_a_stream_ends_with_the_conversation_or_with_why_there_is_none() -> None:
    assert streams.finish(Reply(42, "Hello", replayed=False)) == (
        b'data: {"type":"finish","finishReason":"stop","messageMetadata":{"conversation_id":42,"replayed":false}}\n\n'
        b"data: [DONE]\n\n"
    )
    assert streams.fail("Too slow.") == b'data: {"type":"error","errorText":"Too slow."}\n\ndata: [DONE]\n\n'


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_whatever_is_said_an_event_is_one_line_and_comes_back_as_it_was(deltas: list[str]) -> None:
    sent = streams.encode(*streams.show(TextDelta(1, delta) for delta in deltas)).decode()

    events = sent.split("\n\n")[:-1]
    assert [json.loads(event.removeprefix("data: "))["delta"] for event in events] == deltas
    assert not any("\n" in event or "\r" in event for event in events)
