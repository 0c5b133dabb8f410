"""A service that trusts others."""

from collections.abc import Iterator

import pytest

from tests.support.service import SERVICE_TOKEN, run_service


@pytest.fixture(scope="session")
def service_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for all contract tests that need no other settings."""
    settings = {"DATABASE_URL": database_url, "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_service(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service.url
