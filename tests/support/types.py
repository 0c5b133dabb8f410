"""The types of the fixtures that are functions, and of the headers that they return."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.service import Service

type Headers = dict[str, str]
type SignIn = Callable[..., Awaitable[Headers]]
type Chat = Callable[..., Awaitable[dict[str, Any]]]
type NewDatabase = Callable[..., Awaitable[str]]
type StartService = Callable[..., Service]
type AppRole = Callable[[str], Awaitable[str]]
