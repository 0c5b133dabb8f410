"""The reply as a stream of the AI SDK, for whoever names it in `Accept`: its turn is stored before its end."""

import json
from typing import Any
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from tests.support.types import Headers, SignIn

STREAM = {"Accept": "text/event-stream"}
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-cache",
    "x-accel-buffering": "no",
    "x-vercel-ai-ui-message-stream": "v1",
}


async def send(client: httpx.AsyncClient, headers: Headers, **body: Any) -> httpx.Response:
    return await client.post("/api/chat", headers=headers | STREAM, json=body)


def parts(response: httpx.Response) -> list[Any]:
    """The parts of a stream, which has to end as the protocol says."""
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def whole(text: str, conversation_id: Any, *, replayed: bool = False) -> list[Any]:
    return [
        {"type": "start"},
        {"type": "text-start", "id": "1"},
        {"type": "text-delta", "id": "1", "delta": text},
        {"type": "text-end", "id": "1"},
        {
            "type": "finish",
            "finishReason": "stop",
            "messageMetadata": {"conversation_id": conversation_id, "replayed": replayed},
        },
    ]


async def test_the_echo_is_streamed_once_it_is_stored(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in()

    response = await send(client, headers, message="Hello\nthere")

    assert response.status_code == 200
    assert parts(response) == whole("Echo: Hello\nthere", ANY)
    conversation_id = parts(response)[-1]["messageMetadata"]["conversation_id"]
    stored = (await client.get(f"/api/conversations/{conversation_id}", headers=headers)).json()["messages"]
    assert [(message["role"], message["content"]) for message in stored] == [
        ("user", "Hello\nthere"),
        ("assistant", "Echo: Hello\nthere"),
    ]


async def test_a_stream_has_the_headers_that_keep_it_flowing(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    response = await send(client, await sign_in(), message="Hello")

    assert {name: response.headers[name] for name in HEADERS} == HEADERS


async def test_a_key_that_is_known_replays_the_reply_in_one_piece(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in() | {"Idempotency-Key": "key-1"}
    first = await client.post("/api/chat", headers=headers, json={"message": "Hello"})

    again = await send(client, headers, message="Hello")

    assert again.headers["Idempotency-Replayed"] == "true"
    assert parts(again) == whole("Echo: Hello", first.json()["conversation_id"], replayed=True)


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/html"])
async def test_others_get_json(accept: str, client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in() | {"Accept": accept}

    response = await client.post("/api/chat", headers=headers, json={"message": "Hello"})

    assert response.json() == {"conversation_id": ANY, "user_message": "Hello", "assistant_message": "Echo: Hello"}


async def test_what_goes_wrong_is_a_status_with_json(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()

    nobody = await send(client, {}, message="Hello")
    blank = await send(client, headers, message=" ")
    absent = await send(client, headers, message="Hello", conversation_id=1)

    assert [nobody.status_code, blank.status_code, absent.status_code] == [401, 422, 404]
    assert absent.json() == {"detail": "Conversation not found."}
    assert await database.fetchval("SELECT count(*) FROM messages") == 0
