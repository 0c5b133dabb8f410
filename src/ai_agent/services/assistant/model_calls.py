"""Reads every model's stream for the SDK: cleans its tool calls, and lets other requests work between its events.

The calls are cleaned because the SDK cannot encode half a surrogate pair.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from agents.items import TResponseStreamEvent
from agents.run_internal import model_retry, run_loop
from pydantic import BaseModel

from ai_agent.services.assistant.mapping import clean, clean_json

_stream = model_retry.stream_response_with_retry


def clean_for_all_models() -> None:
    """Make the SDK read every model's stream through this module, because the operator chooses the model's class."""
    run_loop.stream_response_with_retry = _stream_clean  # type: ignore[attr-defined]  # Its module imports it.


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
