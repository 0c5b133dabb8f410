"""Two replicas behind HAProxy share one PostgreSQL through PgBouncer, and one of them is killed."""

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.support.middlemen import run_haproxy, run_pgbouncer
from tests.support.types import Headers, SignIn, StartService

TURNS = 15


async def send(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    """Send until the request is answered; a write has an idempotency key, so that it is stored once."""
    for _ in range(100):
        with suppress(httpx.TransportError):
            response = await client.request(method, path, **options)
            if response.status_code < 500:
                assert response.status_code == 200, response.text
                return response.json()
        await asyncio.sleep(0.1)  # HAProxy needs up to 400 ms to drop the dead replica.
    raise AssertionError(f"{method} {path} was not answered in a hundred tries")


async def converse(url: str, headers: Headers, halfway: asyncio.Event) -> list[str]:
    """Send TURNS messages, read the conversation after each, and return what was acknowledged, in order."""
    acknowledged: list[str] = []
    conversation_id = None
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        for turn in range(TURNS):
            if turn == TURNS // 2:
                halfway.set()
            message, key = secrets.token_hex(), {"Idempotency-Key": secrets.token_hex()}
            body = {"message": message, "conversation_id": conversation_id}
            conversation_id = (await send(client, "POST", "/api/chat", json=body, headers=key))["conversation_id"]
            acknowledged += [message, f"Echo: {message}"]
            [listed] = await send(client, "GET", "/api/conversations")
            conversation = await send(client, "GET", f"/api/conversations/{listed['id']}")
            assert [stored["content"] for stored in conversation["messages"]] == acknowledged
    return acknowledged


async def test_every_acknowledged_turn_is_stored_once_though_a_replica_is_killed(
    database_url: str, start_service: StartService, sign_in: SignIn, database: asyncpg.Connection, tmp_path: Path
) -> None:
    halfway = asyncio.Event()
    users = [await sign_in(f"user-{number}") for number in range(8)]
    with run_pgbouncer(tmp_path, database_url) as pooled_url:
        replicas = [start_service(DATABASE_URL=pooled_url) for _ in range(2)]
        with run_haproxy(tmp_path, *(replica.url for replica in replicas)) as url:
            conversations = asyncio.gather(*(converse(url, user, halfway) for user in users))
            await asyncio.wait_for(halfway.wait(), 60)
            replicas[0].process.kill()
            acknowledged = await conversations

    assert all("POST /api/chat 200" in replica.log.read_text() for replica in replicas)
    rows = await database.fetch("SELECT array_agg(content ORDER BY id) FROM messages GROUP BY conversation_id")
    assert sorted(contents for (contents,) in rows) == sorted(acknowledged)
    assert await database.fetchval("SELECT count(*) FROM conversations") == len(users)
