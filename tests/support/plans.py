"""How the server runs the statements of requests, as its own auto_explain reports.

That includes the statements inside functions, and those of foreign keys and of cascades.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import asyncpg
import httpx
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from tests.support.app import client_of, make_settings, running
from tests.support.service import SERVICE_TOKEN
from tests.support.types import Headers

# Settings for one connection, given in its URL.
_EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}

type Plan = dict[str, Any]


class Statement(NamedTuple):
    """One that the server ran, and how; `page` is the size of the page that the request was for."""

    request: str
    page: int
    text: str
    plan: Plan

    def nodes(self) -> Iterator[Plan]:
        """The nodes of the plan, each before those that feed it."""
        waiting = [self.plan]
        while waiting:
            yield (node := waiting.pop())
            waiting += node.get("Plans", [])


class Recorder:
    """Makes requests for the statements that they lead to. User 7 has the id `user-7` and the token `token-7`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.statements: list[Statement] = []
        self._client = client
        self._request, self._page = "", 0

    def listen(self, connection: asyncpg.Connection) -> None:
        connection.add_log_listener(lambda _, message: self._record(message.message))

    def _record(self, notice: str) -> None:
        explained = json.loads(notice.partition("plan:")[2])
        self.statements.append(Statement(self._request, self._page, explained["Query Text"], explained["Plan"]))

    async def get(self, path: str, page: int, user: str) -> None:
        """Read every page."""
        following: str | None = f"{path}?limit={page}"
        while following is not None:
            response = await self._send("GET", following, page, headers={"Authorization": f"Bearer token-{user}"})
            following = response.links["next"]["url"] if "Link" in response.headers else None

    async def write(self, method: str, path: str, user: str, body: object = None, **headers: str) -> None:
        await self._send(method, path, 1, json=body, headers={"Authorization": f"Bearer token-{user}", **headers})

    async def serve(self, path: str, user: str, body: object, **headers: str) -> None:
        """Write as a trusted service."""
        service = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": f"user-{user}"}
        await self._send("POST", path, 1, json=body, headers={**service, **headers})

    async def _send(self, method: str, path: str, page: int, headers: Headers, json: object = None) -> httpx.Response:
        self._request, self._page = f"{method} {path}", page
        response = await self._client.request(method, path, headers=headers, json=json)
        assert response.is_success, response.text
        return response

    async def run(self, name: str, page: int, url: str, statement: str) -> None:
        """Run a statement of an operator's, and undo it."""
        self._request, self._page = name, page
        connection = await asyncpg.connect(explaining(url))
        self.listen(connection)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement)
        await transaction.rollback()
        await connection.close()


def explaining(url: str, **settings: str) -> str:
    """The URL of connections on which the server explains each statement."""
    options = " ".join(f"-c {name}={value}" for name, value in {**_EXPLAIN, **settings}.items())
    return f"{url}?{urlencode({'options': options}, quote_via=quote)}"


@asynccontextmanager
async def recording(url: str, **settings: str) -> AsyncIterator[Recorder]:
    """Serve the database at this URL, with these settings of the server's, to a recorder."""
    given = make_settings(database_url=explaining(url, **settings), service_auth_token=SERVICE_TOKEN)
    async with running(given) as app, client_of(app) as client:
        recorder = Recorder(client)

        def listen(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
            recorder.listen(connection.driver_connection)

        event.listen(app.state.engine.sync_engine, "connect", listen)
        await app.state.engine.dispose()  # The start has used a connection that nobody listens to.
        yield recorder


async def make_every_request(
    recorder: Recorder, user: str, conversation_id: int, deleted_id: int, key: str, page: int = 3
) -> None:
    """Make a request of every kind for the user and two of the user's conversations; the second is deleted."""
    path = f"/api/conversations/{conversation_id}"
    await recorder.get("/api/conversations", page=page, user=user)
    await recorder.get(path, page=50, user=user)
    for id_ in (None, conversation_id):
        body = {"message": "Hello", "conversation_id": id_}
        await recorder.write("POST", "/api/chat", user, body)
        for _ in ("stored", "replayed"):
            await recorder.write("POST", "/api/chat", user, body, **{"Idempotency-Key": f"{key}-{id_}"})
    for _ in ("stored", "replayed"):
        messages = [{"role": "user", "content": "Hello"}]
        await recorder.serve(f"{path}/messages", user, messages, **{"Idempotency-Key": key})
    await recorder.serve("/api/conversations", user, {"title": "Chat"})
    await recorder.write("PATCH", path, user, {"title": "Chat"})
    await recorder.write("DELETE", f"/api/conversations/{deleted_id}", user)
