"""Reads every model's stream for the SDK, which must be whole, and lets other requests work between its events.

Tool calls in it are cleaned, because the SDK cannot encode half a surrogate pair.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from agents.items import TResponseStreamEvent
from agents.models.chatcmpl_stream_handler import ChatCmplStreamHandler
from agents.run_internal import model_retry, run_loop
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response
from pydantic import BaseModel

from ai_agent.services.assistant.cleaning import clean, clean_json


class ProviderError(Exception):
    """A provider has begun to reply and then reported an error, or ended the stream too early."""


_stream = model_retry.stream_response_with_retry
_handle_stream = ChatCmplStreamHandler.handle_stream


def read_every_stream() -> None:
    """Make the SDK read every model's stream through this module, because the operator chooses the model's class."""
    run_loop.stream_response_with_retry = _stream_clean  # type: ignore[attr-defined]  # Its module imports it.
    # The SDK takes a Chat Completions stream that ends without a finish_reason for a whole reply, unless it comes from
    # OpenAI's own URL.
    ChatCmplStreamHandler.handle_stream = _handle_whole_stream  # type: ignore[method-assign,assignment]


async def _stream_clean(**options: Any) -> AsyncGenerator[TResponseStreamEvent]:
    async with aclosing(_stream(**options)) as events:
        async for event in events:
            _clean_calls(event)
            yield event
            # Reading events that have arrived together never waits, so a fast model would hold up every other request.
            await asyncio.sleep(0)


def _clean_calls(event: Any) -> None:
    """Clean the calls in an event that ends a call or the response, because the SDK takes calls from these events."""
    made = getattr(getattr(event, "response", None), "output", None) or [getattr(event, "item", None)]
    for item in made:
        if isinstance(item, BaseModel) and isinstance(getattr(item, "call_id", None), str):
            _clean_call(item)


def _clean_call(call: BaseModel) -> None:
    for name, value in call:
        cleaned = clean_json(value) if name == "arguments" and isinstance(value, str) else clean(value)
        if cleaned != value:  # A field that is set is sent to the model, even if its value is the default.
            setattr(call, name, cleaned)


def _handle_whole_stream(response: Response, stream: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
    whole: Any = _until_finished(stream)
    return _handle_stream(response, whole, **options)


async def _until_finished(chunks: AsyncIterator[ChatCompletionChunk]) -> AsyncIterator[ChatCompletionChunk]:
    is_finished = False
    async for chunk in chunks:
        is_finished = is_finished or any(choice.finish_reason for choice in chunk.choices or ())
        yield chunk
    if not is_finished:
        raise ProviderError
