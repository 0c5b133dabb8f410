"""The service of a trial run, a child of the supervisor: it migrates its database, prints the page and serves."""

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from types import FrameType

import asyncpg
import uvicorn
from alembic.util import CommandError

from ai_agent.config import load_settings
from ai_agent.errors import ConfigurationError
from ai_agent.local import page
from ai_agent.local.database import hand_over, sign_in_demo_user
from ai_agent.local.programs import DamagedData, TrialError
from ai_agent.main import create_app
from ai_agent.migrate import upgrade
from ai_agent.server import OPTIONS


def main() -> None:
    """Serve on the socket whose file descriptor is the argument."""
    try:
        with socket.socket(fileno=int(sys.argv[1])) as listener:
            sys.exit(_run(listener))
    except (CommandError, ConfigurationError, TrialError) as error:
        sys.exit(f"ai-agent: {error}")


def _run(listener: socket.socket) -> int:
    address = web_address(listener)
    text = page.ADDRESS.format(address=address)
    superuser_url = os.environ.pop("TRIAL_SUPERUSER_URL", None)
    if superuser_url is None:
        _migrate()
        return _serve(listener, text)
    directory = Path(os.environ.pop("TRIAL_DIRECTORY")).resolve()
    try:
        url = os.environ["DATABASE_URL"] = asyncio.run(hand_over(superuser_url, directory / "database-url"))
    except asyncpg.PostgresError as error:
        raise DamagedData(directory, str(error).partition("\n")[0]) from error
    _migrate()
    token = asyncio.run(sign_in_demo_user(url))
    return _serve(
        listener, text + page.TRIAL.format(address=address, token=token, directory=directory, database_url=url)
    )


def web_address(listener: socket.socket) -> str:
    """Return an address that clients on this machine can open, also where the socket listens on all of them."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    if listener.family == socket.AF_INET6:
        host = f"[{host.replace('%', '%25')}]"
    return f"http://{host}:{port}"


def _migrate() -> None:
    page.say("Applying the migrations")
    upgrade()


def _serve(listener: socket.socket, text: str) -> int:
    settings = load_settings()
    app = create_app(settings)
    for name in ("uvicorn.error", "ai_agent.lifespan"):
        logging.getLogger(name).setLevel(logging.WARNING)  # The page says what their INFO lines would.
    end = page.END.format(assistant=settings.assistant or "an echo, until ASSISTANT names an agent")
    server = _Server(uvicorn.Config(app, log_config=None, **OPTIONS), text + end)
    server.run([listener])
    return 0 if server.started else 3  # The statuses of uvicorn's own command.


class _Server(uvicorn.Server):
    """Prints the page once it listens, and stops when the supervisor asks it to."""

    def __init__(self, config: uvicorn.Config, text: str) -> None:
        super().__init__(config)
        self._text = text

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        page.show(self._text)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True  # uvicorn's own would break the lifespan off at a second signal, with a traceback.


if __name__ == "__main__":
    main()
