"""A real better-auth server as its own process, and a client that speaks to it like a front end."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Literal, NamedTuple, Self

import httpx

FOLDER = Path(__file__).parents[1] / "contract/better_auth"
SECRET = "zR7wqk2Vb9TfLx0HnYc4MsJd8GpUe6Ao"


class Tokens(NamedTuple):
    """One session's token in each form in which better-auth hands it out."""

    raw: str
    """`token` in the JSON body, and in the database."""
    signed: str
    """The header `set-auth-token` of the bearer plugin."""
    cookie: str
    """The value of the session cookie: the signed form, percent-encoded."""


class BetterAuth:
    """A front end with bearer tokens."""

    def __init__(self, url: str) -> None:
        # A request that carries a session cookie is refused unless it has an Origin header too, so no cookie is kept.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(base_url=f"{url}/api/auth", cookies=no_cookies)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def sign_up(self, email: str = "ada@example.com") -> Tokens:
        return _tokens(await self._post("/sign-up/email", {"name": email, "email": email, "password": "correct horse"}))

    async def sign_in(self, email: str = "ada@example.com") -> Tokens:
        return _tokens(await self._post("/sign-in/email", {"email": email, "password": "correct horse"}))

    async def sign_out(self, token: str) -> None:
        await self._post("/sign-out", {}, token)

    async def revoke_session(self, token: str, revoked: str) -> None:
        """`revoked` is a raw token of the same user."""
        await self._post("/revoke-session", {"token": revoked}, token)

    async def revoke(self, which: Literal["sessions", "other-sessions"], token: str) -> None:
        await self._post(f"/revoke-{which}", {}, token)

    async def delete_user(self, token: str) -> int:
        """The status of the response."""
        body, headers = {"password": "correct horse"}, {"Authorization": f"Bearer {token}"}
        return (await self._client.post("/delete-user", json=body, headers=headers)).status_code

    async def _post(self, path: str, body: dict[str, str], token: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        response = await self._client.post(path, json=body, headers=headers)
        return response.raise_for_status()


def _tokens(response: httpx.Response) -> Tokens:
    name, _, cookie = response.headers["set-cookie"].partition(";")[0].partition("=")
    assert name == "better-auth.session_token"
    return Tokens(response.json()["token"], response.headers["set-auth-token"], cookie)


@contextmanager
def run_better_auth(node: str, folder: Path, **settings: str) -> Iterator[str]:
    """Make the tables that are missing, serve until the block ends, and yield the address."""
    # Nothing is inherited: a BETTER_AUTH_* variable of the developer's shell would win over the settings.
    # TZ matters where "expiresAt" has no zone: the driver writes such a column in the local time of its process.
    environment = {"PATH": os.environ["PATH"], "TZ": "UTC", "BETTER_AUTH_SECRET": SECRET, **settings}
    errors = folder / "better-auth.log"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [node, "server.mjs"], cwd=FOLDER, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = next((line.split()[-1] for line in process.stdout if line.startswith("listening on ")), None)
            assert url is not None, errors.read_text()
            yield url
        finally:
            process.terminate()
