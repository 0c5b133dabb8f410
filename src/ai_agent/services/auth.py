"""Who is calling: what the headers claim, and the user that the database finds for it.

better-auth signs a token for its cookie as `<token>.<signature>`, the signature being the base64 of
HMAC-SHA256(secret, token), and percent-encodes the whole; the bearer plugin accepts and hands out each form.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

import asyncpg
from pydantic import SecretStr
from sqlalchemy import Text, bindparam, cast, func, literal_column, select
from sqlmodel import col

from ai_agent.database.connection import Connection
from ai_agent.database.models import UserSession
from ai_agent.database.statements import Statement
from ai_agent.errors import DatabaseNotReady, NotAuthenticated, TrustedServiceRequired

MAX_TOKEN_LENGTH = 512

_VISIBLE_ASCII = re.compile(r"[!-~]+")
_BASE64_SHA256 = re.compile(r"[A-Za-z0-9+/]{43}=")

_USER_OF_TOKEN = Statement(
    select(cast(col(UserSession.user_id), Text))
    .where(col(UserSession.token) == bindparam("token"))
    .where(col(UserSession.user_id).is_not(None))
    .where(col(UserSession.expires_at) > func.now()),
    str,
)
_PING = Statement(select(literal_column("1")), int)


class UserToken(NamedTuple):
    """The raw token of a user session."""

    token: str


class ServedUser(NamedTuple):
    """The user for whom a trusted service acts."""

    user_id: str


type Credentials = UserToken | ServedUser


def read_credentials(
    headers: Mapping[str, str], secret: SecretStr | None, service_token: SecretStr | None
) -> Credentials:
    """What the headers claim; raises NotAuthenticated or TrustedServiceRequired when the headers alone are wrong.

    A trusted service identifies itself in headers of its own, which take precedence over a user's token.
    """
    if service_token is not None and ("x-service-auth" in headers or "x-user-id" in headers):
        return read_served_user(headers, service_token)
    return UserToken(read_token(headers.get("authorization"), secret))


def read_served_user(headers: Mapping[str, str], service_token: SecretStr | None) -> ServedUser:
    """The user for whom a trusted service acts; raises TrustedServiceRequired for a wrong or half-given pair."""
    token, user_id = headers.get("x-service-auth"), headers.get("x-user-id")
    if service_token is None or token is None or user_id is None:
        raise TrustedServiceRequired
    if not _VISIBLE_ASCII.fullmatch(user_id) or len(user_id) > MAX_TOKEN_LENGTH:
        raise TrustedServiceRequired
    if not hmac.compare_digest(token.encode(), service_token.get_secret_value().encode()):
        raise TrustedServiceRequired
    return ServedUser(user_id)


def read_token(authorization: str | None, secret: SecretStr | None) -> str:
    """The raw session token in an `Authorization` header; raises NotAuthenticated if it holds none.

    With `secret`, a signature must be right; without it, any is dropped, because the raw token alone grants access.
    """
    scheme, _, credentials = (authorization or "").partition(" ")
    credentials = credentials.strip(" ")
    if scheme.lower() != "bearer" or len(credentials) > MAX_TOKEN_LENGTH:
        raise NotAuthenticated
    token, dot, signature = _decode(credentials).rpartition(".")
    if not dot:
        return signature
    if not token or not _BASE64_SHA256.fullmatch(signature):
        raise NotAuthenticated
    if secret is not None and not hmac.compare_digest(signature, _sign(token, secret.get_secret_value())):
        raise NotAuthenticated
    return token


def _decode(credentials: str) -> str:
    try:
        decoded = unquote(credentials, errors="strict")
    except UnicodeDecodeError:
        raise NotAuthenticated from None
    if not _VISIBLE_ASCII.fullmatch(decoded):
        raise NotAuthenticated
    return decoded


def _sign(token: str, secret: str) -> str:
    digest = hmac.new(secret.encode(), token.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


async def identify(connection: Connection, credentials: Credentials) -> str:
    """The id of the user; raises NotAuthenticated when the token belongs to no current user session.

    This is a request's first read. It also shows whether the connection is alive, so a trusted service needs it too.
    """
    match credentials:
        case ServedUser(user_id):
            await connection.fetch_first(_PING)
            return user_id
        case UserToken(token):
            found = await connection.fetch_first(_USER_OF_TOKEN, token=token)
            if found is None:
                raise NotAuthenticated
            return found


async def check(connection: Connection) -> None:
    """Raise DatabaseNotReady if no token can be looked up: a column's type is wrong, or a view's table is closed."""
    try:
        await connection.fetch(_USER_OF_TOKEN, token="")
    except asyncpg.SyntaxOrAccessError as error:
        raise DatabaseNotReady(
            f"No token can be looked up in user_sessions ({error.args[0]}): give it the column types that better-auth"
            " makes, and if it is a view, let the service's role read the tables behind it."
        ) from None
