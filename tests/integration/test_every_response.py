"""What every response has, and what no response does, wherever it comes from."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.service import SERVICE_TOKEN
from tests.support.types import Chat, SignIn

NOWHERE = [
    *("/nowhere", "/api", "/api/", "/api/nowhere", "/api/chat/", "/api/conversations/", "/api/conversations/1/"),
    *("/api/conversations/1/messages/", "/api/conversations/1/nowhere", "/api//chat", "//api/chat", "/API/chat"),
    *("/health/", "/health/ready/", "/metrics/", "/docs/", "/docs/static", "/openapi.json/"),
]
NO_FILES = ["", "swagger-ui", "swagger-ui/", "%00", "%2e%2e/main.py", "docs.js/", "a" * 5000]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("path", NOWHERE)
async def test_an_unknown_path_is_a_404_in_json_and_never_a_redirect(
    path: str, method: str, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    for headers in ({}, await sign_in()):
        response = await client.request(method, f"http://service.test{path}", headers=headers)

        assert (response.status_code, response.headers.get("Location")) == (404, None)
        assert response.headers["Content-Type"] == "application/json"
        assert method == "HEAD" or response.json() == {"detail": "Not Found"}


@pytest.mark.parametrize("name", NO_FILES)
async def test_no_file_of_the_documentation_is_a_404_in_json_and_never_a_redirect(
    name: str, client: httpx.AsyncClient
) -> None:
    response = await client.get(f"http://service.test/docs/static/{name}")

    assert (response.status_code, response.headers.get("Location")) == (404, None)
    assert response.json() == {"detail": "Not Found"}


@pytest.fixture
async def unlucky_client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app whose database is away."""
    settings = make_settings(database_url="postgresql://127.0.0.1:1/none", service_auth_token=SERVICE_TOKEN)
    async with running(settings) as app, client_of(app) as client:
        yield client


EVERYWHERE = [
    *(("GET", "/api/conversations", 401), ("GET", "/api/nowhere", 404), ("PUT", "/api/chat", 405)),
    *(("OPTIONS", "/api/chat", 405), ("GET", "/health", 200), ("GET", "/health/ready", 503), ("GET", "/metrics", 200)),
    *(("GET", "/docs", 200), ("GET", "/openapi.json", 200), ("GET", "/nowhere", 404)),
]


@pytest.mark.parametrize(("method", "path", "status"), EVERYWHERE)
async def test_every_response_forbids_storing_and_sniffing(
    method: str, path: str, status: int, unlucky_client: httpx.AsyncClient
) -> None:
    response = await unlucky_client.request(method, path)

    assert response.status_code == status
    assert response.headers.get_list("Cache-Control") == ["no-store"]
    assert response.headers.get_list("X-Content-Type-Options") == ["nosniff"]


async def test_responses_to_a_user_forbid_storing_and_sniffing_too(
    client: httpx.AsyncClient, sign_in: SignIn, chat: Chat, unlucky: str
) -> None:
    headers = await sign_in()
    id_ = (await chat(headers))["conversation_id"]
    responses = [
        await client.post("/api/chat", headers=headers, json={"message": "Hi"}),
        await client.post("/api/chat", headers=headers, json={"message": ""}),
        await client.post("/api/chat", headers=headers, content=b"a" * 1024 * 1025),
        await client.post("/api/chat", headers=headers, json={"message": unlucky}),
        await client.get("/api/conversations", headers=headers),
        await client.get(f"/api/conversations/{id_}", headers=headers),
        await client.get("/api/conversations/0", headers=headers),
        await client.delete(f"/api/conversations/{id_}", headers=headers),
    ]

    assert [response.status_code for response in responses] == [200, 422, 413, 500, 200, 200, 404, 204]
    assert [response.headers["Cache-Control"] for response in responses] == ["no-store"] * 8
    assert [response.headers["X-Content-Type-Options"] for response in responses] == ["nosniff"] * 8


async def test_the_files_of_the_documentation_may_be_kept(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs/static/docs.js")

    assert response.headers.get_list("Cache-Control") == ["public, max-age=31536000, immutable"]
    assert response.headers.get_list("X-Content-Type-Options") == ["nosniff"]


@pytest.mark.parametrize("path", ["/", "/api/chat/", "/api/chat", "/health", "/docs", "/openapi.json", "/docs/static"])
async def test_no_response_repeats_the_host_of_the_request(path: str, client: httpx.AsyncClient) -> None:
    response = await client.get(path, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})

    assert "evil.example" not in response.text + str(response.headers)
