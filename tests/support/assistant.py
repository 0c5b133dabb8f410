"""What the tests of the assistant share: a service with the scripted agent, messages to it, and its streams."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.model_server import ModelServer
from tests.support.types import Headers

PROJECT = Path(__file__).parents[2]


def with_agent(model: ModelServer, api: str = "chat") -> dict[str, str]:
    """The environment of a service whose agent asks this model."""
    return {
        "ASSISTANT": "tests.support.scripted_agent:agent",
        "PYTHONPATH": str(PROJECT),
        "MODEL_URL": model.url,
        "MODEL_API": api,
    }


class Stream:
    """A response that is read part by part."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.aiter_lines()

    async def next(self) -> Any:
        """The next part; None at the end, which has to be as the protocol says."""
        async for line in self._lines:
            self.comments += line.startswith(":")
            if line.startswith("data: {"):
                return json.loads(line.removeprefix("data: "))
            if line == "data: [DONE]":
                assert [rest async for rest in self._lines] == [""]
                return None
        raise AssertionError("the stream has no end")

    async def rest(self) -> list[Any]:
        """The parts that are left."""
        parts = []
        while part := await self.next():
            parts.append(part)
        return parts


@asynccontextmanager
async def stream(client: httpx.AsyncClient, headers: Headers, **body: Any) -> AsyncIterator[Stream]:
    accept = {"Accept": "text/event-stream"}
    async with client.stream("POST", "/api/chat", headers=headers | accept, json=body) as response:
        yield Stream(response)


async def send(url: str, headers: Headers, message: str = "Hello", **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        return await client.post("/api/chat", headers=headers, json={"message": message, **body})


async def send_for_stream(url: str, headers: Headers) -> tuple[httpx.Response, list[Any]]:
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        stream(client, headers, message="Hello") as response,
    ):
        return response.response, await response.rest()


def with_key(headers: Headers) -> Headers:
    return headers | {"Idempotency-Key": secrets.token_hex()}


def shown(*texts: str) -> list[Any]:
    """The parts of one text."""
    return [
        {"type": "text-start", "id": "1"},
        *({"type": "text-delta", "id": "1", "delta": text} for text in texts),
        {"type": "text-end", "id": "1"},
    ]


def finished(conversation_id: Any, *, replayed: bool = False) -> Any:
    metadata = {"conversation_id": conversation_id, "replayed": replayed}
    return {"type": "finish", "finishReason": "stop", "messageMetadata": metadata}
