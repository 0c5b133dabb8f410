"""An agent that is asked, with a scripted model behind HTTP: what it shows, what it makes, and how it fails."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunContextWrapper,
    Span,
    Tool,
    Trace,
    TracingProcessor,
    add_trace_processor,
    custom_span,
    function_tool,
    handoff,
    input_guardrail,
    output_guardrail,
    trace,
)
from agents.extensions.handoff_filters import remove_all_tools
from openai import AsyncOpenAI

from ai_agent.errors import ApiError, AssistantFailed, AssistantRefused, AssistantUnavailable
from ai_agent.services.assistant.agent import Assistant
from ai_agent.services.assistant.context import TurnContext
from ai_agent.services.assistant.mapping import to_items
from ai_agent.services.assistant.parts import Part, TextDelta, TextEnd, TextStart, ToolCall, ToolOutput
from ai_agent.services.turns import Message
from tests.support.assistant import with_agent
from tests.support.model_server import Call, ModelServer, Reply, run_model_server, says

type AgentOf = Callable[..., Assistant]

CONTEXT = TurnContext("ada", 42, "key-1")
HELLO = [{"role": "user", "content": "Hello"}]
APIS: Any = {"chat completions": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}


@function_tool
async def clock(context: RunContextWrapper[TurnContext], city: str) -> str:
    """Tell the time."""
    return f"09:30 in {city} for {context.context.user_id}"


@function_tool(failure_error_function=None)
async def breaks() -> str:
    """Fail."""
    raise ConnectionError("SECRET of the tool")


@function_tool
async def traces() -> str:
    """Trace what it does."""
    with trace("SECRET of the tool"), custom_span("SECRET of the tool"):
        return "traced"


@function_tool
async def forgives() -> str:
    """Fail, and let the model know."""
    raise ConnectionError("a reason")


TOOLS: list[Tool] = [clock, breaks, forgives, traces]


@input_guardrail
async def refuse(_: Any, __: Any, ___: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput("SECRET of the guardrail", tripwire_triggered=True)


@output_guardrail
async def withhold(_: Any, __: Any, ___: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput("SECRET of the guardrail", tripwire_triggered=True)


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with run_model_server() as server:
        yield server


@pytest.fixture(params=APIS.values(), ids=APIS.keys())
def api(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def agent_of(model: ModelServer) -> AsyncIterator[AgentOf]:
    """An agent whose model has the script, over one of the APIs."""
    clients: list[AsyncOpenAI] = []

    def agent_of(api: Any = OpenAIChatCompletionsModel, **options: Any) -> Assistant:
        clients.append(AsyncOpenAI(base_url=model.url, api_key="none", max_retries=0))
        agent = Agent(name="Assistant", model=api("scripted", clients[-1]), tools=TOOLS, **options)
        return Assistant(agent)

    yield agent_of
    for client in clients:
        await client.close()


async def ask(assistant: Assistant) -> tuple[list[Message], list[Part]]:
    shown: list[Part] = []
    messages = await assistant.ask(HELLO, CONTEXT, shown.append)
    return messages, shown


async def test_a_reply_is_shown_as_it_comes_and_made_as_it_was_shown(
    model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.script = [says("Half ", "past\0", " nine.\ud83d")]

    messages, shown = await ask(agent_of(api, instructions="Be brief."))

    assert messages == [Message("assistant", "Half past\ufffd nine.\ufffd", None)]
    assert shown == [
        TextStart(1),
        *(TextDelta(1, "Half "), TextDelta(1, "past\ufffd"), TextDelta(1, " nine.\ufffd")),
        TextEnd(1),
    ]
    assert model.messages() == HELLO


async def test_a_call_is_shown_with_its_output_and_both_are_made_between_the_texts(
    model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.script = [says("Let me look.", calls=(Call("clock", '{"city": "Karachi"}'),)), says("It is 09:30.")]

    messages, shown = await ask(agent_of(api))

    assert [(message.role, message.content) for message in messages] == [
        ("assistant", "Let me look."),
        ("assistant", ""),
        ("tool", "09:30 in Karachi for ada"),
        ("assistant", "It is 09:30."),
    ]
    assert {"type": "function_call", "call_id": "call_1", "name": "clock"}.items() <= messages[1].metadata.items()  # type: ignore[union-attr]
    assert shown == [
        *(TextStart(1), TextDelta(1, "Let me look."), TextEnd(1)),
        ToolCall("call_1", "clock", {"city": "Karachi"}),
        ToolOutput("call_1", "09:30 in Karachi for ada"),
        *(TextStart(2), TextDelta(2, "It is 09:30."), TextEnd(2)),
    ]


@pytest.mark.parametrize(
    "input_filter", [remove_all_tools, lambda data: data.clone(new_items=())], ids=["the SDK's", "one that leaves none"]
)
async def test_what_a_handoffs_filter_hides_from_the_next_agent_stays_in_the_turn(
    input_filter: Any, model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    calls = (Call("clock", '{"city": "Karachi"}', "call_1"), Call("transfer_to_other", "{}", "call_2"))
    model.script = [says("Let me ask.", calls=calls), says("It is 09:30.")]

    async with AsyncOpenAI(base_url=model.url, api_key="none") as client:
        other = Agent(name="Other", model=api("scripted", client))
        messages, shown = await ask(agent_of(api, handoffs=[handoff(other, input_filter=input_filter)]))

    time, transfer = "09:30 in Karachi for ada", '{"assistant": "Other"}'
    assert [message.content for message in messages] == ["Let me ask.", "", "", time, transfer, "It is 09:30."]
    assert [part for part in shown if isinstance(part, ToolOutput)] == [
        ToolOutput("call_1", time),
        ToolOutput("call_2", transfer),
    ]
    assert "09:30" not in json.dumps(model.asked[-1].body)


async def test_half_a_character_in_a_step_before_the_last_does_not_end_the_turn(
    model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.script = [says("Look:\ud83d", calls=(Call("clock", '{"city": "Karachi"}'),)), says("It is 09:30.")]

    messages, _ = await ask(agent_of(api))

    assert [message.content for message in messages] == ["Look:\ufffd", "", "09:30 in Karachi for ada", "It is 09:30."]
    assert "Look:\ufffd" in json.dumps(model.messages(), ensure_ascii=False)


@pytest.mark.parametrize("arguments", ['{"city": "\ud83d"}', r'{"city": "\uD83D"}', r'{"city": "\u0000"}'], ids=ascii)
async def test_half_a_character_in_a_calls_arguments_does_not_end_the_turn(
    arguments: str, model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.script = [says(calls=(Call("clock", arguments),)), says("It is 09:30.")]

    messages, shown = await ask(agent_of(api))

    assert shown[:2] == [
        ToolCall("call_1", "clock", {"city": "\ufffd"}),
        ToolOutput("call_1", "09:30 in \ufffd for ada"),
    ]
    assert [message.content for message in messages] == ["", "09:30 in \ufffd for ada", "It is 09:30."]
    call, output = to_items([Message("user", "Hello"), *messages])[1:3]
    assert json.loads(call["arguments"]) == {"city": "\ufffd"}
    assert output["output"] == "09:30 in \ufffd for ada"


async def test_a_refusal_is_the_reply(model: ModelServer, agent_of: AgentOf) -> None:
    model.script = [says("I will ", "not.", refuses=True)]

    messages, shown = await ask(agent_of())

    assert messages == [Message("assistant", "I will not.", None)]
    assert shown == [TextStart(1), TextDelta(1, "I will "), TextDelta(1, "not."), TextEnd(1)]


async def test_what_chat_completions_had_to_cut_short_is_taken_for_a_reply(
    model: ModelServer, agent_of: AgentOf
) -> None:
    model.script = [says("Half ", "past", end="length")]

    messages, _ = await ask(agent_of())

    assert messages == [Message("assistant", "Half past", None)]


async def test_arguments_that_are_no_json_are_shown_as_the_model_wrote_them(
    model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.script = [says(calls=(Call("clock", '{"city": NaN'),)), says("Never mind.")]

    _, shown = await ask(agent_of(api))

    assert shown[0] == ToolCall("call_1", "clock", '{"city": NaN')


async def test_a_tool_that_fails_by_the_sdks_rules_is_an_output_like_others(
    model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.script = [says(calls=(Call("forgives"),)), says("It failed.")]

    messages, _ = await ask(agent_of(api))

    assert [message.role for message in messages] == ["assistant", "tool", "assistant"]


FAILURES: dict[str, tuple[Reply, type[ApiError]]] = {
    "too many requests": (says(status=429), AssistantUnavailable),
    "a fault of the provider's": (says(status=500), AssistantUnavailable),
    "a key that is wrong": (says(status=401), AssistantFailed),
    "a request that is refused": (says(status=400), AssistantFailed),
    "a stream that is cut": (says("Half ", "past", end="cut"), AssistantUnavailable),
    "a stream that ends early": (says("Half ", "past", end="early"), AssistantUnavailable),
    "nothing": (says(), AssistantFailed),
    "white space": (says(" \n"), AssistantFailed),
    "a tool that does not exist": (says(calls=(Call("nothing"),)), AssistantFailed),
    "a tool that breaks": (says(calls=(Call("breaks"),)), AssistantFailed),
    "calls without end": (says(calls=(Call("clock", '{"city": "Karachi"}'),)), AssistantFailed),
}


@pytest.mark.parametrize(("reply", "error"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_failure_is_the_assistants(
    reply: Reply, error: type[ApiError], model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.default = reply

    with pytest.raises(ApiError) as raised:
        await ask(agent_of(api))

    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("reply", "error"),
    [(says("Half", end="incomplete"), AssistantFailed), (says("Half", end="failed"), AssistantUnavailable)],
    ids=["incomplete", "failed"],
)
async def test_what_the_responses_api_does_not_call_complete_is_no_reply(
    reply: Reply, error: type[ApiError], model: ModelServer, agent_of: AgentOf
) -> None:
    model.default = reply

    with pytest.raises(ApiError) as raised:
        await ask(agent_of(OpenAIResponsesModel))

    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("code", "error"),
    [("server_error", AssistantUnavailable), ("rate_limit_exceeded", AssistantUnavailable), ("other", AssistantFailed)],
)
async def test_an_error_within_a_response_is_what_its_code_says(
    code: str, error: type[ApiError], model: ModelServer, agent_of: AgentOf
) -> None:
    event = {"type": "error", "code": code, "message": "SECRET of the provider", "param": None}
    model.default = Reply(raw=(json.dumps(event),))

    with pytest.raises(ApiError) as raised:
        await ask(agent_of(OpenAIResponsesModel))

    assert type(raised.value) is error


async def test_an_event_without_choices_does_not_end_the_turn(model: ModelServer, agent_of: AgentOf) -> None:
    choice = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}
    model.default = Reply(raw=('{"choices": null}', json.dumps({"choices": [choice]}), "[DONE]"))

    messages, _ = await ask(agent_of())

    assert messages == [Message("assistant", "Hello", None)]


async def test_other_tasks_run_between_two_parts_that_arrive_together(model: ModelServer, agent_of: AgentOf) -> None:
    choices = [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]
    model.default = Reply(raw=(json.dumps({"choices": choices}),) * 50 + ("[DONE]",))
    rounds = 0
    shown_in: list[int] = []

    async def work() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(work())
    await agent_of().ask(HELLO, CONTEXT, lambda part: shown_in.append(rounds) if type(part) is TextDelta else None)

    others.cancel()
    assert (len(shown_in), len(set(shown_in))) == (50, 50)


async def test_a_model_that_cannot_be_reached_is_unavailable(model: ModelServer, agent_of: AgentOf, api: Any) -> None:
    model.url = "http://127.0.0.1:1/v1"

    with pytest.raises(AssistantUnavailable):
        await ask(agent_of(api))


@pytest.mark.parametrize(
    "guardrail", [{"input_guardrails": [refuse]}, {"output_guardrails": [withhold]}], ids=["input", "output"]
)
async def test_a_guardrails_tripwire_refuses_the_message(
    guardrail: dict[str, Any], model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    with pytest.raises(AssistantRefused):
        await ask(agent_of(api, **guardrail))


async def test_a_turn_that_ends_with_a_tools_output_is_a_failure(
    model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.script = [says(calls=(Call("clock", '{"city": "Karachi"}'),))]

    with pytest.raises(AssistantFailed):
        await ask(agent_of(api, tool_use_behavior="stop_on_first_tool"))


@pytest.mark.parametrize("reply", [says("Hello", silence=60), says("Hello", "!", pause=60)], ids=["silent", "slow"])
async def test_a_canceled_run_closes_the_models_connection(
    reply: Reply, model: ModelServer, agent_of: AgentOf, api: Any
) -> None:
    model.default = reply
    run = asyncio.create_task(ask(agent_of(api)))
    await model.until_answering(1)

    run.cancel()

    await model.until_answering(0)
    with pytest.raises(asyncio.CancelledError):
        await run


class Traces(TracingProcessor):
    """What the SDK would send to OpenAI."""

    def __init__(self) -> None:
        self.begun: list[Trace | Span[Any]] = []

    def on_trace_start(self, trace: Trace) -> None:
        self.begun.append(trace)

    def on_trace_end(self, trace: Trace) -> None: ...

    def on_span_start(self, span: Span[Any]) -> None:
        self.begun.append(span)

    def on_span_end(self, span: Span[Any]) -> None: ...

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...


async def test_nothing_is_traced_even_where_a_tool_asks_for_it(model: ModelServer, agent_of: AgentOf, api: Any) -> None:
    model.script = [says(calls=(Call("traces"),)), says("It is 09:30.")]
    processor = Traces()
    add_trace_processor(processor)

    await ask(agent_of(api))

    assert processor.begun == []


async def test_the_first_turn_has_nothing_left_to_import(model: ModelServer, api: Any) -> None:
    program = """
