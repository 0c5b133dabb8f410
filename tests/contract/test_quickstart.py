"""Every command of the quickstart is run, and the output that it shows is what the service returns."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.database import USER_SESSIONS
from tests.support.service import SERVICE_TOKEN, run_service
from tests.support.types import NewDatabase

QUICKSTART = Path(__file__).parents[2] / "specs/007-chat-persistence/quickstart.md"
TOKEN = "VMjmcOPrjSd1gNfvQbVTsEdDURUqwf0j"

SIGN_IN = f"""
    INSERT INTO user_sessions (id, token, "userId", "updatedAt", "expiresAt")
    VALUES ('demo-session', '{TOKEN}', 'demo-user', now(), now() + interval '1 hour')
"""

# These parts of the output differ each time.
CHANGING = {
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?\+00:00)?": "TIME",
    r"(?m)^(date|x-request-id|content-length): .*$": "HEADER",
    r"cursor=[\w-]+": "CURSOR",
}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_every_command_of_the_quickstart_gives_the_answer_shown(
    migrated_database: NewDatabase, tmp_path: Path
) -> None:
    url = await migrated_database(USER_SESSIONS, SIGN_IN)

    with run_service(tmp_path, DATABASE_URL=url, SERVICE_AUTH_TOKEN=SERVICE_TOKEN) as service:
        page = re.sub(
            r"(?s)(?<=```console\n).*?(?=```)", lambda block: run(block[0], service.url), QUICKSTART.read_text()
        )

    if os.environ.get("WRITE_QUICKSTART"):
        QUICKSTART.write_text(page)
    assert without_changes(QUICKSTART.read_text()) == without_changes(page), (
        "the answers have changed: if that is meant, run"
        " `WRITE_QUICKSTART=1 uv run pytest tests/contract/test_quickstart.py` and read what it wrote"
    )


def run(block: str, api: str) -> str:
    """Run the commands of a block, and put the output of each below it, where a reader of the page expects it."""
    settings = {"PATH": os.environ["PATH"], "API": api, "TOKEN": TOKEN, "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    shown = ""
    for command in commands:
        ended = subprocess.run(["bash", "-c", command[2:]], env=settings, capture_output=True, text=True, check=True)
        answer = ended.stdout.replace(api, "http://127.0.0.1:8000").replace("\r", "").strip()
        shown += f"{command}\n{answer}\n\n"
    return shown.removesuffix("\n")


def without_changes(page: str) -> str:
    for pattern, word in CHANGING.items():
        page = re.sub(pattern, word, page)
    return page
