"""A model for the agent that the app under test loads into this process."""

import sys
from collections.abc import AsyncIterator

import pytest

from tests.support.model_server import ModelServer, run_model_server


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelServer]:
    """The model that the scripted agent asks; each app imports the agent's module anew."""
    async with run_model_server() as server:
        monkeypatch.setenv("MODEL_URL", server.url)
        monkeypatch.delitem(sys.modules, "tests.support.scripted_agent", raising=False)
        yield server
    await sys.modules["tests.support.scripted_agent"].client.close()
