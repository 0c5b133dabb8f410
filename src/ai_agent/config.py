"""Every setting of the service, read once from the environment and `.env`."""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ai_agent.errors import ConfigurationError

ENV_FILE = Path(".env")
_ENCODING = "utf-8-sig"  # UTF-8, with or without the mark that some editors put first.

# The environment also holds other programs' variables. A name that is less like a setting's is probably one of theirs.
_LIKENESS = 0.905

# No `Origin` header begins with one of these: a page with that scheme has the origin `null`, or none.
_NO_ORIGINS = ("ws:", "wss:", "file:", "data:", "blob:", "about:", "javascript:", "mailto:", "view-source:")

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def check_token(token: SecretStr) -> SecretStr:
    """Refuse a token that can be guessed, or that no HTTP header can carry, such as one that ends in a line break."""
    if not re.fullmatch(r"[!-~][ -~]{30,}[!-~]", token.get_secret_value()):
        raise ValueError("give one line of at least 32 ASCII characters, such as `openssl rand -hex 32` prints")
    return token


def check_secret(secret: SecretStr) -> SecretStr:
    """Refuse bytes that are not UTF-8, which Python reads from the environment as lone surrogates."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    return secret


class Settings(BaseSettings):
    """The service's configuration; each field is the environment variable of the same name."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_file_encoding=_ENCODING, env_ignore_empty=True, extra="ignore"
    )

    database_url: SecretStr
    """The URL of the PostgreSQL database, as its provider prints it."""
    service_auth_token: Annotated[SecretStr, AfterValidator(check_token)] | None = None
    """Lets a trusted service act for any user; unset, no service may."""
    better_auth_secret: Annotated[SecretStr, AfterValidator(check_secret)] | None = None
    """better-auth's own secret; with it, the signature of a signed token is checked."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins that may call from a browser, separated by commas."""
    log_level: LogLevel = "INFO"
    log_format: Literal["text", "json"] = "text"
    """Lines for people to read, or a JSON object on each line."""
    metrics_path: str = "/metrics"
    """Where Prometheus finds the metrics; `off` closes it."""
    database_pool_size: int = Field(default=5, ge=1, le=1000)
    """With `database_max_overflow`, the most connections that a process opens; the server closes idle ones."""
    database_max_overflow: int = Field(default=10, ge=0, le=1000)
    """Added to the pool's size: the two make one bound."""
    database_pool_timeout: float = Field(default=2.0, gt=0, le=4)
    """Seconds that a request waits for a connection before it is answered 503."""
    database_timeout: float = Field(default=3.0, gt=0, le=4.5)
    """Seconds that a request may spend with the database in all before it is answered 503."""
    assistant: str | None = None
    """`module:attribute` of the agent that replies; unset, the reply is an echo."""
    assistant_timeout: float = Field(default=60, gt=0, le=3600)
    """Seconds that the agent may take for a reply."""
    assistant_history: int = Field(default=100, ge=0, le=1000)
    """How many of a conversation's newest messages the agent is given."""

    @field_validator("metrics_path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if path != "off" and not re.fullmatch(r"/(?!(api|docs|health)(/|$))[A-Za-z0-9/_-]+", path):
            raise ValueError("give a path such as /metrics that is not below /api, /docs or /health, or off")
        return path

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value.upper()

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        origins = value.split(",") if isinstance(value, str) else value
        named = (origin.strip().rstrip("/").lower() for origin in origins if origin.strip())
        return tuple(re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", origin) for origin in named)

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            _check_origin(origin)
        return origins

    @model_validator(mode="after")
    def _order_timeouts(self) -> Self:
        if self.database_pool_timeout > self.database_timeout:
            raise ValueError("DATABASE_POOL_TIMEOUT must not exceed DATABASE_TIMEOUT")
        return self


def _check_origin(origin: str) -> None:
    """Refuse an origin that no browser sends, and one that any page can make a browser send."""
    if origin == "null":
        raise ValueError("null is what every sandboxed page and every local file sends: give the page an origin")
    if not origin.isascii():
        raise ValueError("write a host as browsers send it, in Punycode: xn--9ca.example.com for é.example.com")
    found = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?", origin)
    if not found or origin.startswith(_NO_ORIGINS) or int(found[3] or 1) > 65535:
        raise ValueError(
            "give origins as browsers send them, between commas and without a path,"
            " such as https://app.example.com or tauri://localhost"
        )


def load_settings() -> Settings:
    """Read the settings; raises ConfigurationError, which names each variable that is missing or wrong."""
    _check_env_file()
    try:
        return Settings()  # type: ignore[call-arg]  # The values come from the environment.
    except ValidationError as error:
        problems = [_describe(problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]
        raise ConfigurationError("; ".join(problems)) from None


def find_mistyped() -> Iterator[str]:
    """A sentence for each variable, in the environment or in `.env`, whose name is nearly that of an unset setting.

    The sentences are for the log. The service starts all the same, because the variable may be another program's and a
    guess must not stop a deployment. That is safe: everything that could do harm is off by default.
    """
    given = {name.upper() for name in (*os.environ, *dotenv_values(ENV_FILE, encoding=_ENCODING))}
    plain = {name.upper().replace("_", ""): name.upper() for name in Settings.model_fields if name.upper() not in given}
    for name in sorted(given - {name.upper() for name in Settings.model_fields}):
        for match in get_close_matches(name.replace("_", ""), plain, n=1, cutoff=_LIKENESS):
            yield f"{name} is set, but is not a setting of this service: was {plain[match]} meant?"


def _check_env_file() -> None:
    """Refuse a file that cannot be read as text; pydantic-settings passes over a missing one and a folder."""
    try:
        text = ENV_FILE.read_text(_ENCODING)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    except OSError as error:
        raise ConfigurationError(f".env cannot be read ({error.strerror}): let the service's user read it") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f".env is not UTF-8 (line {line}): save it again as UTF-8") from None
    if "\0" in text:
        raise ConfigurationError(".env is not UTF-8, but UTF-16 by the look of it: save it again as UTF-8")


def _describe(location: tuple[int | str, ...], kind: str, message: str) -> str:
    variable = str(location[0]).upper() if location else ""
    if kind == "missing":
        hints = [hint for hint in find_mistyped() if variable in hint]
        if ENV_FILE.is_dir():
            hints.append(".env is a folder, not a file of settings")
        return "; ".join((f"{variable} is not set", *hints, ".env.example shows every setting"))
    return f"{variable}: {message}".removeprefix(": ")
