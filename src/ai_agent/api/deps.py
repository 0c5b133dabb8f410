"""What every `/api` route depends on: the caller, with a database session that has authenticated them."""

from collections.abc import AsyncIterator
from typing import Annotated, NamedTuple

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncConnection

from ai_agent.config import Settings
from ai_agent.database.connection import open_session
from ai_agent.services import auth


class Caller(NamedTuple):
    """An authenticated user, and the database session that serves this request."""

    user_id: str
    session: AsyncConnection


class SessionToken(HTTPBearer):
    """The bearer scheme of the OpenAPI document, which also opens the session and looks the token up in it.

    One dependency rather than three: the token is read before a connection is taken, and the connection that
    authenticates is the one that serves.
    """

    async def __call__(self, request: Request) -> AsyncIterator[Caller]:  # type: ignore[override]
        settings: Settings = request.app.state.settings
        secret = settings.better_auth_secret.get_secret_value() if settings.better_auth_secret else None
        token = auth.read_token(request.headers.get("authorization"), secret)
        async with open_session(request.app.state.engine, settings.database_timeout) as session:
            yield Caller(await auth.find_user(session, token), session)


session_token = SessionToken(
    scheme_name="better-auth session",
    description="The token that better-auth gave the front end at sign-in, raw, signed or percent-encoded.",
)

# The scope closes the session, with its commit, before the answer leaves; the default scope does it afterwards.
CurrentCaller = Annotated[Caller, Depends(session_token, scope="function")]
