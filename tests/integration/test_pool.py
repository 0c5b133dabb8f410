"""More clients than connections: they are served in the order in which they came."""

import asyncio

import httpx
import pytest

from ai_agent.config import Settings
from tests.support.app import make_settings
from tests.support.types import Headers, SignIn


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
