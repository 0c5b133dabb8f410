"""Every setting of the service, read once from the environment and `.env`."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ai_agent.errors import ConfigurationError

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Settings(BaseSettings):
    """The service's configuration; each field is the environment variable of the same name."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    database_url: SecretStr
    """PostgreSQL, as the provider prints it."""
    service_auth_token: SecretStr | None = Field(default=None, min_length=32)
    """Lets a trusted service act for any user; unset, no service may."""
    better_auth_secret: SecretStr | None = None
    """better-auth's own secret; with it, the signature of a signed token is checked."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins that may call from a browser, separated by commas."""
    log_level: LogLevel = "INFO"
    log_format: Literal["text", "json"] = "text"
    """Lines for people, or a JSON object on each."""
    metrics_path: str = Field(default="/metrics", pattern=r"^(off|/[A-Za-z0-9/_-]+)$")
    """Where Prometheus finds the metrics; `off` closes it."""
    database_pool_size: int = Field(default=5, ge=1, le=1000)
    """Connections kept open by each process."""
    database_max_overflow: int = Field(default=10, ge=0, le=1000)
    """Connections opened beyond the pool in a burst, and closed after it."""
    database_pool_timeout: float = Field(default=2.0, gt=0, le=4)
    """Seconds a request waits for a connection before it is answered 503."""
    database_timeout: float = Field(default=4.0, gt=0, le=4.5)
    """Seconds a request may spend with the database in all before it is answered 503."""

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value.upper()

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        origins = value.split(",") if isinstance(value, str) else value
        return tuple(origin.strip().rstrip("/") for origin in origins if origin.strip())

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not re.fullmatch(r"https?://[^/\s?#*]+", origin):
                raise ValueError("give full origins such as https://app.example.com, separated by commas")
        return origins

    @model_validator(mode="after")
    def _order_timeouts(self) -> Self:
        if self.database_pool_timeout > self.database_timeout:
            raise ValueError("DATABASE_POOL_TIMEOUT must not exceed DATABASE_TIMEOUT")
        return self


def load_settings() -> Settings:
    """Read the settings; ConfigurationError names each variable that is missing or wrong."""
    try:
        return Settings()  # type: ignore[call-arg]  # The values come from the environment.
    except ValidationError as error:
        problems = [_describe(problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]
        raise ConfigurationError("; ".join(problems)) from None


def _describe(location: tuple[int | str, ...], kind: str, message: str) -> str:
    variable = str(location[0]).upper() if location else ""
    if kind == "missing":
        return f"{variable} is not set; .env.example shows every setting"
    return f"{variable}: {message}".removeprefix(": ")
