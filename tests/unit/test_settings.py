import re
from pathlib import Path

import pytest

from ai_agent.config import Settings, find_mistyped, load_settings
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
    ("CORS_ORIGINS", "null"),
    ("CORS_ORIGINS", "tauri://localhost/index.html"),
    ("CORS_ORIGINS", "tauri:localhost"),
    ("CORS_ORIGINS", "https://*.example.com"),
    ("CORS_ORIGINS", "https://app.example.com:65536"),
    ("CORS_ORIGINS", "file:///srv/www"),
    ("CORS_ORIGINS", "wss://app.example.com"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
    ("METRICS_PATH", "metrics"),
    ("ASSISTANT_TIMEOUT", "0"),
    ("ASSISTANT_TIMEOUT", "3601"),
    ("ASSISTANT_HISTORY", "-1"),
    ("ASSISTANT_HISTORY", "1001"),
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


def test_the_readme_has_every_setting_with_its_default() -> None:
    table = (PROJECT / "README.md").read_text().partition("## Configuration")[2].partition("\n## ")[0]
    shown: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`[A-Z_`, ]+) \| (.*?) \|", table, re.MULTILINE):
        shown |= dict(zip(names.split(", "), defaults.split(", "), strict=True))

    assert {name.strip("`"): default.strip("`") for name, default in shown.items()} == {
        name.upper(): DEFAULTS.get(name, str(field.default).removesuffix(".0"))
        for name, field in Settings.model_fields.items()
    }


DEFAULTS = {"database_url": "required"} | dict.fromkeys(
    ("better_auth_secret", "service_auth_token", "cors_origins", "assistant"), "none"
)


def test_the_example_file_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    example = Settings(_env_file=PROJECT / ".env.example")  # type: ignore[call-arg]

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


@pytest.mark.parametrize(
    "origin",
    [
        "tauri://localhost",
        "capacitor://localhost",
        "ionic://localhost",
        "http://tauri.localhost",
        "app://obsidian.md",
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "moz-extension://5d8c1b9e-6a1f-4e0b-9b51-0c5c6f1c1f3a",
        "safari-web-extension://5d8c1b9e-6a1f-4e0b-9b51-0c5c6f1c1f3a",
        "https://xn--9ca.example.com",
    ],
)
def test_any_origin_that_a_browser_sends_may_call(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("CORS_ORIGINS", origin)

    assert load_settings().cors_origins == (origin,)


FILES = {
    "UTF-16": (f"DATABASE_URL={URL}\n".encode("utf-16"), ".env is not UTF-8 (line 1): save it again as UTF-8"),
    "UTF-16 without its mark": (
        f"DATABASE_URL={URL}\n".encode("utf-16-le"),
        ".env is not UTF-8, but UTF-16 by the look of it: save it again as UTF-8",
    ),
    "one byte of Latin-1": (
        f"DATABASE_URL={URL}\n# caf\xe9\n".encode("latin-1"),
        ".env is not UTF-8 (line 2): save it again as UTF-8",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), FILES.values(), ids=FILES.keys())
def test_a_file_that_is_not_utf_8_is_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(ConfigurationError) as error:
        load_settings()

    assert str(error.value) == sentence


def test_a_file_that_begins_with_an_editors_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}\n", "utf-8-sig")

    assert load_settings().database_url.get_secret_value() == URL


def test_a_folder_in_the_files_place_is_named_where_it_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").mkdir()

    with pytest.raises(ConfigurationError) as error:
        load_settings()

    assert str(error.value) == (
        "DATABASE_URL is not set; .env is a folder, not a file of settings; .env.example shows every setting"
    )
    monkeypatch.setenv("DATABASE_URL", URL)
    assert load_settings().database_url.get_secret_value() == URL


MISTYPED = {
    "DATABASE_POOLSIZE": "DATABASE_POOL_SIZE",
    "database_max_overflows": "DATABASE_MAX_OVERFLOW",
    "CORS_ORIGIN": "CORS_ORIGINS",
    "BETTER_AUTH_SECRETS": "BETTER_AUTH_SECRET",
    "BETTERAUTH_SECRET": "BETTER_AUTH_SECRET",
    "SERVICE_AUTH_TOKNE": "SERVICE_AUTH_TOKEN",
    "LOGLEVEL": "LOG_LEVEL",
}


@pytest.mark.parametrize("place", ["environment", "file"])
@pytest.mark.parametrize(("name", "meant"), MISTYPED.items())
def test_a_mistyped_setting_is_named(
    name: str, meant: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "environment":
        monkeypatch.setenv(name, "7")
    else:
        (tmp_path / ".env").write_text(f"{name}=7\n")

    assert list(find_mistyped()) == [f"{name.upper()} is set, but is not a setting of this service: was {meant} meant?"]


OTHERS = [
    *("BETTER_AUTH_URL", "DATABASE_URL_UNPOOLED", "DATABASE_HOST", "DATABASE_PASSWORD", "LOG_FILE", "LOG_DIR"),
    *("POSTGRES_URL", "DIRECT_DATABASE_URL", "METRICS_PORT", "SERVICE_NAME", "ASSISTANT_ID", "DATABASE_NAME"),
    *("BETTER_AUTH_TRUSTED_ORIGINS", "CORS_ALLOWED_HEADERS", "AUTH_SECRET", "DATABASE_POOL_MAX"),
]


def test_other_programs_variables_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OTHERS:
        monkeypatch.setenv(name, "7")

    assert list(find_mistyped()) == []


def test_a_name_near_a_setting_that_is_set_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("DATABASE_URI", URL)

    assert list(find_mistyped()) == []


def test_a_mistyped_url_is_named_where_the_url_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URI", URL)

    with pytest.raises(ConfigurationError) as error:
        load_settings()

    assert str(error.value) == (
        "DATABASE_URL is not set; DATABASE_URI is set, but is not a setting of this service: was DATABASE_URL meant?;"
        " .env.example shows every setting"
    )
