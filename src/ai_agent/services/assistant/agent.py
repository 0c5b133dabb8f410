"""The operator's agent and the SDK around it, which only this module, `handoffs` and `model_streams` import."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, get_args

import openai
from agents import (
    Agent,
    InputGuardrailTripwireTriggered,
    ModelBehaviorError,
    ModelRefusalError,
    ModelTimeoutError,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    RunErrorHandlerInput,
    RunErrorHandlerResult,
    RunErrorHandlers,
    Runner,
    RunResultStreaming,
    StreamEvent,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
    set_tracing_disabled,
)
from agents.items import TResponseStreamEvent
from agents.models import openai_chatcompletions, openai_responses
from agents.run import CallModelData, ModelInputData
from openai.resources.chat import chat
from openai.resources.chat.completions import completions
from openai.resources.responses import responses
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from ai_agent.errors import ApiError, AssistantFailed, AssistantRefused, AssistantUnavailable
from ai_agent.services.assistant.cleaning import clean
from ai_agent.services.assistant.context import TurnContext
from ai_agent.services.assistant.handoffs import keep_whole_turns
from ai_agent.services.assistant.mapping import Item, to_messages
from ai_agent.services.assistant.model_streams import ProviderError, read_every_stream
from ai_agent.services.assistant.parts import Part, Transcript
from ai_agent.services.turns import Message

# These modules are imported, and the types of a stream's events are built, at start. Otherwise the libraries would do
# both during the first turn and block the whole process, on a busy machine for seconds.
IMPORTED = (openai_chatcompletions, openai_responses, chat, completions, responses)
EVENTS: tuple[type[BaseModel], ...] = (*get_args(get_args(ResponseStreamEvent)[0]), ChatCompletionChunk)

TRIPWIRES = (
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
# The SDK's text for a stream of the Responses API that ends before the response is complete.
NO_FINAL_RESPONSE = "Model did not produce a final response!"


UNAVAILABLE = (openai.APIConnectionError, ModelTimeoutError, ProviderError)
TEMPORARY = {"server_error", "rate_limit_exceeded"}


def _accept_refusal(given: RunErrorHandlerInput[TurnContext]) -> RunErrorHandlerResult:
    """Make a model's refusal its reply, because the stream has shown it; the SDK would raise an error."""
    refusal = given.error.refusal if isinstance(given.error, ModelRefusalError) else ""
    return RunErrorHandlerResult(refusal, include_in_history=False)  # The run has the message already.


HANDLERS = RunErrorHandlers[TurnContext](model_refusal=_accept_refusal)


class Assistant:
    """The operator's agent, which is asked for replies."""

    def __init__(self, agent: Agent[TurnContext]) -> None:
        self._agent = agent
        for event in EVENTS:
            event.model_rebuild()
        # By default the SDK sends what people write to OpenAI, as traces, whatever model answers.
        set_tracing_disabled(True)
        self._config = RunConfig(tracing_disabled=True, call_model_input_filter=_clean_input)
        for name in ("httpx", "httpx2"):  # They log each call of a model, with its URL.
            logging.getLogger(name).setLevel(logging.WARNING)
        read_every_stream()
        keep_whole_turns()

    async def ask(self, items: list[Item], context: TurnContext, show: Callable[[Part], None]) -> list[Message]:
        """The messages that the agent adds to `items`, in order; the last one is the reply.

        Parts are shown as they come. Raises AssistantUnavailable, AssistantFailed or AssistantRefused. When the task is
        canceled, the connection to the model is closed.
        """
        given: Any = items
        transcript = Transcript(show)
        try:
            result = Runner.run_streamed(
                self._agent, given, context=context, run_config=self._config, error_handlers=HANDLERS
            )
            await _follow(result, transcript)
            made: list[Any] = [item.to_input_item() for item in result.new_items]
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # The agent's code and the model's may raise anything.
            raise _classify(error) from error
        messages = to_messages(made)
        said = [message.content for message in messages if message.role == "assistant" and message.content]
        if not messages or messages[-1].role != "assistant" or not messages[-1].content.strip():
            raise AssistantFailed("the turn does not end with a reply")
        if said != transcript.texts:
            raise AssistantFailed("the reply is not what was shown")
        return messages

    async def close(self) -> None:
        await self._config.model_provider.aclose()


def _clean_input(given: CallModelData[TurnContext]) -> ModelInputData:
    """What to send to the model. Earlier steps of the run may have put text into it that UTF-8 cannot hold."""
    return ModelInputData(clean(given.model_data.input), clean(given.model_data.instructions))


async def _follow(result: RunResultStreaming, transcript: Transcript) -> None:
    events: Any = result.stream_events()  # A generator, which has more methods than the SDK declares.
    try:
        async for event in events:
            _read(event, transcript)
    except BaseException:
        result.cancel()  # Otherwise closing would wait until the agent has finished.
        await events.aclose()
        raise


def _read(event: StreamEvent, transcript: Transcript) -> None:
    if event.type == "run_item_stream_event":
        item: Any = event.item.to_input_item()
        transcript.add_item(item)
    elif event.type == "raw_response_event":
        _read_raw(event.data, transcript)


def _read_raw(raw: TResponseStreamEvent, transcript: Transcript) -> None:
    if raw.type in {"response.output_text.delta", "response.refusal.delta"}:
        transcript.add(raw.delta)
    elif raw.type == "response.output_item.done" and raw.item.type == "message":
        transcript.end()
    elif _failure_code(raw) in TEMPORARY:
        raise ProviderError


def _failure_code(raw: TResponseStreamEvent) -> str | None:
    """The code with which the Responses API gives up a reply that it has begun, if it does."""
    if raw.type == "response.failed":
        return raw.response.error.code if raw.response.error else None
    return raw.code if raw.type == "error" else None


def _classify(error: BaseException) -> ApiError:
    if isinstance(error, TRIPWIRES):
        return AssistantRefused()
    status = error.status_code if isinstance(error, openai.APIStatusError) else 0
    is_cut_off = isinstance(error, ModelBehaviorError) and error.message == NO_FINAL_RESPONSE
    # A bare APIError is what a provider reports in the middle of a stream.
    unavailable = isinstance(error, UNAVAILABLE) or type(error) is openai.APIError or status == 429 or status >= 500
    return AssistantUnavailable() if unavailable or is_cut_off else AssistantFailed()
