"""How often a request waits for the database, counted on the wire, because over a network each wait costs most."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from tests.support.app import make_settings, running
from tests.support.proxy import Proxy, run_proxy
from tests.support.types import Headers, SignIn

APPEND = {"message": "Hello", "conversation_id": 1}
NEW, STORED = {"Idempotency-Key": "new"}, {"Idempotency-Key": "stored"}

# Method, path, body and headers; then the status and the number of round trips. The first round trip finds the user.
REQUESTS: dict[str, tuple[str, str, dict[str, Any] | None, Headers, int, int]] = {
    "liveness": ("GET", "/health", None, {}, 200, 0),
    "list": ("GET", "/api/conversations", None, {}, 200, 2),
    "a page of the list": ("GET", "/api/conversations?limit=1", None, {}, 200, 2),
    "read": ("GET", "/api/conversations/1", None, {}, 200, 2),
    "a page of messages": ("GET", "/api/conversations/1?limit=1", None, {}, 200, 2),
    "read what is not there": ("GET", "/api/conversations/3", None, {}, 404, 2),
    "begin": ("POST", "/api/chat", {"message": "Hello"}, {}, 200, 2),
    "append": ("POST", "/api/chat", APPEND, {}, 200, 2),
    "append to what is not there": ("POST", "/api/chat", {**APPEND, "conversation_id": 3}, {}, 404, 2),
    "begin with a key": ("POST", "/api/chat", {"message": "Hello"}, NEW, 200, 2),
    "append with a key": ("POST", "/api/chat", APPEND, NEW, 200, 2),
    "replay": ("POST", "/api/chat", APPEND, STORED, 200, 2),
    "rename": ("PATCH", "/api/conversations/1", {"title": "Holiday plans"}, {}, 200, 2),
    "delete": ("DELETE", "/api/conversations/1", None, {}, 204, 2),
    "an unknown token": ("GET", "/api/conversations", None, {"Authorization": "Bearer unknown"}, 401, 1),
    "no token": ("GET", "/api/conversations", None, {"Authorization": ""}, 401, 0),
    "a body that is not valid": ("POST", "/api/chat", {"message": ""}, {}, 422, 1),
}


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with run_proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
async def app(database: asyncpg.Connection, proxy: Proxy) -> AsyncIterator[FastAPI]:
    """The app, with its database behind the proxy."""
    async with running(make_settings(database_url=proxy.url)) as app:
        yield app


@pytest.fixture
async def ada(client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection) -> Headers:
    """A user with two conversations; the first has a turn with a key."""
    await database.execute("ALTER TABLE conversations ALTER id RESTART")
    headers = await sign_in("ada")
    for body, key in (({"message": "one"}, {}), ({"message": "two"}, {}), (APPEND, STORED)):
        await client.post("/api/chat", headers=headers | key, json=body)
    return headers


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "round_trips"), REQUESTS.values(), ids=REQUESTS.keys()
)
async def test_a_request_waits_for_the_database_as_often_as_it_must(
    method: str,
    path: str,
    body: dict[str, Any] | None,
    headers: Headers,
    status: int,
    round_trips: int,
    client: httpx.AsyncClient,
    proxy: Proxy,
    ada: Headers,
    sign_in: SignIn,
) -> None:
    # Somebody else's requests prepare the statements: one that stores and, with a key, one that finds.
    bob = await sign_in("bob")
    for _ in range(2):
        await client.request(method, path, headers=bob | headers, json=body)
    proxy.sent = b""

    response = await client.request(method, path, headers=ada | headers, json=body)

    # Each is one Bind, one Execute and one Sync: nothing is prepared again, and no BEGIN or ping goes by itself.
    assert (response.status_code, proxy.sent) == (status, b"BES" * round_trips)


async def test_a_request_takes_one_connection_from_the_pool(
    app: FastAPI, client: httpx.AsyncClient, ada: Headers
) -> None:
    taken: list[object] = []
    event.listen(app.state.engine.sync_engine, "checkout", lambda *connection: taken.append(connection))

    response = await client.post("/api/chat", headers=ada | NEW, json=APPEND)

    assert (response.status_code, len(taken)) == (200, 1)


async def test_a_new_connection_prepares_the_statements_of_a_turn_and_asks_nothing_else(
    app: FastAPI, client: httpx.AsyncClient, proxy: Proxy, ada: Headers
) -> None:
    await app.state.engine.dispose()
    proxy.sent = b""

    response = await client.post("/api/chat", headers=ada, json=APPEND)

    # Before them the old connection says goodbye, and the new one sends its password and settles its settings.
    assert (response.status_code, proxy.sent.lstrip(b"Xp").removeprefix(b"Q")) == (200, b"PDHBES" * 2)
