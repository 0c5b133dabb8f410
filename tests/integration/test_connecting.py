"""How a connection begins: its settings, whatever a role, a database or a pooler says, and its host."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from ai_agent.database.hosts import Connector
from ai_agent.database.target import read_target
from ai_agent.local.postgres import run_postgres
from tests.support.database import FAST, run_sql
from tests.support.proxy import run_proxy
from tests.support.refusing import LEAST, USUAL, run_refusing
from tests.support.types import NewDatabase

SPOILED = {
    "default_transaction_isolation": "'repeatable read'",
    "default_transaction_deferrable": "on",
    "row_security": "on",
    "lock_timeout": "'1ms'",
    "statement_timeout": "'1ms'",
    "idle_session_timeout": "'1h'",
    "idle_in_transaction_session_timeout": "'1h'",
    "synchronous_commit": "local",
    "timezone": "'Europe/Rome'",
}
PINNED = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",
    "lock_timeout": "0",
    "statement_timeout": "4s",
    "idle_session_timeout": "5min",
    "idle_in_transaction_session_timeout": "4s",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
    "application_name": "ai-agent",
    "tcp_keepalives_idle": "30",
}


def connector(url: str, seconds: float = 3) -> Connector:
    return Connector(read_target(url), seconds)


@asynccontextmanager
async def connected(connector: Connector) -> AsyncIterator[asyncpg.Connection]:
    connection = await connector.connect()
    try:
        yield connection
    finally:
        connection.terminate()


async def settings_of(connector: Connector, *names: str) -> dict[str, str]:
    async with connected(connector) as connection:
        return {name: await connection.fetchval(f"SELECT current_setting('{name}', true)") for name in names}


async def spoil(url: str, settings: dict[str, str]) -> None:
    """Give the database defaults that nobody would want."""
    name = urlsplit(url).path[1:]
    await run_sql(url, *(f"ALTER DATABASE {name} SET {setting} = {value}" for setting, value in settings.items()))


async def test_what_the_promises_rest_on_holds_whatever_the_database_has_set(new_database: NewDatabase) -> None:
    url = await new_database()
    await spoil(url, SPOILED)

    assert await settings_of(connector(url), *PINNED) == PINNED


async def test_a_server_that_was_told_not_to_wait_for_the_disk_is_believed(new_database: NewDatabase) -> None:
    url = await new_database()  # FAST is the server's own choice.

    assert await settings_of(connector(url), "synchronous_commit") == {"synchronous_commit": "off"}


async def test_a_stronger_commit_is_kept(new_database: NewDatabase) -> None:
    url = await new_database()
    await spoil(url, {"synchronous_commit": "remote_apply"})

    assert await settings_of(connector(url), "synchronous_commit") == {"synchronous_commit": "remote_apply"}


async def test_what_the_url_asks_of_the_server_counts(new_database: NewDatabase) -> None:
    url = await new_database()
    query = "?schema=my%22app&options=-c%20statement_timeout%3D7s%20-c%20idle_session_timeout%3D0&work_mem=1MB"
    asked = {"search_path": '"my""app"', "statement_timeout": "7s", "idle_session_timeout": "0", "work_mem": "1MB"}

    assert await settings_of(connector(url + query), *asked) == asked


async def test_a_file_of_passwords_may_hold_any_password(database_url: str, tmp_path: Path) -> None:
    parts, role = urlsplit(database_url), f"app_{secrets.token_hex(4)}"
    await run_sql(database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'se:cret\\ '")
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    file.write_text(f"*:{parts.port}:*:{role}:se\\:cret\\\\ \n")
    address = parts.netloc.rpartition("@")[2]

    found = await settings_of(connector(f"postgresql://{role}@{address}{parts.path}?passfile={file}"), "TimeZone")

    await run_sql(database_url, f"DROP ROLE {role}")
    assert found == {"TimeZone": "UTC"}


async def test_a_migration_gets_no_time_out(new_database: NewDatabase) -> None:
    migrating = Connector(read_target(await new_database()), 3, for_migrations=True)

    assert migrating.pooled
    assert await settings_of(migrating, "statement_timeout", "TimeZone") == {
        "statement_timeout": "0",
        "TimeZone": "UTC",
    }


@pytest.mark.parametrize("fate", ["08P01", "42704", "22023", "0A000", "XX000", "08004", "58000", "close", "forget"])
async def test_a_pooler_is_recognized_in_whatever_words_it_refuses(fate: str, database_url: str) -> None:
    async with run_refusing(database_url, USUAL, fate) as (pooler, url):
        connecting = connector(url)

        assert await settings_of(connecting, "TimeZone", "application_name") == {
            "TimeZone": "UTC",
            "application_name": "ai-agent",
        }
        assert connecting.pooled
        pooler.startups.clear()
        async with connected(connecting):
            assert pooler.startups == [set(USUAL)], "what was refused is not asked for again"


@pytest.mark.parametrize("fate", ["28P01", "28000", "3D000", "53300", "57P03"])
async def test_a_refusal_that_is_about_something_else_is_final(fate: str, database_url: str) -> None:
    async with run_refusing(database_url, USUAL, fate) as (pooler, url):
        connecting = connector(url)

        with pytest.raises(asyncpg.PostgresError) as refusal:
            await connecting.connect()

        assert (refusal.value.sqlstate, len(pooler.startups), connecting.pooled) == (fate, 1, False)


async def test_a_server_that_goes_away_for_a_moment_is_no_pooler(database_url: str) -> None:
    async with run_proxy(database_url) as proxy:
        connecting = connector(proxy.url)
        proxy.hang_up_once()

        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await connecting.connect()

        assert not connecting.pooled
        async with connected(connecting) as connection:
            assert await connection.fetchval("SELECT current_setting('row_security')") == "off"


async def test_a_pooler_that_refuses_even_the_time_zone_does_where_the_role_has_it(new_database: NewDatabase) -> None:
    url = await new_database()
    await spoil(url, {"timezone": "'Europe/Rome'"})
    async with run_refusing(url, LEAST, "08P01") as (_, pooled_url):
        with pytest.raises(ConnectionError, match="ALTER ROLE"):
            await connector(pooled_url).connect()
        await spoil(url, {"timezone": "UTC"})

        assert await settings_of(connector(pooled_url), "TimeZone") == {"TimeZone": "UTC"}


@pytest.mark.parametrize("fate", ["08P01", "forget"])
@pytest.mark.parametrize(("schema", "connects"), [("public", True), ("app", False)])
async def test_a_schema_is_never_dropped_behind_a_pooler(
    schema: str, connects: bool, fate: str, database_url: str
) -> None:
    async with run_refusing(database_url, USUAL, fate, f"&schema={schema}") as (_, url):
        if connects:
            assert await settings_of(connector(url), "search_path") == {"search_path": '"$user", public'}
        else:
            with pytest.raises(ConnectionError, match="search_path"):
                async with connected(connector(url)):
                    pass


@pytest.mark.parametrize("asked", ["app,public", "app, public"])
async def test_a_search_path_may_be_the_roles_own_behind_a_pooler(asked: str, new_database: NewDatabase) -> None:
    url = await new_database("CREATE SCHEMA app")
    await spoil(url, {"search_path": "app, public"})

    async with run_refusing(url, USUAL, "08P01", f"&search_path={asked}") as (_, pooled_url):
        assert await settings_of(connector(pooled_url), "search_path") == {"search_path": "app, public"}


@pytest.mark.parametrize("fate", ["08P01", "forget"])
@pytest.mark.parametrize(("role", "connects"), [("postgres", True), ("none", True), ("pg_monitor", False)])
async def test_a_role_is_never_dropped_behind_a_pooler(role: str, connects: bool, fate: str, database_url: str) -> None:
    async with run_refusing(database_url, USUAL, fate, f"&role={role}") as (_, url):
        if connects:
            async with connected(connector(url)) as connection:
                assert await connection.fetchval("SELECT current_user") == "postgres"
        else:
            with pytest.raises(ConnectionError, match="role"):
                async with connected(connector(url)):
                    pass


def at_hosts(url: str, *ports: int, query: str = "") -> str:
    parts = urlsplit(url)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@{hosts}", query=query).geturl()


async def test_a_silent_host_costs_its_share_once(database_url: str) -> None:
    silenced: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: silenced.append(writer), "127.0.0.1", 0) as silent:
        real = urlsplit(database_url).port
        assert real is not None
        connecting = connector(at_hosts(database_url, silent.sockets[0].getsockname()[1], real), 2)

        for _ in range(3):
            async with connected(connecting) as connection:
                assert await connection.fetchval("SELECT 1") == 1

        assert len(silenced) == 1
        for writer in silenced:
            writer.close()


async def test_a_host_that_refuses_is_left_for_the_next(database_url: str) -> None:
    real = urlsplit(database_url).port
    assert real is not None

    async with connected(connector(at_hosts(database_url, 1, real))) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """A server that takes no writes, another that does, and a file with the passwords of both."""
    with ExitStack() as servers:
        first = servers.enter_context(
            run_postgres(tmp_path_factory.mktemp("first") / "pg", *FAST, "default_transaction_read_only=on")
        )
        second = servers.enter_context(run_postgres(tmp_path_factory.mktemp("second") / "pg", *FAST))
        passwords = tmp_path_factory.mktemp("passwords") / "file"
        passwords.touch(0o600)
        found = [urlsplit(url) for url in (first, second)]
        passwords.write_text("".join(f"*:{url.port}:*:*:{url.password}\n" for url in found))
        yield first, second, passwords


@pytest.mark.parametrize("sessions", ["any", "read-write"])
async def test_a_host_that_takes_no_writes_is_left_for_one_that_does(
    sessions: str, pair: tuple[str, str, Path]
) -> None:
    first, second, passwords = pair
    hosts = ",".join(urlsplit(url).netloc.rpartition("@")[2] for url in (first, second))
    parts = urlsplit(first)
    query = f"target_session_attrs={sessions}&passfile={passwords}"
    url = parts._replace(netloc=f"{parts.username}@{hosts}", query=query).geturl()

    assert await settings_of(connector(url), "port") == {"port": str(urlsplit(second).port)}


async def test_where_no_host_takes_writes_it_depends_on_what_the_url_asks_for(pair: tuple[str, str, Path]) -> None:
    read_only, _, _ = pair

    async with connected(connector(read_only)) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    with pytest.raises(ConnectionError, match="no host of DATABASE_URL takes writes"):
        await connector(f"{read_only}?target_session_attrs=read-write").connect()
    async with connected(connector(f"{read_only}?target_session_attrs=primary")) as connection:
        assert await connection.fetchval("SELECT 1") == 1
