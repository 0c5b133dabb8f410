"""While the database is away, every request gets a 503 in time; when it is back, requests are served again."""

import asyncio
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from ai_agent.database.models import Conversation
from tests.support.app import client_of, make_settings, running
from tests.support.database import WAITING, run_sql, until_waiting_for_locks
from tests.support.postgres import OwnServer
from tests.support.proxy import Proxy, run_proxy
from tests.support.rows import add
from tests.support.service import SERVICE_TOKEN
from tests.support.types import Headers, SignIn

ORIGIN = "https://app.example.com"
UNAVAILABLE = {"detail": "The database is not available at the moment; try again shortly."}

CONVERSATION_ID = 10**9

# One request of every kind that needs the database, ordered so that each finds its conversation.
KINDS: dict[str, tuple[str, str, Any]] = {
    "first message": ("POST", "/api/chat", {"message": "Hello"}),
    "further message": ("POST", "/api/chat", {"message": "Hello", "conversation_id": CONVERSATION_ID}),
    "list": ("GET", "/api/conversations", None),
    "read": ("GET", f"/api/conversations/{CONVERSATION_ID}", None),
    "rename": ("PATCH", f"/api/conversations/{CONVERSATION_ID}", {"title": "Holiday plans"}),
    "delete": ("DELETE", f"/api/conversations/{CONVERSATION_ID}", None),
    "readiness": ("GET", "/health/ready", None),
}
BY_SERVICE: dict[str, tuple[str, str, Any]] = {
    "messages of a service": (
        "POST",
        f"/api/conversations/{CONVERSATION_ID}/messages",
        [{"role": "tool", "content": "09:30"}],
    )
}
READS = ("list", "read", "readiness")

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'ai-agent'"
)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with run_proxy(database_url) as proxy:
        yield proxy


