from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from tests.support.app import client_of, make_settings, running
from tests.support.types import SignIn

FRONT_END = "https://app.example.com"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(database_url=database_url, cors_origins=f"{FRONT_END}/, http://localhost:3000")
    async with running(settings) as app, client_of(app, headers={"Origin": FRONT_END}) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_preflight_allows_the_methods_and_headers_of_the_api(method: str, client: httpx.AsyncClient) -> None:
    asked = "authorization,content-type,idempotency-key,x-timezone,x-request-id"

    response = await client.options(
        "/api/chat", headers={"Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
    )

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == FRONT_END
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST, PATCH, DELETE"
    assert response.headers["Access-Control-Allow-Headers"] == asked


async def test_a_listed_origin_may_reach_a_private_address(client: httpx.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}

    response = await client.options("/api/chat", headers=asked)

    assert (response.status_code, response.headers["Access-Control-Allow-Private-Network"]) == (200, "true")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/conversations", 200), ("GET", "/api/conversations/1", 404), ("GET", "/api/conversations/x", 422)],
)
async def test_a_listed_origin_may_read_answers_and_errors(
    method: str, path: str, status: int, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    response = await client.request(method, path, headers=await sign_in())

    exposed = {name.strip() for name in response.headers["Access-Control-Expose-Headers"].split(",")}
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == FRONT_END
    assert exposed == {"Link", "Retry-After", "WWW-Authenticate", "Idempotency-Replayed", "X-Request-ID"}


@pytest.mark.parametrize(("path", "status"), [("/api/conversations", 401), ("/nowhere", 404), ("/health", 200)])
async def test_answers_from_outside_the_routers_can_be_read_too(
    path: str, status: int, client: httpx.AsyncClient
) -> None:
    response = await client.get(path)

    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == FRONT_END


async def test_another_origin_may_read_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/conversations", headers={"Origin": "https://evil.example"})

    assert "Access-Control-Allow-Origin" not in response.headers


OTHERS = {
    "another": "https://evil.example",
    "null": "null",
    "one that would break the line": "https://evil.example\t\x1b[2Jforged \xe9\x85",
    "a long one": "https://" + "a" * 5000,
}


@pytest.mark.parametrize("origin", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize(
    ("listed", "status", "reason"),
    [("", 405, "CORS_ORIGINS is not set"), (FRONT_END, 400, "CORS_ORIGINS does not list it")],
)
async def test_a_refused_preflight_is_logged_with_its_origin_and_the_setting(
    listed: str, status: int, reason: str, origin: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {b"Origin": origin.encode("latin-1"), b"Access-Control-Request-Method": b"POST"}

    async with running(make_settings(database_url=database_url, cors_origins=listed)) as app, client_of(app) as client:
        response = await client.options("/api/chat", headers=headers)

    lines = [record.getMessage() for record in caplog.records if "preflight" in record.getMessage()]
    assert response.status_code == status
    assert lines == [f"A browser's preflight from the origin {origin[:200]!a} was refused: {reason}."]


async def test_a_preflight_for_another_method_is_logged_too(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await client.options("/api/chat", headers={"Access-Control-Request-Method": "PUT"})

    assert response.status_code == 400
    assert f"from the origin '{FRONT_END}' was refused: Disallowed CORS method." in caplog.text


async def test_options_that_no_browser_sent_are_not_logged(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    async with client_of(app) as client:
        response = await client.options("/api/chat")

    assert response.status_code == 405
    assert "preflight" not in caplog.text


async def test_without_the_setting_no_origin_may_read_anything(database_url: str) -> None:
    async with running(make_settings(database_url=database_url)) as app, client_of(app) as client:
        response = await client.get("/health", headers={"Origin": FRONT_END})

    assert "Access-Control-Allow-Origin" not in response.headers
