"""What every `/api` route depends on: the caller, with a database session that has authenticated them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.config import Settings
from ai_agent.database.connection import open_session
from ai_agent.errors import ServiceRequired
from ai_agent.services import auth


class Caller(NamedTuple):
    """The user that the request is made for, and the database session that serves it."""

    user_id: str
    session: AsyncConnection


class SessionToken(HTTPBearer):
    """The bearer scheme of the OpenAPI document, which also opens the session and looks the token up in it.

    One dependency rather than three: the token is read before a connection is taken, and the connection that
    authenticates is the one that serves.
    """

    async def __call__(self, request: Request) -> AsyncIterator[Caller]:  # type: ignore[override]
        settings: Settings = request.app.state.settings
        served = _served_user(request)
        token = "" if served else auth.read_token(request.headers.get("authorization"), settings.better_auth_secret)
        async with open_session(request.app.state.engine, settings.database_timeout) as session:
            yield Caller(served or await auth.find_user(session, token), session)


async def service_caller(request: Request) -> AsyncIterator[Caller]:
    served = _served_user(request)
    if served is None:
        raise ServiceRequired
    async with open_session(request.app.state.engine, request.app.state.settings.database_timeout) as session:
        yield Caller(served, session)


def _served_user(request: Request) -> str | None:
    """The user that a trusted service acts for, if it is one that calls; the request's log line says so."""
    expected: SecretStr | None = request.app.state.settings.service_auth_token
    if expected is None:
        return None
    token, user_id = request.headers.get("x-service-auth"), request.headers.get("x-user-id")
    served = auth.read_service_headers(token, user_id, expected)
    request.state.by_service = served is not None
    return served


session_token = SessionToken(
    scheme_name="sessionToken",
    description="The token that better-auth gave the front end at sign-in, raw, signed or percent-encoded.",
)

# The scope closes the session, with its commit, before the answer leaves; the default scope does it afterwards.
CurrentCaller = Annotated[Caller, Depends(session_token, scope="function")]
ServiceCaller = Annotated[Caller, Depends(service_caller, scope="function")]

# FastAPI has no word for two schemes that are needed together, so routes add the requirement themselves.
SERVICE_SCHEMES: dict[str, Any] = {
    "serviceToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Service-Auth",
        "description": "The SERVICE_AUTH_TOKEN of this deployment, for trusted services only.",
    },
    "servedUser": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-ID",
        "description": "The id of the user that the service acts for.",
    },
}
BY_SERVICE: dict[str, Any] = {"security": [{name: [] for name in SERVICE_SCHEMES}]}