@asynccontextmanager
async def serving(database_url: str, headers: Headers, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
    """A new service on this database, and a browser's client of it."""
    given = make_settings(database_url=database_url, cors_origins=ORIGIN, **settings)
    async with running(given) as app, client_of(app, headers={**headers, "Origin": ORIGIN}) as client:
        yield client


@pytest.fixture
async def client(proxy: Proxy, sign_in: SignIn, database: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    """A signed-in client of a service behind the proxy, with one conversation and several connections in the pool."""
    await store_conversation(database)
    async with serving(proxy.url, await sign_in()) as client:
        await asyncio.gather(*(ask(client, "list") for _ in range(5)))
        yield client


async def store_conversation(database: asyncpg.Connection) -> None:
    await add(database, Conversation(id=CONVERSATION_ID, user_id="ada"))


async def ask(client: httpx.AsyncClient, kind: str) -> httpx.Response:
    method, path, body = (KINDS | BY_SERVICE)[kind]
    return await client.request(method, path, json=body)


async def ask_everything(client: httpx.AsyncClient) -> list[httpx.Response]:
    return await asyncio.gather(*(ask(client, kind) for kind in KINDS))


def assert_unavailable(response: httpx.Response) -> None:
    assert (response.status_code, response.json()) == (503, UNAVAILABLE)
    assert response.elapsed < timedelta(seconds=5)
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


async def assert_recovered(client: httpx.AsyncClient) -> None:
    response = await ask(client, "list")
    assert response.status_code == 200
    assert response.elapsed < timedelta(seconds=3)


FAULTS: dict[str, Callable[[Proxy], None]] = {
    "refuses connections": Proxy.refuse,
    "never answers": Proxy.swallow,
    "crawls": lambda proxy: proxy.delay(5),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_every_request_is_a_503_while_the_database(
    fault: Callable[[Proxy], None], proxy: Proxy, client: httpx.AsyncClient
) -> None:
    fault(proxy)

    health, *responses = await asyncio.gather(client.get("/health"), *(ask(client, kind) for kind in KINDS))

    for response in responses:
        assert_unavailable(response)
    assert (health.status_code, health.elapsed < timedelta(seconds=2)) == (200, True)
    await proxy.forward()
    await assert_recovered(client)


async def test_a_write_whose_answer_never_comes_is_a_503_and_was_stored_whole(
    proxy: Proxy, client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    proxy.lose_answer(b"lose my answer")

    response = await client.post("/api/chat", json={"message": "lose my answer"})

    assert_unavailable(response)
    contents = await database.fetch("SELECT content FROM messages ORDER BY id")
    assert [row["content"] for row in contents] == ["lose my answer", "Echo: lose my answer"]
    await assert_recovered(client)


async def test_a_write_whose_connection_breaks_before_the_answer_is_a_503(
    proxy: Proxy, client: httpx.AsyncClient
) -> None:
    proxy.lose_answer(b"lose my answer", "reset")

    response = await client.post("/api/chat", json={"message": "lose my answer"})

    assert_unavailable(response)
    await assert_recovered(client)


type Drop = Callable[[Proxy, asyncpg.Connection], Awaitable[None]]


async def terminate(_: Proxy, database: asyncpg.Connection) -> None:
    await database.execute(TERMINATE)


async def reset(proxy: Proxy, _: asyncpg.Connection) -> None:
    proxy.reset()


async def forget(proxy: Proxy, _: asyncpg.Connection) -> None:
    proxy.forget()


DROPS: dict[str, Drop] = {
    "the server ended every connection": terminate,
    "every connection was reset": reset,
    "every connection died unnoticed": forget,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS.keys())
async def test_the_next_request_is_served_after(
    drop: Drop, kind: str, proxy: Proxy, client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    await drop(proxy, database)

    responses = [await ask(client, kind), await ask(client, "list")]

    assert [response.status_code for response in responses] == [204 if kind == "delete" else 200, 200]


@pytest.mark.parametrize("kind", ["further message", "list", "messages of a service"])
async def test_a_service_that_calls_without_a_session_is_served_after_its_idle_connections_died(
    kind: str, proxy: Proxy, database: asyncpg.Connection
) -> None:
    await store_conversation(database)
    headers = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}
    async with serving(proxy.url, headers, service_auth_token=SERVICE_TOKEN) as client:
        await asyncio.gather(*(ask(client, "list") for _ in range(5)))
        await asyncio.sleep(1.1)  # The pool must not trust a connection that has been idle for a while.
        proxy.forget()

        response = await ask(client, kind)

    assert response.status_code in {200, 201}


async def test_connections_that_fell_silent_for_good_cost_one_503_and_not_one_each(
    proxy: Proxy, client: httpx.AsyncClient
) -> None:
    proxy.strand()

    assert_unavailable(await ask(client, "list"))

    for _ in range(5):
        await assert_recovered(client)


async def test_a_full_pool_is_a_503_for_those_who_wait_in_vain(
    database_url: str, database: asyncpg.Connection, sign_in: SignIn
) -> None:
    await store_conversation(database)
    pool = {"database_pool_size": 1, "database_max_overflow": 0, "database_pool_timeout": 0.5}
    async with serving(database_url, await sign_in(), **pool) as client:
        async with database.transaction():
            await database.execute("SELECT FROM conversations FOR UPDATE")
            holder = asyncio.create_task(ask(client, "further message"))
            await until_waiting_for_locks(database)
            waiting = await ask(client, "list")

        assert_unavailable(waiting)
        assert (await holder).status_code == 200
        await assert_recovered(client)


async def test_a_statement_that_was_given_up_does_not_go_on_in_the_database(
    client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    async with database.transaction():
        await database.execute("SELECT FROM conversations FOR UPDATE")
        response = await ask(client, "further message")

    assert_unavailable(response)
    assert await database.fetchval(f"SELECT count(*) {WAITING}") == 0
    assert await database.fetchval("SELECT count(*) FROM messages") == 0


@pytest.fixture
async def read_only(database_url: str, database: asyncpg.Connection) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Set read-only `on` or `off` for new connections; a test ends the open ones itself."""

    async def read_only(value: str) -> None:
        await run_sql(database_url, "SET default_transaction_read_only = off", SET_READ_ONLY.format(value))

    yield read_only
    await read_only("off")


SET_READ_ONLY = """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {}', current_database());
    END $$
"""


async def test_a_read_only_database_serves_reads_and_refuses_writes_with_a_503(
    read_only: Callable[[str], Awaitable[None]], client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    await read_only("on")
    await database.execute(TERMINATE)

    responses = {kind: await ask(client, kind) for kind in KINDS}

    for kind, response in responses.items():
        if kind in READS:
            assert response.status_code == 200
        else:
            assert_unavailable(response)


async def test_writes_are_served_again_when_the_database_is_no_longer_read_only(
    read_only: Callable[[str], Awaitable[None]], client: httpx.AsyncClient, database: asyncpg.Connection
) -> None:
    await read_only("on")
    await database.execute(TERMINATE)
    await asyncio.gather(*(ask(client, "list") for _ in range(5)))
    assert_unavailable(await ask(client, "first message"))

    await read_only("off")

    responses = await asyncio.gather(*(ask(client, "first message") for _ in range(5)))
    assert {response.status_code for response in responses} == {200}


REFUSED = {
    "an unknown role": ({"netloc": "nobody:secret@{host}"}, "nobody"),
    "an unknown database": ({"path": "/none"}, 'database "none" does not exist'),
    "an unknown setting": (
        {"query": "options=-c%20no_such_setting%3Don"},
        'unrecognized configuration parameter "no_such_setting"',
    ),
}


@pytest.mark.parametrize(("change", "why"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_server_that_refuses_the_connection_is_a_503_with_the_reason_in_the_log(
    change: dict[str, str], why: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(database_url)
    change = {name: value.format(host=parts.netloc.rpartition("@")[2]) for name, value in change.items()}
    async with serving(parts._replace(**change).geturl(), {"Authorization": "Bearer some-token"}) as client:
        responses = await ask_everything(client)

    for response in responses:
        assert_unavailable(response)
    assert why in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the processes of a server")
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_server_that_is_gone_is_a_503_and_its_return_needs_no_restart(end: str, own_server: OwnServer) -> None:
    server, headers = own_server
    async with serving(server.url, headers) as client:
        await asyncio.gather(*(ask(client, "list") for _ in range(5)))

        getattr(server, end)()

        for response in await ask_everything(client):
            assert_unavailable(response)
        server.start()
        await assert_recovered(client)


async def test_a_server_that_is_starting_up_is_a_503_until_it_has_started(own_server: OwnServer) -> None:
    server, headers = own_server
    server.hold.touch()
    server.stop()
    async with serving(server.url, headers) as client:
        starting = asyncio.create_task(asyncio.to_thread(server.start_slowly))
        await until_starting_up(server.url)

        responses = await ask_everything(client)

        server.hold.unlink()
        await starting
        for response in responses:
            assert_unavailable(response)
        await assert_recovered(client)


async def until_starting_up(url: str) -> None:
    while True:
        try:
            await asyncpg.connect(url)
        except asyncpg.CannotConnectNowError:
            return
        except OSError:
            await asyncio.sleep(0.01)  # The server does not listen yet, and refuses at once.


async def test_a_server_out_of_connection_slots_is_a_503_until_one_is_free(own_server: OwnServer) -> None:
    server, headers = own_server
    server.stop()
    server.start("max_connections=8", "superuser_reserved_connections=0", "max_wal_senders=0")
    others = [await asyncpg.connect(server.url) for _ in range(8)]
    async with serving(server.url, headers) as client:
        responses = await ask_everything(client)

        for other in others:
            await other.close()
        for response in responses:
            assert_unavailable(response)
        await assert_recovered(client)


@pytest.fixture
def tiny_disk() -> Iterator[Path]:
    """A file system of 1 MiB, where PostgreSQL may enter: the temporary folders of root are closed to it."""
    disk = Path(tempfile.mkdtemp(prefix="tiny-disk-"))
    disk.chmod(0o755)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", disk], check=False)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    (disk / "messages").mkdir()
    shutil.chown(disk / "messages", "nobody")  # Only root may mount, and PostgreSQL then runs as nobody.
    yield disk
    subprocess.run(["umount", disk], check=True)
    disk.rmdir()


async def test_a_full_disk_serves_reads_and_refuses_writes_with_a_503(own_server: OwnServer, tiny_disk: Path) -> None:
    server, headers = own_server
    await run_sql(server.url, f"CREATE TABLESPACE tiny LOCATION '{tiny_disk}/messages'", MOVE_MESSAGES.format("tiny"))
    async with serving(server.url, headers) as client:
        fill(tiny_disk / "filler")

        refused = await client.post("/api/chat", json={"message": secrets.token_hex(50_000)})

        assert_unavailable(refused)
        assert (await ask(client, "list")).json() == []
        (tiny_disk / "filler").unlink()
        assert (await ask(client, "first message")).status_code == 200
    await run_sql(server.url, MOVE_MESSAGES.format("pg_default"), "DROP TABLESPACE tiny")


MOVE_MESSAGES = "ALTER TABLE messages SET TABLESPACE {}"


def fill(file: Path) -> None:
    subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=1k"], check=False, capture_output=True)
