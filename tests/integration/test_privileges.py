"""The service's role needs no other privileges than the documented ones."""

import asyncpg
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.service import SERVICE_TOKEN
from tests.support.types import AppRole, SignIn


@pytest.fixture
async def app_url(database_url: str, app_role: AppRole) -> str:
    """The database's URL for a role with just those privileges."""
    return await app_role(database_url)


async def test_a_role_with_the_privileges_of_the_readme_serves_every_kind_of_request(
    app_url: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in("ada") | {"Idempotency-Key": "key"}
    settings = make_settings(database_url=app_url, service_auth_token=SERVICE_TOKEN)
    for_ada = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada", "Idempotency-Key": "another"}
    async with running(settings) as app, client_of(app, headers=headers) as client:
        sent = await client.post("/api/chat", json={"message": "Hello"})
        again = await client.post("/api/chat", json={"message": "Hello"})
        path = f"/api/conversations/{sent.json()['conversation_id']}"
        answers = [
            await client.get("/health/ready"),
            await client.get("/api/conversations"),
            await client.get(path),
            await client.patch(path, json={"title": "Holiday plans"}),
            await client.post("/api/conversations", json={}, headers=for_ada | {"Idempotency-Key": "opening"}),
            await client.post(f"{path}/messages", json=[{"role": "tool", "content": "09:30"}], headers=for_ada),
            await client.delete(path),
        ]

    assert (again.status_code, again.json()) == (200, sent.json())
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 201, 201, 204]
    assert await database.fetchval("SELECT count(*) FROM messages") == 0
