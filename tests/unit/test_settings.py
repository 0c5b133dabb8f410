import re
from pathlib import Path

import pytest

from ai_agent.config import Settings, load_settings
from ai_agent.errors import ConfigurationError

PROJECT = Path(__file__).parents[2]
URL = "postgresql://ada:secret-word@localhost/app"

WRONG = [
    ("DATABASE_POOL_SIZE", "0"),
    ("DATABASE_MAX_OVERFLOW", "many"),
    ("DATABASE_POOL_TIMEOUT", "-1"),
    ("DATABASE_TIMEOUT", "60"),
    ("SERVICE_AUTH_TOKEN", "too short to be one"),
    ("SERVICE_AUTH_TOKEN", "no header can end with a new line\n"),
    ("SERVICE_AUTH_TOKEN", "\udcff" * 40),  # Bytes that are not UTF-8, as the environment gives them.
    ("BETTER_AUTH_SECRET", "\udcff" * 40),
    ("CORS_ORIGINS", "app.example.com"),
    ("CORS_ORIGINS", "*"),
    ("CORS_ORIGINS", "https://app.example.com/chat"),
    ("CORS_ORIGINS", "https://ada:secret-word@app.example.com"),
    ("CORS_ORIGINS", "https://é.example.com"),  # Browsers send xn--9ca.example.com.
    ("CORS_ORIGINS", "https://app.example.com:"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
    ("METRICS_PATH", "metrics"),
    ("METRICS_PATH", "/health"),
    ("METRICS_PATH", "/api/metrics"),
]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_example_file_shows_every_setting_and_no_other() -> None:
    shown = re.findall(r"^([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)

    assert sorted(shown) == sorted(name.upper() for name in Settings.model_fields)


def test_the_example_file_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Settings(_env_file=PROJECT / ".env.example")  # type: ignore[call-arg]
    monkeypatch.setenv("DATABASE_URL", example.database_url.get_secret_value())

    assert example == load_settings()


def test_a_missing_database_url_is_one_sentence_that_names_it() -> None:
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL is not set; .*$"):
        load_settings()


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as error:
        load_settings()

    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret-word" not in str(error.value)


def test_the_pool_may_not_wait_longer_than_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("DATABASE_TIMEOUT", "1")

    with pytest.raises(ConfigurationError, match="DATABASE_POOL_TIMEOUT must not exceed DATABASE_TIMEOUT"):
        load_settings()


def test_origins_are_separated_by_commas_and_become_what_browsers_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv(
        "CORS_ORIGINS", "https://App.example.com/, http://localhost:3000,http://[::1]:80,https://b.com:443"
    )

    assert load_settings().cors_origins == (
        "https://app.example.com",
        "http://localhost:3000",
        "http://[::1]",
        "https://b.com",
    )


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("BETTER_AUTH_SECRET", "")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "")

    assert load_settings().better_auth_secret is None
    assert load_settings().database_pool_size == 5


def test_secrets_are_not_shown_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("BETTER_AUTH_SECRET", "another-secret-word")

    assert "secret-word" not in repr(load_settings())
