"""What every `/api` route depends on: the caller, with a database session that has authenticated them."""

import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ai_agent.config import Settings
from ai_agent.database.connection import open_session, ping
from ai_agent.errors import ClientGone, TrustedServiceRequired
from ai_agent.services import auth


class Caller(NamedTuple):
    """The user that the request is made for, and the database session that serves it."""

    user_id: str
    session: AsyncConnection


class SessionRoute(APIRoute):
    """Closes the caller's database session when the handler has made its answer, and before the answer leaves.

    So the work is committed, or the answer is an error, and a client that reads slowly holds no connection. FastAPI's
    dependencies with `yield` and the scope "function" do the same for a sixteenth more of the whole request.

    FastAPI parses a body before it solves the dependencies; what is wrong in one is said to callers only.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        find_caller: Any = self.dependant.dependencies[0].call

        async def handle_and_close(request: Request) -> Response:
            async with AsyncExitStack() as request.state.sessions:
                try:
                    return await handle(_Request(request.scope, request.receive))
                except (HTTPException, RequestValidationError) as error:
                    if isinstance(error.__cause__, ClientDisconnect):
                        raise ClientGone from error
                    if _is_unparsed(error):
                        await find_caller(request)
                    raise

        return handle_and_close


class _Request(Request):
    async def json(self) -> Any:
        """The body, which RFC 8259 wants in UTF-8; of bytes, json.loads would take UTF-16 and UTF-32 as well."""
        return json.loads((await self.body()).decode("utf-8-sig"))


def _is_unparsed(error: HTTPException | RequestValidationError) -> bool:
    if isinstance(error, HTTPException):
        return error.status_code == 400
    return any(problem["type"] == "json_invalid" for problem in error.errors())


class SessionToken(HTTPBearer):
    """The bearer scheme of the OpenAPI document, which also opens the session and looks the token up in it.

    The token is read before a connection is taken, and the connection that authenticates is the one that serves.
    """

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        served = _served_user(request)
        if served is not None:
            return await _serve(request, served)
        secret = request.app.state.settings.better_auth_secret
        token = auth.read_token(request.headers.get("authorization"), secret)
        session = await _open_session(request)
        return Caller(await auth.find_user(session, token), session)


async def service_caller(request: Request) -> Caller:
    """A trusted service that acts for a user, and nobody else."""
    served = _served_user(request)
    if served is None:
        raise TrustedServiceRequired
    return await _serve(request, served)


async def _serve(request: Request, user_id: str) -> Caller:
    session = await _open_session(request)
    await ping(session)  # As looking a token up does for a user.
    return Caller(user_id, session)


async def _open_session(request: Request) -> AsyncConnection:
    state = request.app.state
    sessions: AsyncExitStack = request.state.sessions
    must_wait = _must_wait(request)
    session = await sessions.enter_async_context(open_session(state.engine, state.settings.database_timeout))
    if must_wait and await request.is_disconnected():
        raise ClientGone
    return session


def _served_user(request: Request) -> str | None:
    """The user that a trusted service acts for, if it is one that calls; the request's log line says so."""
    expected: SecretStr | None = request.app.state.settings.service_auth_token
    if expected is None:
        return None
    token, user_id = request.headers.get("x-service-auth"), request.headers.get("x-user-id")
    served = auth.read_service_headers(token, user_id, expected)
    request.state.by_service = served is not None
    return served


def _must_wait(request: Request) -> bool:
    """Whether all connections are in use. Only then may the client be gone before there is one, and is it asked."""
    settings: Settings = request.app.state.settings
    in_use: int = request.app.state.engine.pool.checkedout()
    return in_use >= settings.database_pool_size + settings.database_max_overflow


session_token = SessionToken(
    scheme_name="sessionToken",
    description="The token that better-auth gave the front end at sign-in, raw, signed or percent-encoded.",
)

# Both need a router whose routes are SessionRoutes.
CurrentCaller = Annotated[Caller, Depends(session_token)]
ServiceCaller = Annotated[Caller, Depends(service_caller)]

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
