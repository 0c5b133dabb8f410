"""Reading a conversation takes little memory, even when it is very long."""

import asyncio

import asyncpg
import pytest

from tests.support.memory import MIB, measure_growth
from tests.support.pages import TEXTS, add_texts
from tests.support.raw import compose, exchange_async
from tests.support.types import SignIn, StartService


@pytest.mark.parametrize(
    ("messages", "text", "length"),
    [(100_000, "small", 1), *((1000, text, 100_000) for text in TEXTS.values())],
    ids=["100,000 small messages", *(f"1,000 long messages of {name}" for name in TEXTS)],
)
async def test_ten_readers_of_a_big_conversation_take_little_memory(
    messages: int, text: str, length: int, start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    id_, headers, service = await add_texts(database, messages, text, length), await sign_in("ada"), start_service()
    requests = [compose("GET", f"/api/conversations/{id_}{query}", headers) for query in ("", "?limit=50")]

    readers = asyncio.gather(*(exchange_async(service.url, requests[n % 2]) for n in range(10)))
    answers, growth = await measure_growth(service, readers)

    assert [answer.status for answer in answers] == [200] * 10
    assert growth < 150 * MIB