import asyncio, sys
from ai_agent.services.assistant.context import TurnContext
from ai_agent.services.assistant.loading import load
assistant = load("tests.support.scripted_agent:agent")
before = set(sys.modules)
asyncio.run(assistant.ask([{"role": "user", "content": "Hello"}], TurnContext("ada", None, None), lambda _: None))
print(sorted(name for name in sys.modules.keys() - before if name.partition(".")[0] in {"agents", "openai"}))
"""
    environment = with_agent(model, "chat" if api is OpenAIChatCompletionsModel else "responses")

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=asyncio.subprocess.PIPE
    )

    output, _ = await process.communicate()
    assert output == b"[]\n"


async def test_what_is_given_is_what_providers_take(model: ModelServer, agent_of: AgentOf, api: Any) -> None:
    call = {"type": "function_call", "call_id": "past00001", "name": "clock", "arguments": "{}"}
    output = {
        "type": "function_call_output",
        "call_id": "past00001",
        "output": [{"type": "input_text", "text": "9:30"}],
    }

    await agent_of(api).ask([*HELLO, call, output, *HELLO], CONTEXT, lambda _: None)

    sent = json.dumps(model.asked[-1].body)
    assert sent.count("past00001") == 2
    assert sent.count('"Hello"') == 2
    assert "9:30" in sent
