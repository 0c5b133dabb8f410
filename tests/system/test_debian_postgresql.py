"""What differs between versions of PostgreSQL, tried with Debian's: the other tests use the wheel's, which is newer."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from ai_agent.local.postgres import run_postgres
from ai_agent.local.programs import TrialError, find_postgres, major_version
from tests.support.app import client_of, make_settings, running
from tests.support.database import FAST, USER_SESSIONS, migrate, run_sql

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name))
SIGN_IN = "INSERT INTO user_sessions VALUES ('1', 'infinity', 'some-token', now(), now(), '', '', 'ada')"


@pytest.fixture(scope="module")
async def debian_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A migrated database in which a user is signed in."""
    if not DEBIAN:
        pytest.skip("Debian's PostgreSQL is not installed")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("POSTGRES_BIN", str(DEBIAN[-1]))
        with run_postgres(tmp_path_factory.mktemp("debian") / "postgres", *FAST) as url:
            await run_sql(url, USER_SESSIONS, SIGN_IN)
            migrate(url)
            yield url


@pytest.fixture
async def client(debian_url: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer some-token"}
    async with running(make_settings(database_url=debian_url)) as app, client_of(app, headers=headers) as client:
        yield client


@pytest.mark.parametrize(("time", "known"), [("-infinity", False), ("infinity", True)])
async def test_a_key_that_somebody_gave_no_finite_time_is_older_or_younger_than_24_hours(
    time: str, known: bool, client: httpx.AsyncClient, debian_url: str
) -> None:
    database = await asyncpg.connect(debian_url)
    await database.execute("TRUNCATE conversations, messages, idempotency_keys")
    request = client.build_request("POST", "/api/chat", json={"message": "Hello"}, headers={"Idempotency-Key": "key"})
    first = await client.send(request)
    await database.execute(f"UPDATE idempotency_keys SET created_at = '{time}'")

    again = await client.send(request)

    await database.close()
    assert [first.status_code, again.status_code] == [200, 200]
    assert (again.json() == first.json(), "Idempotency-Replayed" in again.headers) == (known, known)


def test_a_trials_data_of_another_version_is_one_sentence_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not DEBIAN:
        pytest.skip("Debian's PostgreSQL is not installed")
    monkeypatch.delenv("POSTGRES_BIN", raising=False)  # The server of the other tests may still need it.
    with run_postgres(tmp_path, *FAST):
        made_by = major_version(find_postgres())
    monkeypatch.setenv("POSTGRES_BIN", str(DEBIAN[0]))

    with pytest.raises(TrialError) as refused, run_postgres(tmp_path, *FAST):
        pass

    assert str(refused.value) == (
        f"The data directory was initialized by PostgreSQL version {made_by}, which is not compatible with version"
        f" {DEBIAN[0].parent.name}: name the folder of a `postgres` {made_by} in POSTGRES_BIN, or start in another"
        f" folder to begin anew; the data stays in {tmp_path}"
    )
