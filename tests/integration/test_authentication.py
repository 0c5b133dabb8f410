import base64
import hashlib
import hmac
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS, run_sql
from tests.support.types import NewDatabase, SignIn

SECRET = "zR7wqk2Vb9TfLx0HnYc4MsJd8GpUe6Ao"
RAW = "oLl9sWY9nWZCkKvx3orCAE4pwlIBZo1s"
SIGNATURE = base64.b64encode(hmac.new(SECRET.encode(), RAW.encode(), hashlib.sha256).digest()).decode()
FORMS = {"raw": RAW, "signed": f"{RAW}.{SIGNATURE}", "percent-encoded": quote(f"{RAW}.{SIGNATURE}", safe="")}

UNAUTHORIZED = {
    "detail": "Not authenticated: send 'Authorization: Bearer <token>' with the token of a current session."
}

BODIES = {
    "JSON": b'{"message": "Hello", "title": "Hello"}',
    "another object": b"{}",
    "not JSON": b"{",
    "not UTF-8": b'"\xe9"',
}

ROUTES = [
    ("POST", "/api/chat"),
    ("GET", "/api/conversations"),
    ("GET", "/api/conversations/1"),
    ("PATCH", "/api/conversations/1"),
    ("DELETE", "/api/conversations/1"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("header", [None, "Bearer unknown", "Basic YTpi", "Bearer a%00b"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_every_route_refuses_a_request_without_a_current_session(
    method: str, path: str, header: str | None, body: bytes, client: httpx.AsyncClient
) -> None:
    headers = {"Content-Type": "application/json"} | ({"Authorization": header} if header else {})

    response = await client.request(method, path, content=body, headers=headers)

    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("token", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("secret", [SECRET, None], ids=["with secret", "without secret"])
async def test_each_form_of_a_token_signs_in(
    token: str, secret: str | None, database_url: str, sign_in: SignIn
) -> None:
    await sign_in("ada", token=RAW)
    settings = make_settings(database_url=database_url, better_auth_secret=secret)

    async with running(settings) as app, client_of(app) as client:
        response = await client.get("/api/conversations", headers={"Authorization": f"Bearer {token}"})

    assert (response.status_code, response.json()) == (200, [])


@pytest.mark.parametrize(("secret", "status"), [("another secret", 401), (None, 200)])
async def test_a_wrong_signature_is_refused_where_the_secret_is_set(
    secret: str | None, status: int, database_url: str, sign_in: SignIn
) -> None:
    await sign_in("ada", token=RAW)
    settings = make_settings(database_url=database_url, better_auth_secret=secret)

    async with running(settings) as app, client_of(app) as client:
        response = await client.get("/api/conversations", headers={"Authorization": f"Bearer {FORMS['signed']}"})

    assert response.status_code == status


async def test_signing_out_takes_effect_on_the_next_request(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    assert (await client.get("/api/conversations", headers=headers)).status_code == 200

    await database.execute("DELETE FROM user_sessions")

    assert (await client.get("/api/conversations", headers=headers)).status_code == 401


async def test_a_session_is_not_extended_by_its_use(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    before = await database.fetch("SELECT * FROM user_sessions")

    await client.get("/api/conversations", headers=headers)

    assert await database.fetch("SELECT * FROM user_sessions") == before


@pytest.mark.parametrize("time_zone", ["UTC", "Asia/Karachi", "America/New_York"])
@pytest.mark.parametrize("column", ["timestamptz", "timestamp"])
async def test_a_session_ends_at_its_hour_whatever_the_column_and_the_time_zone(
    time_zone: str, column: str, migrated_database: NewDatabase
) -> None:
    url = await migrated_database(
        USER_SESSIONS.replace('"expiresAt" timestamptz', f'"expiresAt" {column}'),
        f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''{time_zone}''', current_database()); END $$",
    )
    await run_sql(url, "SET timezone = 'UTC'", *(session(name, after) for name, after in LIFETIMES.items()))

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        statuses = {
            name: (await client.get("/api/conversations", headers={"Authorization": f"Bearer {name}"})).status_code
            for name in LIFETIMES
        }

    assert statuses == {"current": 200, "just-ended": 401, "long-ended": 401}


LIFETIMES = {"current": "1 minute", "just-ended": "-1 second", "long-ended": "-1 day"}


def session(name: str, expires_after: str) -> str:
    return (
        'INSERT INTO user_sessions (id, token, "userId", "updatedAt", "expiresAt")'
        f" VALUES ('{name}', '{name}', 'ada', now(), now()::timestamp + interval '{expires_after}')"
    )


@pytest.mark.parametrize(("type_", "id_"), [("uuid", "0b6c8f8e-9d1b-4e0c-8f4e-2f6f3f0a9b11"), ("integer", "42")])
async def test_users_may_have_ids_that_are_not_text(type_: str, id_: str, migrated_database: NewDatabase) -> None:
    url = await migrated_database(
        USER_SESSIONS.replace('"userId" text', f'"userId" {type_}').replace("id text", f"id {type_}"),
        'INSERT INTO user_sessions (id, token, "userId", "updatedAt", "expiresAt")'
        f" VALUES ('{id_}', 'token', '{id_}', now(), now() + interval '1 hour')",
    )

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.post("/api/chat", headers={"Authorization": "Bearer token"}, json={"message": "Hello"})

    connection = await asyncpg.connect(url)
    owners = await connection.fetch("SELECT user_id FROM conversations")
    await connection.close()
    assert response.status_code == 200
    assert [row["user_id"] for row in owners] == [id_]


async def test_a_session_of_nobody_is_a_401(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in("ada")
    await database.execute('ALTER TABLE user_sessions ALTER "userId" DROP NOT NULL')
    await database.execute('UPDATE user_sessions SET "userId" = NULL')

    response = await client.post("/api/chat", headers=headers, json={"message": "Hello"})

    await database.execute('TRUNCATE user_sessions; ALTER TABLE user_sessions ALTER "userId" SET NOT NULL')
    assert response.status_code == 401
