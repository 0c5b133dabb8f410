"""A trusted service, for example an agent, acts for a user and may write what users cannot."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.service import SERVICE_TOKEN
from tests.support.shapes import a_conversation
from tests.support.types import Headers, SignIn

FOR_ADA = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}
REFUSED = {
    "detail": "For trusted services only: send SERVICE_AUTH_TOKEN as X-Service-Auth and the user's id as X-User-ID."
}

NOT_A_SERVICE = {
    "wrong token": {"X-Service-Auth": SERVICE_TOKEN[:-1], "X-User-ID": "ada"},
    "no user": {"X-Service-Auth": SERVICE_TOKEN},
    "no token": {"X-User-ID": "ada"},
    "empty user": {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": ""},
    "empty token": {"X-Service-Auth": "", "X-User-ID": "ada"},
    "white space in the user": {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "a b"},
}

TOOL_TURN: list[dict[str, Any]] = [
    {"role": "user", "content": "What time is it?"},
    {
        "role": "assistant",
        "content": "",
        "metadata": {"tool_calls": [{"id": "call_1", "arguments": '{"a": "\\u0000"}'}]},
    },
    {"role": "tool", "content": "09:30", "metadata": {"tool_call_id": "call_1", "n": 1.5, "deep": [[{"é": None}]]}},
    {"role": "assistant", "content": " ", "metadata": {}},
    {"role": "assistant", "content": "It is half past nine.", "metadata": None},
]


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


INVALID: dict[str, Any] = {
    "no messages": [],
    "101 messages": [{"role": "user", "content": "a"}] * 101,
    "an object": {"role": "user", "content": "a"},
    "another role": [{"role": "system", "content": "a"}],
    "no content": [{"role": "user"}],
    "neither content nor metadata": [{"role": "assistant", "content": "", "metadata": {}}],
    "NUL": [{"role": "user", "content": "a\0b"}],
    "too long": [{"role": "user", "content": "a" * 100_001}],
    "metadata no object": [{"role": "user", "content": "a", "metadata": [1]}],
    "NUL in metadata": [{"role": "user", "content": "a", "metadata": {"a": ["\0"]}}],
    "NUL in a key of metadata": [{"role": "user", "content": "a", "metadata": {"\0": 1}}],
    "metadata beyond 64 kB": [{"role": "user", "content": "a", "metadata": {"a": "é" * 32_768}}],
    "metadata nested too deep": [{"role": "user", "content": "a", "metadata": nested(101)}],
    "neither content nor anything said": [{"role": "assistant", "content": None, "refusal": None, "tool_calls": None}],
    "a field that differs from metadata": [
        {"role": "tool", "content": "a", "tool_call_id": "call_1", "metadata": {"tool_call_id": "call_2"}}
    ],
    "a field beyond 64 kB": [{"role": "assistant", "content": None, "tool_calls": ["a" * 65_536]}],
    "a field and metadata beyond 64 kB": [
        {"role": "tool", "content": "a", "tool_call_id": "call_1", "metadata": {"a": "a" * 65_510}}
    ],
    "NUL in a field": [{"role": "tool", "content": "a", "tool_call_id": "\0"}],
    "a field nested too deep": [{"role": "assistant", "content": None, "function_call": nested(100)}],
    "large numbers beyond 64 kB": [{"role": "user", "content": "a", "metadata": {"a": [1e300] * 300}}],
    "small numbers beyond 64 kB": [{"role": "user", "content": "a", "metadata": {"a": [-1e-300] * 300}}],
    "the second of two": [{"role": "user", "content": "a"}, {"role": "user", "content": ""}],
}


@pytest.fixture
async def client(database_url: str, database: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(database_url=database_url, service_auth_token=SERVICE_TOKEN)
    async with running(settings) as app, client_of(app) as client:
        yield client


async def open_conversation(client: httpx.AsyncClient, headers: Headers = FOR_ADA) -> int:
    response = await client.post("/api/conversations", headers=headers, json={})
    assert response.status_code == 201, response.text
    id_: int = response.json()["id"]
    return id_


async def test_a_service_opens_a_titled_conversation_for_a_user(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    response = await client.post("/api/conversations", headers=FOR_ADA, json={"title": "Holiday plans"})

    created = response.json()
    assert response.status_code == 201
    assert created == a_conversation(title="Holiday plans", updated_at=created["created_at"])
    assert (await client.get("/api/conversations", headers=await sign_in("ada"))).json() == [created]
    assert (await client.get("/api/conversations", headers=await sign_in("bob"))).json() == []


@pytest.mark.parametrize("body", [{}, {"title": None}])
async def test_a_conversation_without_a_title_is_titled_with_the_time(
    body: dict[str, None], client: httpx.AsyncClient
) -> None:
    created = (await client.post("/api/conversations", headers=FOR_ADA, json=body)).json()

    assert created["title"] == f"Chat - {created['created_at'][:16].replace('T', ' ')}"


async def test_messages_of_every_role_are_stored_in_order_and_shown_to_the_user(
    client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    conversation_id = await open_conversation(client)

    response = await client.post(f"/api/conversations/{conversation_id}/messages", headers=FOR_ADA, json=TOOL_TURN)

    stored = response.json()
    assert response.status_code == 201
    assert stored == [{"metadata": None, **sent, "id": ANY, "created_at": ANY} for sent in TOOL_TURN]
    assert [message["id"] for message in stored] == sorted({message["id"] for message in stored})
    read = (await client.get(f"/api/conversations/{conversation_id}", headers=await sign_in("ada"))).json()
    assert read["messages"] == stored
    assert read["updated_at"] == stored[-1]["created_at"]


CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
CHAT_MESSAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a tool call": (
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "audio": None},
        {"role": "assistant", "content": "", "metadata": {"tool_calls": [CALL]}},
    ),
    "a tool call without content": (
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "metadata": {"tool_calls": [CALL]}},
    ),
    "a tool's output": (
        {"role": "tool", "content": "09:30", "tool_call_id": "call_1", "metadata": {"seconds": 0.5}},
        {"role": "tool", "content": "09:30", "metadata": {"seconds": 0.5, "tool_call_id": "call_1"}},
    ),
    "what metadata says too": (
        {"role": "tool", "content": "09:30", "tool_call_id": "call_1", "metadata": {"tool_call_id": "call_1"}},
        {"role": "tool", "content": "09:30", "metadata": {"tool_call_id": "call_1"}},
    ),
    "a refusal": (
        {"role": "assistant", "content": None, "refusal": "No.", "annotations": []},
        {"role": "assistant", "content": "", "metadata": {"refusal": "No.", "annotations": []}},
    ),
    "a name, and an unknown field": (
        {"role": "user", "content": "Hi", "name": "Ada", "mood": "good"},
        {"role": "user", "content": "Hi", "metadata": {"name": "Ada"}},
    ),
    "numbers that grow": (
        {"role": "user", "content": "Hi", "metadata": {"a": [1e300] * 200}},
        {"role": "user", "content": "Hi", "metadata": {"a": [10**300] * 200}},
    ),
}


@pytest.mark.parametrize(("sent", "shown"), CHAT_MESSAGES.values(), ids=CHAT_MESSAGES.keys())
async def test_the_fields_of_a_chat_completions_message_are_kept_in_metadata(
    sent: dict[str, Any], shown: dict[str, Any], client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    conversation_id = await open_conversation(client)

    response = await client.post(f"/api/conversations/{conversation_id}/messages", headers=FOR_ADA, json=[sent])

    read = (await client.get(f"/api/conversations/{conversation_id}", headers=await sign_in("ada"))).json()
    assert response.status_code == 201, response.text
    assert response.json() == read["messages"] == [{**shown, "id": ANY, "created_at": ANY}]


async def test_no_append_is_answered_with_much_more_than_the_limit_of_its_metadata(client: httpx.AsyncClient) -> None:
    conversation_id = await open_conversation(client)
    odd = [1e300, -1e-300, 1.5e16, 1.234e-5, 0.0001, 1e15, 123456789.125, "\x01\x7f\u20ac\U0001f3d6"]
    message = {"role": "user", "content": "", "metadata": {"a": odd * 93}}

    response = await client.post(
        f"/api/conversations/{conversation_id}/messages", headers=FOR_ADA, json=[message] * 100
    )

    shown = response.text.partition('"metadata":')[2].partition(',"created_at"')[0]
    assert response.status_code == 201
    assert 65_000 < len(shown.encode()) <= 65_536


async def test_a_service_may_use_the_routes_of_a_user(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    sent = (await client.post("/api/chat", headers=FOR_ADA, json={"message": "Hello"})).json()

    listed = (await client.get("/api/conversations", headers=await sign_in("ada"))).json()

    assert [conversation["id"] for conversation in listed] == [sent["conversation_id"]]
    assert (await client.get("/api/conversations", headers=FOR_ADA)).json() == listed
    assert (await client.get("/api/conversations", headers={**FOR_ADA, "X-User-ID": "bob"})).json() == []


@pytest.mark.parametrize("headers", NOT_A_SERVICE.values(), ids=NOT_A_SERVICE.keys())
@pytest.mark.parametrize("path", ["/api/conversations", "/api/conversations/1/messages", "/api/chat"])
async def test_wrong_or_half_given_service_headers_are_a_401_even_beside_a_session(
    headers: Headers, path: str, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    response = await client.post(path, headers={**await sign_in("ada"), **headers}, json={"message": "Hello"})

    assert (response.status_code, response.json()) == (401, REFUSED)
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/api/conversations", "/api/conversations/1/messages"])
@pytest.mark.parametrize("body", ["{}", "{"])
async def test_users_cannot_do_what_only_a_service_may(
    path: str, body: str, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in("ada") | {"Content-Type": "application/json"}

    response = await client.post(path, headers=headers, content=body)

    assert (response.status_code, response.json()) == (401, REFUSED)
    assert await database.fetchval("SELECT count(*) FROM conversations") == 0


async def test_without_the_setting_no_token_makes_a_service(database_url: str, database: asyncpg.Connection) -> None:
    async with running(make_settings(database_url=database_url)) as app, client_of(app) as client:
        answers = [
            await client.post("/api/conversations", headers=FOR_ADA, json={}),
            await client.post("/api/conversations", headers={**FOR_ADA, "X-Service-Auth": ""}, json={}),
            await client.get("/api/conversations", headers=FOR_ADA),
        ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]


async def test_a_conversation_of_another_user_is_a_404(client: httpx.AsyncClient) -> None:
    conversation_id = await open_conversation(client)
    for_bob = {**FOR_ADA, "X-User-ID": "bob"}

    response = await client.post(f"/api/conversations/{conversation_id}/messages", headers=for_bob, json=TOOL_TURN)

    assert (response.status_code, response.json()) == (404, {"detail": "Conversation not found."})


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID.keys())
async def test_messages_that_cannot_be_stored_are_a_422_and_none_is(
    body: object, client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    conversation_id = await open_conversation(client)

    response = await client.post(f"/api/conversations/{conversation_id}/messages", headers=FOR_ADA, json=body)

    assert response.status_code == 422
    assert all(set(problem) == {"type", "loc", "msg"} for problem in response.json()["detail"])
    assert await database.fetchval("SELECT count(*) FROM messages") == 0


@pytest.mark.parametrize("metadata", [b'{"a": NaN}', b'{"a": 1e999}', rb'{"a": "\ud800"}'])
async def test_metadata_that_is_no_real_json_is_a_422(metadata: bytes, client: httpx.AsyncClient) -> None:
    conversation_id = await open_conversation(client)
    headers = {**FOR_ADA, "Content-Type": "application/json"}
    body = b'[{"role": "user", "content": "a", "metadata": %b}]' % metadata

    response = await client.post(f"/api/conversations/{conversation_id}/messages", headers=headers, content=body)

    assert response.status_code == 422


@pytest.mark.parametrize("metadata", [nested(100), {"a": "x" * (64 * 1024 - 9)}, {"n": 12345678901234567890}])
async def test_metadata_up_to_the_limits_comes_back_as_it_was(
    metadata: dict[str, Any], client: httpx.AsyncClient
) -> None:
    conversation_id = await open_conversation(client)
    body = [{"role": "assistant", "content": "", "metadata": metadata}]

    response = await client.post(f"/api/conversations/{conversation_id}/messages", headers=FOR_ADA, json=body)

    assert response.status_code == 201
    assert response.json()[0]["metadata"] == metadata


async def test_messages_sent_again_with_their_key_are_stored_once(
    client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    path = f"/api/conversations/{await open_conversation(client)}/messages"
    headers = {**FOR_ADA, "Idempotency-Key": "key"}

    first, second = [await client.post(path, headers=headers, json=TOOL_TURN) for _ in range(2)]
    other = await client.post(path, headers=headers, json=TOOL_TURN[:1])

    assert (first.status_code, second.status_code, other.status_code) == (201, 201, 422)
    assert second.content == first.content
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert await database.fetchval("SELECT count(*) FROM messages") == len(TOOL_TURN)
