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
    "a WEB_CONCURRENCY that is not a number": (
        {"DATABASE_URL": "postgresql://db/app", "WEB_CONCURRENCY": "auto"},
        "WEB_CONCURRENCY must be a number of workers",
    ),
    "an empty WEB_CONCURRENCY, which counts as unset": (
        {"WEB_CONCURRENCY": ""},
        "DATABASE_URL is not set; .env.example shows every setting",
    ),
}


def serve(
    folder: Path, *arguments: str, server: str = "ai_agent.server", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *server.split(), "--port=0", *arguments],
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


CANNOT_LISTEN = {
    "a port above the highest": ("--port=70000", "70000 is not in the range 0<=x<=65535."),
    "a port below zero": ("--port=-1", "-1 is not in the range 0<=x<=65535."),
    "a folder that is missing": ("--uds=missing/service.sock", "There is no folder missing: make it first."),
    "a folder for a socket": ("--uds=/", "File '/' is a directory."),
    "a long path": (f"--uds={'x' * 120}", "The path is too long: at most 103 bytes are allowed."),
}


@pytest.mark.parametrize(("argument", "reason"), CANNOT_LISTEN.values(), ids=CANNOT_LISTEN.keys())
def test_an_address_that_is_none_is_one_sentence(argument: str, reason: str, tmp_path: Path) -> None:
    ended = serve(tmp_path, argument, DATABASE_URL="postgresql://127.0.0.1:1/app")

    option, _, _ = argument.partition("=")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1] == f"Error: Invalid value for '{option}': {reason}"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_the_service_starts_where_a_supervisor_has_closed_its_streams(
    closed: str, tmp_path: Path, start_service: StartService
) -> None:
    service = start_service(
        "--workers=2",
        under=["sh", "-c", f'exec "$@" {closed}', "sh"],
        DATABASE_URL="postgresql://127.0.0.1:1/app",
    )

    assert httpx.get(f"{service.url}/health").status_code == 200
    assert "Traceback" not in service.log.read_text()


def test_uvicorn_itself_can_serve_the_app_too(tmp_path: Path) -> None:
    ended = serve(tmp_path, server="uvicorn ai_agent.main:app")

    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == "ai-agent cannot start: DATABASE_URL is not set; .env.example shows every setting\n"


def test_several_workers_that_cannot_start_are_not_started_again_and_again(tmp_path: Path) -> None:
    ended = serve(tmp_path, "--workers=2")

    assert "ai-agent cannot start: DATABASE_URL is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


WORKERS = {
    "--workers": (["--workers=2"], {}, True),
    "WEB_CONCURRENCY": ([], {"WEB_CONCURRENCY": "2"}, True),
    "no metrics": (["--workers=2"], {"METRICS_PATH": "off"}, False),
    "one worker": (["--workers=1"], {}, False),
    "one that starts again when a file changes": (["--reload"], {}, False),
}


@pytest.mark.parametrize(("arguments", "environment", "is_said"), WORKERS.values(), ids=WORKERS.keys())
def test_several_workers_say_that_their_metrics_are_not_one_truth(
    arguments: list[str], environment: dict[str, str], is_said: bool, start_service: StartService
) -> None:
    service = start_service(*arguments, **environment)

    service.process.terminate()
    service.process.wait(timeout=30)

    assert ("let Prometheus scrape each of them" in service.log.read_text()) == is_said


def test_settings_are_read_from_a_file_too(database_url: str, tmp_path: Path, start_service: StartService) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={database_url}\n")

    service = start_service(DATABASE_URL="")

    assert httpx.get(f"{service.url}/health/ready").status_code == 200


def test_the_service_starts_while_the_database_is_away(start_service: StartService) -> None:
    service = start_service(DATABASE_URL="postgresql://127.0.0.1:1/app")

    assert httpx.get(f"{service.url}/health").json() == {"status": "healthy", "service": "ai-agent"}


def test_a_mistyped_setting_is_named_in_the_log(start_service: StartService) -> None:
    service = start_service(DATABASE_POOLSIZE="7")

    sentence = "DATABASE_POOLSIZE is set, but is not a setting of this service: was DATABASE_POOL_SIZE meant?"
    assert service.log.read_text().count(sentence) == 1


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to("/proc/self/mem")  # Nobody can read its first bytes, root neither.

    ended = serve(tmp_path)

    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        "ai-agent cannot start: .env cannot be read (Input/output error): let the service's user read it\n"
    )


def test_a_home_that_may_not_be_entered_is_no_obstacle(start_service: StartService, tmp_path: Path) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0)
    # Root may enter any folder, and fails at a name that is too long in the same way.
    homes = [str(closed), f"/{'x' * 300}"]

    services = [start_service(HOME=home) for home in homes]

    assert [httpx.get(f"{service.url}/health/ready").status_code for service in services] == [200, 200]


def test_a_variable_of_libpq_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    ended = serve(tmp_path, DATABASE_URL="postgresql://db/app", PGPORT="abc", PGSSLMODE="no-verify")

    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == "ai-agent cannot start: PGPORT has a port that is not a number from 1 to 65535\n"
