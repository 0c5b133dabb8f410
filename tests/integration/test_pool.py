"""The pool: clients are served in the order in which they came, from the connections that are good."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from ai_agent.config import Settings
from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS
from tests.support.rows import user_session
from tests.support.types import AppRole, Headers, NewDatabase, SignIn


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url=database_url, database_pool_size=2, database_max_overflow=0)


@pytest.fixture
async def headers(sign_in: SignIn) -> Headers:
    return await sign_in()


async def test_no_client_starves_while_others_ask_again_and_again(client: httpx.AsyncClient, headers: Headers) -> None:
    served = [0, 0, 0]

    async def ask(number: int) -> None:
        while sum(served) < 120:
            response = await client.get("/api/conversations", headers=headers)
            assert response.status_code == 200
            served[number] += 1

    await asyncio.gather(*(ask(number) for number in range(3)))

    assert min(served) > 20, served


LAST_USED = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE usename = $1 ORDER BY state_change DESC LIMIT 1
"""


async def test_a_connection_that_cannot_be_replaced_keeps_one_request_at_most_from_the_others(
    migrated_database: NewDatabase, app_role: AppRole
) -> None:
    url = await migrated_database(USER_SESSIONS, user_session("ada", "some-token"))
    role_url = await app_role(url)
    role, headers = urlsplit(role_url).username, {"Authorization": "Bearer some-token"}
    database = await asyncpg.connect(url)

    async with running(make_settings(database_url=role_url)) as app, client_of(app, headers=headers) as client:
        await asyncio.gather(*(client.get("/api/conversations") for _ in range(2)))
        await database.execute(f"ALTER ROLE {role} CONNECTION LIMIT 1")
        ended = await database.fetchval(LAST_USED, role)
        answers = [await client.get("/api/conversations") for _ in range(3)]

    await database.close()
    assert ended
    assert [answer.status_code for answer in answers] == [503, 200, 200]
