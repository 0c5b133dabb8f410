"""One user's credentials give no access to another's rows, on any route and with any method, documented or not."""

from typing import Any

import asyncpg
import httpx
import pytest

from ai_agent.config import Settings
from ai_agent.main import create_app
from tests.support.app import make_settings
from tests.support.service import SERVICE_TOKEN
from tests.support.types import Chat, Headers, SignIn

SECRET = "what Ada told nobody"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

DOCUMENT: dict[str, Any] = create_app(make_settings(database_url="postgresql://127.0.0.1/none")).openapi()
PATHS = [path for path in DOCUMENT["paths"] if path.startswith("/api/")]


def example(method: str, path: str) -> Any:
    """The document's example of a body, if the operation has one."""
    body = DOCUMENT["paths"][path].get(method.lower(), {}).get("requestBody")
    if body is None:
        return None
    schema = body["content"]["application/json"]["schema"]
    model = DOCUMENT["components"]["schemas"].get(schema.get("$ref", "").split("/")[-1], schema)
    examples: list[Any] = model["examples"]
    return {**examples[0], "conversation_id": None} if "conversation_id" in model.get("properties", {}) else examples[0]


def names_conversation(method: str, path: str) -> bool:
    return "{conversation_id}" in path or "conversation_id" in str(example(method, path))


OF_A_CONVERSATION = [(method, path) for path in PATHS for method in METHODS if names_conversation(method, path)]
OPERATIONS = [(method, path) for method, path in OF_A_CONVERSATION if method.lower() in DOCUMENT["paths"][path]]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url=database_url, service_auth_token=SERVICE_TOKEN)


@pytest.fixture
async def conversation_id(chat: Chat, client: httpx.AsyncClient, sign_in: SignIn) -> int:
    """Ada's conversation, with a title and a message that nobody else has."""
    ada = await sign_in("ada")
    id_: int = (await chat(ada, SECRET))["conversation_id"]
    await client.patch(f"/api/conversations/{id_}", headers=ada, json={"title": SECRET})
    return id_


@pytest.fixture(params=["his token", "a service for him"])
async def bob(request: pytest.FixtureRequest, sign_in: SignIn) -> Headers:
    return await sign_in("bob") if request.param == "his token" else served("bob")


def served(user_id: str) -> Headers:
    return {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": user_id}


async def call(
    client: httpx.AsyncClient, method: str, path: str, headers: Headers, conversation_id: int
) -> httpx.Response:
    body = example(method, path)
    if isinstance(body, dict) and "conversation_id" in body:
        body["conversation_id"] = conversation_id
    url = path.replace("{conversation_id}", str(conversation_id))
    return await client.request(method, url, headers=headers, json=body)


async def rows_of_ada(database: asyncpg.Connection) -> list[asyncpg.Record]:
    return await database.fetch(
        "SELECT * FROM conversations JOIN messages ON conversation_id = conversations.id"
        " WHERE conversations.user_id = 'ada'"
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
async def test_another_user_sees_nothing_and_changes_nothing(
    method: str, path: str, bob: Headers, conversation_id: int, client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    before = await rows_of_ada(database)

    answer = await call(client, method, path, bob, conversation_id)

    assert SECRET not in answer.text
    assert await rows_of_ada(database) == before


@pytest.mark.parametrize(("method", "path"), OF_A_CONVERSATION)
async def test_another_users_conversation_and_none_at_all_get_the_same_bytes(
    method: str, path: str, bob: Headers, conversation_id: int, client: httpx.AsyncClient
) -> None:
    foreign = await call(client, method, path, bob, conversation_id)
    absent = await call(client, method, path, bob, conversation_id + 1_000_000)

    for answer in (foreign, absent):
        assert answer.headers.pop("X-Request-ID")
    assert (foreign.status_code, foreign.content) == (absent.status_code, absent.content)
    assert foreign.headers.raw == absent.headers.raw


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_the_same_request_for_its_owner_is_served(
    method: str, path: str, conversation_id: int, client: httpx.AsyncClient
) -> None:
    answer = await call(client, method, path, served("ada"), conversation_id)

    assert answer.is_success


async def test_another_users_cursor_is_answered_as_one_that_is_none(
    conversation_id: int, bob: Headers, chat: Chat, client: httpx.AsyncClient
) -> None:
    await chat(served("ada"))
    page = await client.get("/api/conversations", headers=served("ada"), params={"limit": 1})
    cursor = httpx.URL(page.links["next"]["url"]).params["cursor"]

    foreign = await client.get("/api/conversations", headers=bob, params={"cursor": cursor})
    garbage = await client.get("/api/conversations", headers=bob, params={"cursor": "garbage"})

    assert (foreign.status_code, foreign.content) == (garbage.status_code, garbage.content)
    assert foreign.status_code == 422
