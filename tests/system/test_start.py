"""The service starts under uvicorn, or ends with one sentence for the operator."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.types import StartService

CANNOT_START = {
    "no DATABASE_URL": ({}, "DATABASE_URL is not set; .env.example shows every setting"),
    "another database's URL": ({"DATABASE_URL": "mysql://db/app"}, "DATABASE_URL must begin with postgresql://"),
    "an unknown sslmode": (
        {"DATABASE_URL": "postgresql://db/app?sslmode=strict"},
        "DATABASE_URL has an unknown sslmode; use one of disable, allow, prefer, require, verify-ca, verify-full",
    ),
}


def serve(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uvicorn", "ai_agent.main:app", "--port=0", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(("environment", "sentence"), CANNOT_START.values(), ids=CANNOT_START.keys())
def test_a_start_that_cannot_succeed_ends_with_one_sentence(
    environment: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    ended = serve(tmp_path, **environment)

    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == f"ai-agent cannot start: {sentence}\n"


def test_several_workers_that_cannot_start_are_not_started_again_and_again(tmp_path: Path) -> None:
    ended = serve(tmp_path, "--workers=2")

    assert "ai-agent cannot start: DATABASE_URL is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_are_read_from_a_file_too(database_url: str, tmp_path: Path, start_service: StartService) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={database_url}\n")

    service = start_service(DATABASE_URL="")

    assert httpx.get(f"{service.url}/health/ready").status_code == 200


def test_the_service_starts_while_the_database_is_away(start_service: StartService) -> None:
    service = start_service(DATABASE_URL="postgresql://127.0.0.1:1/app")

    assert httpx.get(f"{service.url}/health").json() == {"status": "healthy", "service": "ai-agent"}
