"""Who is calling: better-auth's tokens in every form it hands them out, looked up in its session table.

better-auth signs a token for its cookie as `<token>.<signature>`, the signature being the base64 of
HMAC-SHA256(secret, token), and percent-encodes the whole; the bearer plugin accepts and hands out each form.
"""

import base64
import hashlib
import hmac
import re
from urllib.parse import unquote

from pydantic import SecretStr
from sqlalchemy import Text, bindparam, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from ai_agent.database.connection import read_first
from ai_agent.database.models import UserSession
from ai_agent.errors import NotAuthenticated, TrustedServiceRequired

MAX_TOKEN_LENGTH = 512

_VISIBLE_ASCII = re.compile(r"[!-~]+")
_BASE64_SHA256 = re.compile(r"[A-Za-z0-9+/]{43}=")

_USER_OF_TOKEN = (
    select(cast(col(UserSession.user_id), Text))
    .where(col(UserSession.token) == bindparam("token"))
    .where(col(UserSession.expires_at) > func.now())
)


def read_token(authorization: str | None, secret: SecretStr | None) -> str:
    """The raw session token in an `Authorization` header; raises NotAuthenticated if it holds none.

    With `secret`, a signature must be right; without, it is dropped, as the raw token alone is what grants access.
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


def read_service_headers(token: str | None, user_id: str | None, expected: SecretStr) -> str | None:
    """The user for whom a trusted service acts, or None when no service calls.

    Raises TrustedServiceRequired for a wrong or half-given pair.
    """
    if token is None and user_id is None:
        return None
    if token is None or user_id is None or not _VISIBLE_ASCII.fullmatch(user_id) or len(user_id) > MAX_TOKEN_LENGTH:
        raise TrustedServiceRequired
    if not hmac.compare_digest(token.encode(), expected.get_secret_value().encode()):
        raise TrustedServiceRequired
    return user_id


async def find_user(session: AsyncConnection, token: str) -> str:
    """The id of the user whose session is current; raises NotAuthenticated when there is none."""
    user_id: str | None = await read_first(session, _USER_OF_TOKEN, {"token": token})
    if user_id is None:
        raise NotAuthenticated
    return user_id
