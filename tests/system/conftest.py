"""A PostgreSQL server that a test may break, trials of `ai-agent`, and a model that follows a script."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.database import USER_SESSIONS, migrate, run_sql
from tests.support.model_server import ModelServer, run_model_server
from tests.support.postgres import OwnServer, Server
from tests.support.rows import seed, user_session
from tests.support.trial import Start, start_trial


@pytest.fixture(scope="session")
async def _prepared(tmp_path_factory: pytest.TempPathFactory) -> OwnServer:
    server = Server(tmp_path_factory.mktemp("own") / "postgres")
    server.start()
    await seed(server.url, USER_SESSIONS, user_session("ada", "token"))
    migrate(server.url)
    server.stop()
    return OwnServer(server, {"Authorization": "Bearer token"})


@pytest.fixture
async def own_server(_prepared: OwnServer) -> AsyncIterator[OwnServer]:
    """A server of the test's own, with PostgreSQL's default settings and no conversations."""
    _prepared.server.start()
    await run_sql(_prepared.server.url, "TRUNCATE conversations, messages, idempotency_keys")
    yield _prepared
    _prepared.server.stop()


@pytest.fixture(scope="module")
async def shared_model() -> AsyncIterator[ModelServer]:
    """The model that a module's services ask."""
    async with run_model_server() as server:
        yield server


@pytest.fixture
def model(shared_model: ModelServer) -> ModelServer:
    """The same, with nothing asked and no script."""
    shared_model.reset()
    return shared_model


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `ai-agent` in the test's folder, with the environment given, and wait for its page in `output`."""
    with ExitStack() as trials:
        yield partial(start_trial, tmp_path, trials)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a trial that the tests leave running."""
    folder = tmp_path_factory.mktemp("trial")
    with ExitStack() as trials:
        start_trial(folder, trials)
        yield folder
