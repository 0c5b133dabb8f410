import base64
import hashlib
import hmac
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from ai_agent.errors import NotAuthenticated
from ai_agent.services.auth import read_token

SECRET = "a secret of better-auth, 32 characters and more"
RAW = "oLl9sWY9nWZCkKvx3orCAE4pwlIBZo1s"


def sign(token: str, secret: str = SECRET) -> str:
    digest = hmac.new(secret.encode(), token.encode(), hashlib.sha256).digest()
    return f"{token}.{base64.b64encode(digest).decode()}"


# A token whose signature holds each character that percent-encoding or unquote_plus could spoil.
PLUS = next(token for n in range(10_000) if {"+", "/"} <= set(sign(token := f"{n:032}")))

ACCEPTED = {
    "raw": (f"Bearer {RAW}", RAW),
    "signed": (f"Bearer {sign(RAW)}", RAW),
    "percent-encoded": (f"Bearer {quote(sign(RAW), safe='')}", RAW),
    "lower-case percent escapes": (f"Bearer {quote(sign(RAW), safe='').replace('%3D', '%3d')}", RAW),
    "signed with + and /": (f"Bearer {sign(PLUS)}", PLUS),
    "percent-encoded with + and /": (f"Bearer {quote(sign(PLUS), safe='')}", PLUS),
    "a dot in the raw token": (f"Bearer {sign('a.b')}", "a.b"),
    "scheme in lower case": (f"bearer {RAW}", RAW),
    "two spaces": (f"Bearer  {RAW}", RAW),
}

REFUSED = {
    "no header": None,
    "empty": "",
    "scheme alone": "Bearer",
    "scheme and a space": "Bearer ",
    "another scheme": f"Basic {RAW}",
    "no scheme": RAW,
    "white space inside": "Bearer abc def",
    "tab inside": "Bearer abc\tdef",
    "encoded NUL": "Bearer abc%00def",
    "encoded line feed": "Bearer abc%0Adef",
    "encoded space": "Bearer abc%20def",
    "not ASCII": "Bearer abcé",
    "encoded, not ASCII": "Bearer abc%C3%A9",
    "encoded, not UTF-8": "Bearer abc%ff",
    "too long": "Bearer " + "a" * 513,
    "only a signature": f"Bearer {sign('')}",
    "signature without padding": f"Bearer {sign(RAW)[:-1]}",
    "signature in base64url": f"Bearer {sign(PLUS).replace('+', '-').replace('/', '_')}",
    "empty signature": f"Bearer {RAW}.",
    "encoded twice": f"Bearer {quote(quote(sign(RAW), safe=''))}",
    "+ turned into a space": f"Bearer {sign(PLUS).replace('+', ' ')}",
}


@pytest.mark.parametrize("secret", [SECRET, None], ids=["with secret", "without secret"])
@pytest.mark.parametrize(("header", "token"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_each_form_of_a_token_gives_the_raw_one(header: str, token: str, secret: str | None) -> None:
    assert read_token(header, SecretStr(secret) if secret else None) == token


@pytest.mark.parametrize("secret", [SECRET, None], ids=["with secret", "without secret"])
@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED.keys())
def test_a_malformed_header_is_refused(header: str | None, secret: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        read_token(header, SecretStr(secret) if secret else None)


def test_a_signature_by_another_secret_is_refused_only_where_the_secret_is_known() -> None:
    header = f"Bearer {sign(RAW, 'another secret')}"

    with pytest.raises(NotAuthenticated):
        read_token(header, SecretStr(SECRET))

    assert read_token(header, None) == RAW


def test_a_token_of_512_characters_is_read() -> None:
    assert read_token("Bearer " + "a" * 512, None) == "a" * 512
