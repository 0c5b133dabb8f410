"""`ai-agent` as a person starts it: a real process in a folder, with the PostgreSQL that it brings up."""

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.support.waiting import wait_until_ready

AI_AGENT = (str(Path(sys.executable).with_name("ai-agent")), "--port", "0")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}

type Start = Callable[..., subprocess.Popen[bytes]]


def start_trial(folder: Path, trials: ExitStack, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start `ai-agent` in the folder, and wait for its page in `output`; it ends with the stack."""
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [*AI_AGENT, *arguments], cwd=folder, env=ENVIRONMENT | environment, stdout=output, stderr=output
        )
    trials.callback(stop, process)
    wait_until_ready(process, lambda: "Ctrl-C stops" in page(folder), folder / "output")
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=20)


def page(folder: Path) -> str:
    return (folder / "output").read_text()


def database_url(folder: Path) -> str:
    """The URL that the page gives to a front end's better-auth."""
    found = re.search(r"^DATABASE_URL=(\S+)$", page(folder), re.MULTILINE)
    assert found, page(folder)
    return found[1]


def api(folder: Path) -> httpx.Client:
    """A client signed in with the address and the token on the printed page."""
    found = re.search(r"(http://\S+)/docs\s+Token:\s+(\w{32})\s", page(folder))
    assert found, page(folder)
    return httpx.Client(base_url=found[1], headers={"Authorization": f"Bearer {found[2]}"})


def fail(folder: Path, *arguments: str, **environment: str) -> str:
    """Run `ai-agent` to its end, which must be an error, and return what it said."""
    command = [*AI_AGENT, *arguments]
    ended = subprocess.run(
        command, check=False, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr
