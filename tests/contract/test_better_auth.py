"""The service's promises about sessions, kept with a real better-auth server and the tokens it hands out."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import asyncpg
import httpx
import pytest

from tests.support import better_auth as server
from tests.support import operations
from tests.support.better_auth import BetterAuth, Tokens, run_better_auth
from tests.support.node import install_packages
from tests.support.service import SERVICE_TOKEN, Service, run_service
from tests.support.types import NewDatabase, StartService

# Shorter than the UTC offsets of the time zones below, so that a time read in the wrong zone changes the answer.
SESSION_SECONDS = "3600"


@pytest.fixture(scope="module")
def node() -> str:
    """The path of `node`, with better-auth installed for it."""
    return install_packages(server.FOLDER)[0]


@pytest.fixture(scope="module")
async def database_url(migrated_database: NewDatabase) -> str:
    """A database with every migration, in which better-auth makes its own tables."""
    return await migrated_database()


@pytest.fixture(scope="module")
def service_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_service(tmp_path_factory.mktemp("service"), DATABASE_URL=database_url) as service:
        yield service.url


@pytest.fixture(scope="module")
async def better_auth_url(
    node: str, database_url: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """A server that made its own tables; the parameter, if any, is better-auth's `generateId`."""
    connection = await asyncpg.connect(database_url)
    await connection.execute('DROP TABLE IF EXISTS "user", user_sessions, account, verification')
    await connection.close()
    settings = {"SESSION_SECONDS": SESSION_SECONDS, "ID_TYPE": getattr(request, "param", "")}
    with run_better_auth(node, tmp_path_factory.mktemp("better-auth"), DATABASE_URL=database_url, **settings) as url:
        yield url


@pytest.fixture
async def better_auth(better_auth_url: str, database: asyncpg.Connection) -> AsyncIterator[BetterAuth]:
    """The server, with no users yet."""
    await database.execute('TRUNCATE "user" CASCADE')
    async with BetterAuth(better_auth_url) as client:
        yield client


@pytest.fixture
async def expires_at_type(
    better_auth_url: str, database: asyncpg.Connection, request: pytest.FixtureRequest
) -> AsyncIterator[None]:
    """Give "expiresAt" another type, because Prisma and Drizzle do, and restore better-auth's own afterwards."""
    alter = """ALTER TABLE user_sessions ALTER "expiresAt" TYPE {} USING "expiresAt" AT TIME ZONE 'UTC'"""
    if request.param == "timestamptz":
        yield
        return
    await database.execute(alter.format(request.param))
    yield
    await database.execute(alter.format("timestamptz"))


@pytest.fixture
async def database_time_zone(database: asyncpg.Connection, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Change the time zone that new connections to the database start with."""
    name = await database.fetchval("SELECT current_database()")
    await database.execute(f"ALTER DATABASE {name} SET timezone = '{request.param}'")
    yield
    await database.execute(f"ALTER DATABASE {name} RESET timezone")


async def status(service_url: str, token: str) -> int:
    """The status of the cheapest request that needs a user session."""
    async with signed_in(service_url, token) as client:
        return (await client.get("/api/conversations")).status_code


def signed_in(service_url: str, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service_url, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("form", Tokens._fields)
@pytest.mark.parametrize("obtain", ["sign_up", "sign_in"])
async def test_a_token_is_accepted_in_every_form_better_auth_hands_out(
    service_url: str, better_auth: BetterAuth, obtain: Literal["sign_up", "sign_in"], form: str
) -> None:
    tokens = await better_auth.sign_up()
    if obtain == "sign_in":
        tokens = await better_auth.sign_in()

    assert await status(service_url, getattr(tokens, form)) == 200


async def test_a_service_that_knows_the_secret_accepts_every_form(
    start_service: StartService, better_auth: BetterAuth
) -> None:
    tokens = await better_auth.sign_up()

    service = start_service(BETTER_AUTH_SECRET=server.SECRET)

    assert [await status(service.url, token) for token in tokens] == [200, 200, 200]


async def test_a_service_that_knows_the_secret_refuses_the_signature_of_another_token(
    start_service: StartService, better_auth: BetterAuth
) -> None:
    ada = await better_auth.sign_up("ada@example.com")
    bob = await better_auth.sign_up("bob@example.com")

    service = start_service(BETTER_AUTH_SECRET=server.SECRET)

    assert await status(service.url, ada.signed.replace(ada.raw, bob.raw)) == 401
    assert await status(service.url, ada.cookie.replace(ada.raw, bob.raw)) == 401


async def test_a_service_with_another_secret_accepts_only_the_raw_form(
    start_service: StartService, better_auth: BetterAuth
) -> None:
    tokens = await better_auth.sign_up()

    service = start_service(BETTER_AUTH_SECRET=server.SECRET[::-1])

    assert [await status(service.url, token) for token in tokens] == [200, 401, 401]


async def test_two_sessions_of_one_user_see_the_same_conversations(service_url: str, better_auth: BetterAuth) -> None:
    phone, laptop = await better_auth.sign_up(), await better_auth.sign_in()

    async with signed_in(service_url, phone.raw) as client:
        written = (await client.post("/api/chat", json={"message": "Hello"})).json()
    async with signed_in(service_url, laptop.cookie) as client:
        listed = (await client.get("/api/conversations")).json()

    assert [conversation["id"] for conversation in listed] == [written["conversation_id"]]


async def test_another_users_conversation_is_not_found(service_url: str, better_auth: BetterAuth) -> None:
    ada = await better_auth.sign_up("ada@example.com")
    bob = await better_auth.sign_up("bob@example.com")
    async with signed_in(service_url, ada.raw) as client:
        conversation_id = (await client.post("/api/chat", json={"message": "Hello"})).json()["conversation_id"]

    async with signed_in(service_url, bob.raw) as client:
        answers = [
            await client.get(f"/api/conversations/{conversation_id}"),
            await client.patch(f"/api/conversations/{conversation_id}", json={"title": "Mine"}),
            await client.delete(f"/api/conversations/{conversation_id}"),
            await client.post("/api/chat", json={"message": "Hello", "conversation_id": conversation_id}),
        ]
        listed = await client.get("/api/conversations")

    assert [answer.status_code for answer in answers] == [404, 404, 404, 404]
    assert listed.json() == []


@pytest.mark.parametrize("better_auth_url", ["uuid", "serial"], indirect=True)
async def test_users_whose_ids_are_not_text_are_kept_apart(service_url: str, better_auth: BetterAuth) -> None:
    ada = await better_auth.sign_up("ada@example.com")
    bob = await better_auth.sign_up("bob@example.com")
    async with signed_in(service_url, ada.signed) as client:
        conversation_id = (await client.post("/api/chat", json={"message": "Hello"})).json()["conversation_id"]

    path = f"{service_url}/api/conversations/{conversation_id}"
    async with signed_in(service_url, ada.raw) as ada_client, signed_in(service_url, bob.raw) as bob_client:
        assert (await ada_client.get(path)).status_code == 200
        assert (await bob_client.get(path)).status_code == 404


@pytest.mark.parametrize("form", Tokens._fields)
async def test_signing_out_ends_that_session_at_once(service_url: str, better_auth: BetterAuth, form: str) -> None:
    phone, laptop = await better_auth.sign_up(), await better_auth.sign_in()
    assert await status(service_url, getattr(phone, form)) == 200

    await better_auth.sign_out(getattr(phone, form))

    assert [await status(service_url, token) for token in phone] == [401, 401, 401]
    assert await status(service_url, laptop.raw) == 200


async def test_revoking_one_session_ends_it_at_once(service_url: str, better_auth: BetterAuth) -> None:
    phone, laptop = await better_auth.sign_up(), await better_auth.sign_in()
    assert await status(service_url, phone.raw) == 200

    await better_auth.revoke_session(laptop.raw, revoked=phone.raw)

    assert [await status(service_url, phone.raw), await status(service_url, laptop.raw)] == [401, 200]


async def test_revoking_the_other_sessions_ends_them_at_once(service_url: str, better_auth: BetterAuth) -> None:
    phone, laptop = await better_auth.sign_up(), await better_auth.sign_in()
    assert await status(service_url, phone.raw) == 200

    await better_auth.revoke("other-sessions", laptop.raw)

    assert [await status(service_url, phone.raw), await status(service_url, laptop.raw)] == [401, 200]


async def test_revoking_all_sessions_ends_them_at_once(service_url: str, better_auth: BetterAuth) -> None:
    phone, laptop = await better_auth.sign_up(), await better_auth.sign_in()
    assert await status(service_url, phone.raw) == 200

    await better_auth.revoke("sessions", laptop.raw)

    assert [await status(service_url, phone.raw), await status(service_url, laptop.raw)] == [401, 401]


EVERY_ROW = """
    SELECT 'conversations', user_id FROM conversations
    UNION ALL SELECT 'messages', user_id FROM messages
    UNION ALL SELECT 'idempotency_keys', user_id FROM idempotency_keys
    UNION ALL SELECT 'user_sessions', "userId" FROM user_sessions
    UNION ALL SELECT 'user', id FROM "user"
"""


async def write(service_url: str, token: str) -> None:
    async with signed_in(service_url, token) as client:
        keyed = await client.post("/api/chat", json={"message": "Hello"}, headers={"Idempotency-Key": "once"})
        assert keyed.status_code == 200


@pytest.fixture
async def deleting(
    node: str, database_url: str, start_service: StartService, tmp_path: Path
) -> AsyncIterator[tuple[Service, BetterAuth]]:
    """A service, and a better-auth server with the hook of the page for operators."""
    (tmp_path / "hooks.mjs").write_text(operations.block("js", "**Erasure.**"))
    service = start_service(SERVICE_AUTH_TOKEN=SERVICE_TOKEN)
    settings = {"HOOKS": str(tmp_path / "hooks.mjs"), "CHAT_URL": service.url, "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_better_auth(node, tmp_path, DATABASE_URL=database_url, **settings) as url:
        async with BetterAuth(url) as better_auth:
            yield service, better_auth


@pytest.mark.usefixtures("better_auth")
async def test_what_a_person_wrote_goes_with_their_account(
    deleting: tuple[Service, BetterAuth], database: asyncpg.Connection
) -> None:
    service, better_auth = deleting
    ada, bob = await better_auth.sign_up("ada@example.com"), await better_auth.sign_up("bob@example.com")
    for tokens in (ada, bob):
        await write(service.url, tokens.raw)
    id_ = await database.fetchval("""SELECT id FROM "user" WHERE email = 'ada@example.com'""")
    others = [row for row in await database.fetch(EVERY_ROW) if row[1] != id_]

    deleted = await better_auth.delete_user(ada.raw)

    rows = [tuple(row) for row in await database.fetch(EVERY_ROW)]
    assert deleted == 200
    assert [row for row in rows if row[1] == id_] == [("idempotency_keys", id_)]
    assert [row for row in rows if row[1] != id_] == [tuple(row) for row in others]


@pytest.mark.usefixtures("better_auth")
async def test_an_account_stays_while_what_its_person_wrote_cannot_be_deleted(
    deleting: tuple[Service, BetterAuth], database: asyncpg.Connection
) -> None:
    service, better_auth = deleting
    ada = await better_auth.sign_up()
    await write(service.url, ada.raw)
    rows = await database.fetch(EVERY_ROW)
    service.process.terminate()
    service.process.wait(timeout=30)

    deleted = await better_auth.delete_user(ada.raw)

    assert deleted == 500
    assert await database.fetch(EVERY_ROW) == rows


@pytest.mark.usefixtures("better_auth")
async def test_a_session_ends_by_itself_when_its_time_is_over(
    service_url: str, node: str, database_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    with run_better_auth(node, tmp_path, DATABASE_URL=database_url, SESSION_SECONDS="4") as url:
        async with BetterAuth(url) as better_auth:
            tokens = await better_auth.sign_up()
            before = await status(service_url, tokens.raw)

    rest = await database.fetchval('SELECT extract(epoch FROM "expiresAt" - now())::float FROM user_sessions')
    await asyncio.sleep(rest + 0.1)  # Only time ends this user session, and better-auth's clock is not ours.

    assert [before, await status(service_url, tokens.raw)] == [200, 401]


@pytest.mark.parametrize("expires_at_type", ["timestamptz", "timestamp"], indirect=True)
@pytest.mark.parametrize("database_time_zone", ["Asia/Karachi", "America/New_York"], indirect=True)
@pytest.mark.usefixtures("expires_at_type", "database_time_zone")
async def test_a_session_is_valid_for_its_hour_and_no_longer_in_any_time_zone(
    start_service: StartService, better_auth: BetterAuth, database: asyncpg.Connection
) -> None:
    tokens = await better_auth.sign_up()
    service = start_service()
    before = await status(service.url, tokens.raw)

    await database.execute("""UPDATE user_sessions SET "expiresAt" = "expiresAt" - interval '1 hour'""")

    assert [before, await status(service.url, tokens.raw)] == [200, 401]
