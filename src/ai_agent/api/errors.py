"""The responses for everything that goes wrong: `{"detail": ...}`, which never repeats what was sent."""

import logging

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from ai_agent.errors import ApiError

logger = logging.getLogger(__name__)

NOT_JSON = {
    "type": "json_invalid",
    "loc": ["body"],
    "msg": "The body must be JSON in UTF-8, not nested too deep and with integers of at most 4300 digits,"
    " sent with 'Content-Type: application/json'",
}

# By words of a refusal from the server, the remedy that those words do not name.
REMEDIES = {
    # Under `row_security = off` a query fails where a policy would hide rows, so that no policy empties a list.
    "row-level security": ". Make the service's role the owner of the table, or give it BYPASSRLS.",
    # Behind a pooler that takes no settings from the service, the role's settings count.
    "could not serialize access": ". ALTER ROLE ... SET default_transaction_isolation = 'read committed'.",
    "read-only transaction": (
        ". Name the primary in DATABASE_URL, or where default_transaction_read_only is on, RESET it with ALTER ROLE or"
        " ALTER DATABASE."
    ),
}


def add_to(app: FastAPI) -> None:
    app.exception_handler(ApiError)(_respond_to_api_error)
    app.exception_handler(RequestValidationError)(_respond_to_invalid_request)
    app.exception_handler(400)(_respond_to_unreadable_body)
    app.exception_handler(405)(_respond_to_other_method)


async def _respond_to_api_error(request: Request, error: ApiError) -> JSONResponse:
    if error.cause:  # The database's failures; the assistant's are counted and logged with their run.
        request.app.state.metrics.unavailable.labels(error.cause).inc()
        cause = getattr(error.__cause__, "orig", error.__cause__)  # SQLAlchemy's text repeats the whole statement.
        remedy = next((remedy for words, remedy in REMEDIES.items() if words in str(cause)), "")
        logger.error("%s: %s%s", type(error).__name__, error.detail if cause is None else repr(cause), remedy)
    return JSONResponse({"detail": error.detail}, error.status_code, dict(error.headers))


async def _respond_to_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    """FastAPI's own response would repeat the input, which may be secret or, with NaN, impossible to write as JSON."""
    if isinstance(error.body, bytes):  # FastAPI left it unparsed, because its media type is not JSON.
        return JSONResponse({"detail": [NOT_JSON]}, 422)
    problems = [{name: problem[name] for name in ("type", "loc", "msg")} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


async def _respond_to_unreadable_body(_: Request, __: Exception) -> JSONResponse:
    """FastAPI's only 400 is for JSON that is in another encoding, nested too deep, or holds too long an integer."""
    return JSONResponse({"detail": [NOT_JSON]}, 422)


async def _respond_to_other_method(request: Request, error: HTTPException) -> JSONResponse:
    """RFC 9110, section 15.5.6, wants every method of the path in `Allow`; the framework names those of one route."""
    path = getattr(request.scope.get("route"), "path", None)
    routes = [route for route in request.app.router.routes if isinstance(route, APIRoute) and route.path == path]
    methods = sorted({method for route in routes for method in route.methods or ()})
    return JSONResponse({"detail": error.detail}, 405, {"Allow": ", ".join(methods)} if methods else error.headers)
