"""A message that is sent again with its Idempotency-Key is stored once, no matter how it is sent again."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from ai_agent.database.models import IdempotencyKey
from tests.support.database import until_waiting_for_locks
from tests.support.rows import add
from tests.support.types import Headers, SignIn

COUNTS = "SELECT (SELECT count(*) FROM conversations), (SELECT count(*) FROM messages)"

BAD_KEYS = {"empty": b"", "256 characters": b"k" * 256, "a space": b"a b", "not ASCII": "é".encode(), "tab": b"a\tb"}


async def send(client: httpx.AsyncClient, headers: Headers, key: str, **body: Any) -> httpx.Response:
    return await client.post(
        "/api/chat", headers={**headers, "Idempotency-Key": key}, json={"message": "Hello", **body}
    )


async def counts(database: asyncpg.Connection) -> tuple[int, int]:
    [row] = await database.fetch(COUNTS)
    return row[0], row[1]


@pytest.mark.parametrize("append", [False, True], ids=["new conversation", "existing conversation"])
async def test_the_same_key_and_body_replay_the_first_answer(
    append: bool, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    opened = (await send(client, headers, "opening")).json()["conversation_id"]
    body = {"conversation_id": opened} if append else {}

    first = await send(client, headers, "key", **body)
    stored = await counts(database)
    second = await send(client, headers, "key", **body)

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.content == first.content
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert await counts(database) == stored


async def test_a_replay_gives_the_turn_of_its_key_though_others_followed(
    client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    headers = await sign_in()
    first = await send(client, headers, "first", message="one")
    id_ = first.json()["conversation_id"]
    second = await send(client, headers, "second", message="two", conversation_id=id_)
    await send(client, headers, "third", message="three", conversation_id=id_)

    replays = [
        await send(client, headers, "first", message="one"),
        await send(client, headers, "second", message="two", conversation_id=id_),
    ]

    assert [replay.json() for replay in replays] == [first.json(), second.json()]


async def test_the_key_with_another_message_or_conversation_is_a_422_and_stores_nothing(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    id_ = (await send(client, headers, "key")).json()["conversation_id"]
    stored = await counts(database)

    answers = [
        await send(client, headers, "key", message="Other"),
        await send(client, headers, "key", conversation_id=id_),
        await send(client, headers, "key", message="Other", conversation_id=id_),
        await send(client, headers, "key", conversation_id=id_ + 1),
    ]

    detail = "This Idempotency-Key was sent before with another request: use a new key for each new request."
    assert [(answer.status_code, answer.json()) for answer in answers] == [(422, {"detail": detail})] * 4
    assert await counts(database) == stored


async def test_fields_that_are_ignored_do_not_make_another_body(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in()
    first = await send(client, headers, "key")

    second = await send(client, headers, "key", conversation_id=None, unknown=1)

    assert (second.status_code, second.content) == (200, first.content)


async def test_keys_of_two_users_never_meet(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    answers = [await send(client, await sign_in(user), "key", message=user) for user in ("ada", "bob")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert await counts(database) == (2, 4)


async def test_a_turn_that_was_refused_leaves_its_key_free(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in()
    refused = await send(client, headers, "key", conversation_id=1)

    accepted = await send(client, headers, "key")

    assert (refused.status_code, accepted.status_code) == (404, 200)
    assert "Idempotency-Replayed" not in accepted.headers


@pytest.mark.parametrize("older", ["idempotency_keys", "messages"])
async def test_a_key_finds_its_turn_though_their_times_were_changed(
    older: str, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    first = await send(client, headers, "key")
    await database.execute(f"UPDATE {older} SET created_at = created_at - interval '23 hours 59 minutes'")

    second = await send(client, headers, "key")

    assert (second.status_code, second.content) == (200, first.content)
    assert second.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("append", [False, True], ids=["new conversation", "existing conversation"])
async def test_twenty_identical_requests_at_once_store_one_turn(
    append: bool, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    body = {"conversation_id": (await send(client, headers, "opening")).json()["conversation_id"]} if append else {}
    conversations, messages = await counts(database)

    answers = await asyncio.gather(*(send(client, headers, "key", **body) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count("true") == 19
    assert await counts(database) == (conversations + (not append), messages + 2)


async def test_one_key_for_two_conversations_at_once_is_stored_in_one_of_them(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    ids = [(await send(client, headers, f"opening {n}".replace(" ", "-"))).json()["conversation_id"] for n in range(2)]

    answers = await asyncio.gather(*(send(client, headers, "key", conversation_id=ids[n % 2]) for n in range(20)))

    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [200] * 10 + [422] * 10
    assert await counts(database) == (2, 6)


@pytest.mark.parametrize("append", [False, True], ids=["new conversation", "existing conversation"])
async def test_a_retry_of_a_turn_that_was_deleted_is_a_404_and_does_not_bring_it_back(
    append: bool, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    opened = (await send(client, headers, "opening")).json()["conversation_id"]
    body = {"conversation_id": opened} if append else {}
    id_ = (await send(client, headers, "key", **body)).json()["conversation_id"]
    await client.delete(f"/api/conversations/{id_}", headers=headers)
    left = await counts(database)

    retries = [await send(client, headers, "key", **body), await send(client, headers, "key", message="Other")]

    assert [retry.status_code for retry in retries] == [404, 422]
    assert retries[0].json() == {"detail": "Conversation not found."}
    assert await counts(database) == left


async def test_a_replay_whose_messages_somebody_has_deleted_is_a_404(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    await send(client, headers, "key")
    await database.execute("DELETE FROM messages")

    retry = await send(client, headers, "key")

    assert (retry.status_code, retry.json()) == (404, {"detail": "Conversation not found."})
    assert await counts(database) == (1, 0)


@pytest.mark.parametrize("append", [False, True], ids=["new conversation", "existing conversation"])
@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
async def test_a_request_waits_for_another_that_is_claiming_its_key(
    ends: str, append: bool, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    opened = (await send(client, headers, "opening")).json()["conversation_id"]
    body = {"conversation_id": opened} if append else {}
    await database.execute("BEGIN")
    claim: dict[str, Any] = {"user_id": "ada", "key": "key", "created_at": datetime.now(UTC)}
    await add(database, IdempotencyKey(**claim, fingerprint=b"of another request", conversation_id=opened))

    request = asyncio.create_task(send(client, headers, "key", **body))
    await until_waiting_for_locks(database)
    await database.execute(ends)

    if ends == "COMMIT":
        assert (await request).status_code == 422
        assert await counts(database) == (1, 2)
    else:
        assert (await request).status_code == 200
        assert await counts(database) == ((1, 4) if append else (2, 4))


async def test_a_key_is_free_again_after_24_hours(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    first = await send(client, headers, "key")
    await database.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'")

    second = await send(client, headers, "key", message="Another day")

    assert second.status_code == 200
    assert "Idempotency-Replayed" not in second.headers
    assert second.json()["conversation_id"] != first.json()["conversation_id"]
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") == 1


@pytest.mark.parametrize("append", [False, True], ids=["new conversation", "existing conversation"])
@pytest.mark.parametrize(("time", "known"), [("-infinity", False), ("infinity", True)])
async def test_a_key_that_somebody_gave_no_finite_time_is_older_or_younger_than_24_hours(
    time: str, known: bool, append: bool, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    opened = (await send(client, headers, "opening")).json()["conversation_id"]
    body = {"conversation_id": opened} if append else {}
    await send(client, headers, "key", **body)
    await database.execute(f"UPDATE idempotency_keys SET created_at = '{time}'")

    again = await send(client, headers, "key", **body)

    assert (again.status_code, again.json()["assistant_message"]) == (200, "Echo: Hello")
    assert ("Idempotency-Replayed" in again.headers) is known
    assert await database.fetchval("SELECT count(*) FROM messages") == (4 if known else 6)


async def test_a_users_old_keys_go_away_while_new_ones_are_used(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ada, bob = await sign_in("ada"), await sign_in("bob")
    for n in range(12):
        await send(client, ada, f"old-{n}")
    await send(client, bob, "bobs")
    await database.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")

    for n in range(2):
        await send(client, ada, f"new-{n}")

    left = "SELECT array_agg(key ORDER BY key) FROM idempotency_keys"
    assert await database.fetchval(left) == ["bobs", "new-0", "new-1"]


async def test_a_key_is_as_old_as_it_is_though_its_conversation_is_of_the_future(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    id_ = (await send(client, headers, "opening")).json()["conversation_id"]
    await database.execute("UPDATE conversations SET updated_at = '2099-01-01Z'")
    first = await send(client, headers, "key", conversation_id=id_)

    replay = await send(client, headers, "key", conversation_id=id_)
    await database.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'")
    another = await send(client, headers, "key", message="Another day", conversation_id=id_)

    assert (replay.content, replay.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert (another.status_code, another.json()["user_message"]) == (200, "Another day")
    assert "Idempotency-Replayed" not in another.headers


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS.keys())
async def test_a_key_that_is_not_1_to_255_visible_ascii_characters_is_a_422(
    key: bytes, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = [*(await sign_in()).items(), (b"Idempotency-Key", key)]

    response = await client.post("/api/chat", headers=headers, json={"message": "Hello"})  # type: ignore[arg-type]

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    assert await counts(database) == (0, 0)


@pytest.mark.parametrize("key", ["!", "~" * 255, '"quoted"'])
async def test_a_key_may_be_any_visible_ascii(key: str, client: httpx.AsyncClient, sign_in: SignIn) -> None:
    assert (await send(client, await sign_in(), key)).status_code == 200


async def test_a_replay_reads_past_numbers_that_python_does_not_read(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in()
    first = await send(client, headers, "key")
    await database.execute("UPDATE messages SET metadata = '{\"n\": 1e5000}'")

    second = await send(client, headers, "key")

    assert (second.status_code, second.content) == (200, first.content)
