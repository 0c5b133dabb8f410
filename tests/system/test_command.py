"""The command `ai-agent` itself: where it listens, what it shows, and what it runs from a wheel in any folder."""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from functools import partial
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from tests.support.database import USER_SESSIONS
from tests.support.trial import AI_AGENT, ENVIRONMENT, Start, fail, page
from tests.support.types import NewDatabase
from tests.support.waiting import wait_until, wait_until_ready

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the trial's own PostgreSQL needs Linux or macOS")

PROJECT = Path(__file__).parents[2]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        pytest.param("::", "[::1]", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")),
        pytest.param("::1", "[::1]", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")),
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_the_page_shows_an_address_that_can_be_opened(start: Start, tmp_path: Path, host: str, shown: str) -> None:
    start("--host", host)

    address = re.findall(r"serving on (\S+)\n", page(tmp_path))[0]
    assert re.fullmatch(rf"http://{re.escape(shown)}:\d+", address)
    assert httpx.get(f"{address}/health").json() == {"status": "healthy", "service": "ai-agent"}


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 64, "::12345"])
def test_a_host_that_is_none_is_one_sentence(tmp_path: Path, host: str) -> None:
    said = fail(tmp_path, "--host", host)

    assert said.startswith(f"ai-agent: cannot listen on {host} port 0, choose others with --host and --port: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("port", ["-1", "65536", "70000", "http"])
def test_an_invalid_port_is_one_sentence(tmp_path: Path, port: str) -> None:
    command = [*AI_AGENT, f"--port={port}"]
    ended = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[1:] == [f"ai-agent: error: argument --port: invalid port value: '{port}'"]


def test_the_version_is_shown(tmp_path: Path) -> None:
    ended = subprocess.run([*AI_AGENT, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert (ended.stdout, ended.stderr) == (f"ai-agent {version('ai-agent')}\n", "")


def test_someone_at_a_terminal_sees_each_step(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    with subprocess.Popen(
        AI_AGENT, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        wait_until(lambda: "database system is ready" in log(tmp_path))
        while b"Applying" not in shown:
            shown += os.read(ours, 1000)
        process.terminate()
    os.close(ours)

    assert shown.decode().splitlines() == [
        "Making a PostgreSQL database in .trial ...",
        "Loading the service ...",
        "Applying the migrations ...",
    ]


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-"])
def test_a_trial_starts_where_a_supervisor_has_closed_its_streams(closed: str, tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *AI_AGENT],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=output,
            stderr=output,
        )
    wait_until_ready(process, lambda: "Ctrl-C stops" in page(tmp_path), tmp_path / "output")
    process.terminate()

    assert process.wait(timeout=20) == 143, page(tmp_path)
    assert "Traceback" not in page(tmp_path)


def log(folder: Path) -> str:
    file = folder / ".trial/postgres.log"
    return file.read_text() if file.exists() else ""


def test_the_wheel_runs_its_own_migrations_in_the_folder_of_another_project(tmp_path: Path) -> None:
    ai_agent = install_wheel(tmp_path)
    project = tmp_path / "project"
    (project / "alembic").mkdir(parents=True)
    (project / "alembic.ini").write_text("[alembic]\nscript_location = alembic\n")
    (project / "alembic/env.py").write_text("raise SystemExit('these are not the migrations of ai-agent')\n")
    (project / "uvicorn.py").write_text("raise SystemExit('this is not the server of ai-agent')\n")

    with (project / "output").open("w") as output:
        process = subprocess.Popen(
            [ai_agent, "--port", "0"], cwd=project, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT
        )
    wait_until_ready(process, lambda: "Ctrl-C stops" in page(project), project / "output")
    process.terminate()

    assert process.wait(timeout=20) == 143, page(project)
    assert "Token:" in page(project)


async def test_the_wheels_message_names_the_command_that_migrates_from_any_folder(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    python = install_wheel(tmp_path).with_name("python")
    environment = {**ENVIRONMENT, "DATABASE_URL": await new_database(USER_SESSIONS)}
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = another project's\n")
    run = partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    ask = [python, "-c", "from ai_agent.services.readiness import MIGRATE; print(MIGRATE)"]

    named = run(ask).stdout.strip()
    migrated = run([python.with_name(named)])
    again = run([python.with_name(named)])

    assert named == "ai-agent-migrate"
    assert (migrated.returncode, again.returncode) == (0, 0), migrated.stderr


def install_wheel(folder: Path) -> Path:
    """Build the wheel and install it into an environment of its own, beside this one's other packages."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on PATH")
    environment = folder / "environment"
    python = environment / "bin/python"
    run = partial(subprocess.run, check=True, capture_output=True, cwd=PROJECT)
    run([uv, "build", "--wheel", "--out-dir", folder / "wheel"])
    run([uv, "venv", "--python", sys.executable, environment])
    (wheel,) = (folder / "wheel").glob("*.whl")
    run([uv, "pip", "install", "--python", python, "--no-deps", wheel])
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    assert (site_packages / "ai_agent").is_dir()
    return environment / "bin/ai-agent"
