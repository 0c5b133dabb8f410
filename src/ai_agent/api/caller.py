"""What every `/api` route depends on: the caller, and the database connection that identified them."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, ClassVar, NamedTuple

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from ai_agent import logs
from ai_agent.api.body import BoundedRequest
from ai_agent.config import Settings
from ai_agent.database.connection import Connection
from ai_agent.errors import ClientGone, IdempotencyKeyRepeated, NotAuthenticated, TrustedServiceRequired
from ai_agent.services import auth

# A request may carry each of these headers only once. If it carried two, a proxy might check one and the service read
# the other.
_ONCE = {
    b"authorization": NotAuthenticated,
    b"x-service-auth": TrustedServiceRequired,
    b"x-user-id": TrustedServiceRequired,
    b"idempotency-key": IdempotencyKeyRepeated,
}


class Caller(NamedTuple):
    """The user that the request is made for, and its database connection, on which each statement commits by itself."""

    user_id: str
    connection: Connection


class CallerRequest(BoundedRequest):
    """A request whose caller is known."""

    caller: Caller


class CallerRoute(APIRoute):
    """Identifies the caller before FastAPI looks at the request, and gives the connection back before the response.

    Bad headers are refused before the body is read, and a connection is taken only once the body is there. It is given
    back before the response is sent, so a client that reads slowly holds no connection. By then the work is committed,
    or the response is an error. An agent's turn is the exception: its run only begins here, takes connections of its
    own, and goes on while the response waits for it.

    FastAPI's dependencies with `yield` and the scope "function" would give the connection back at the same moment, but
    they would make a request cost a third more.
    """

    security: ClassVar[list[dict[str, list[str]]]] = [{"sessionToken": []}, {"serviceToken": [], "servedUser": []}]

    @staticmethod
    def read_credentials(request: Request, settings: Settings) -> auth.Credentials:
        return auth.read_credentials(request.headers, settings.better_auth_secret, settings.service_auth_token)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_for_caller(starlette_request: Request) -> Response:
            request = CallerRequest(starlette_request.scope, starlette_request.receive)
            state = request.app.state
            _note_conversation(request)
            credentials = self.read_credentials(request, state.settings)
            _refuse_repeated_headers(request)
            if isinstance(credentials, auth.ServedUser):
                logs.current.get().actor = "service"
            if self.body_field is not None:
                await request.body()
            async with Connection(state.engine, state.settings.database_timeout) as connection:
                if connection.had_to_wait and await request.is_disconnected():
                    raise ClientGone
                request.caller = Caller(await auth.identify(connection, credentials), connection)
                return await handle(request)

        return handle_for_caller


class TrustedServiceRoute(CallerRoute):
    """A route that only trusted services may use, each for one of their users."""

    security = [{"serviceToken": [], "servedUser": []}]

    @staticmethod
    def read_credentials(request: Request, settings: Settings) -> auth.Credentials:
        return auth.read_served_user(request.headers, settings.service_auth_token)


def _refuse_repeated_headers(request: Request) -> None:
    seen = set()
    for name, _ in request.scope["headers"]:
        if name in _ONCE:
            if name in seen:
                raise _ONCE[name]
            seen.add(name)


def _note_conversation(request: Request) -> None:
    """Note the id in the path for the log, but only if it is a plain number, because anything else may be a secret."""
    id_: str = request.scope["path_params"].get("conversation_id", "")
    if len(id_) <= 19 and id_.isascii() and id_.isdigit():
        logs.note_conversation(int(id_))


async def current_caller(request: CallerRequest) -> Caller:
    """The caller that the route identified; the router's `route_class` must be one of those above."""
    return request.caller


CurrentCaller = Annotated[Caller, Depends(current_caller)]
