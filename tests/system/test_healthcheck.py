"""The container's health check finds the server wherever it listens."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.service import run_service
from tests.support.waiting import wait_until

# Nothing listens there, so a check that goes through a proxy fails.
PROXIES = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), "http://127.0.0.1:1")


def check(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ai_agent.healthcheck"],
        env={"PATH": os.environ["PATH"], **PROXIES, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost"])
def test_the_check_asks_the_server_and_no_proxy(host: str, tmp_path: Path) -> None:
    with run_service(tmp_path, DATABASE_URL="postgresql://127.0.0.1:1/none", UVICORN_HOST=host) as service:
        checked = check(UVICORN_HOST=host, UVICORN_PORT=str(urlsplit(service.url).port))

    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_check_finds_the_server_at_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "service.sock")
    command = [sys.executable, "-m", "ai_agent.server"]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://127.0.0.1:1/none", "UVICORN_UDS": path}
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=output)
    try:
        wait_until(lambda: "running on unix socket" in log.read_text())
        checked = check(UVICORN_UDS=path, UVICORN_PORT="1")
    finally:
        process.terminate()
        process.wait(timeout=30)
    stopped = check(UVICORN_UDS=path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"{path} does not answer: FileNotFoundError")


def test_the_check_fails_where_nothing_listens() -> None:
    checked = check(UVICORN_PORT="1")

    assert checked.returncode == 1
    assert checked.stderr.startswith("127.0.0.1 port 1 does not answer: ConnectionRefusedError")


def test_the_image_listens_where_its_check_looks() -> None:
    dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text()

    assert re.findall("UVICORN_[A-Z]+=[^ \n]+", dockerfile) == ["UVICORN_HOST=0.0.0.0", "UVICORN_PORT=8000"]
    assert 'CMD ["python", "-m", "ai_agent.healthcheck"]' in dockerfile
    assert dockerfile.endswith('CMD ["ai-agent-serve"]\n')
