"""The app in the process of the test, between its start-up and its shutdown, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from ai_agent.config import Settings
from ai_agent.main import create_app


def make_settings(**values: object) -> Settings:
    """Settings from these values and the defaults alone, because a developer's `.env` must not change a test."""
    return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]  # pydantic-settings' own argument.


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """The app between its start-up and its shutdown."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.test", **options) as client:
        yield client
