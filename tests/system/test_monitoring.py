"""What the page for operators offers to watch the service, held against real programs."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from ai_agent.config import Settings
from ai_agent.local.postgres import free_port
from ai_agent.server import OPTIONS
from tests.support import operations
from tests.support.types import Headers, SignIn, StartService
from tests.support.waiting import wait_until_answered

PROJECT = Path(__file__).parents[2]
MONITORING = PROJECT / "docs/monitoring"


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def image_command() -> list[str]:
    [command] = re.findall(r"(?m)^CMD (\[.*\])$", (PROJECT / "Dockerfile").read_text())
    words: list[str] = json.loads(command)
    return words


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit, program = operations.block("systemd", "### With systemd"), tmp_path / ".venv/bin/ai-agent-serve"
    program.parent.mkdir(parents=True)
    program.symlink_to(Path(sys.executable).with_name("ai-agent-serve"))
    (tmp_path / "ai-agent.service").write_text(unit.replace("/opt/ai-agent", str(tmp_path)))

    verified = subprocess.run(
        [need("systemd-analyze"), "verify", "--man=no", str(tmp_path / "ai-agent.service")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_the_unit_starts_what_the_image_starts() -> None:
    [command] = re.findall(r"(?m)^ExecStart=/opt/ai-agent/.venv/bin/(.*)$", operations.block("systemd", "### With sys"))

    assert command.split() == image_command()


def test_compose_runs_the_image_as_it_is() -> None:
    services = yaml.safe_load(operations.block("yaml", "### With Compose"))["services"]
    service = services["ai-agent"]

    assert "command" not in service
    assert service["image"] == services["migrate"]["image"]
    assert services["migrate"]["command"] == "alembic upgrade head"
    assert int(service["stop_grace_period"].removesuffix("s")) > OPTIONS["timeout_graceful_shutdown"]
    assert {name.lower() for name in service["environment"]} <= Settings.model_fields.keys()
    [port] = service["ports"]
    assert f"UVICORN_PORT={port.split(':')[-1]}" in (PROJECT / "Dockerfile").read_text()


def test_the_alerts_fire_when_they_should() -> None:
    tested = subprocess.run(
        [need("promtool"), "test", "rules", str(MONITORING / "alerts_test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.fixture
async def prometheus(
    start_service: StartService, sign_in: SignIn, tmp_path: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, str, Headers]]:
    """A Prometheus with our configuration that scrapes a running service, the service's address, and a user of it."""
    service = start_service()
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    [job] = configuration["scrape_configs"]
    job |= {"scrape_interval": "1s", "static_configs": [{"targets": [urlsplit(service.url).netloc]}]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration | {"global": {"evaluation_interval": "1s"}}))
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    log = tmp_path / "prometheus.log"
    with run([need("prometheus"), *options, f"--web.listen-address={address}"], log) as process:
        wait_until_answered(process, f"http://{address}/-/ready", log)
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            yield client, service.url, await sign_in()


@contextmanager
def run(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


async def ask(prometheus: httpx.AsyncClient, path: str, **parameters: str) -> Any:
    response = await prometheus.get(f"/api/v1/{path}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def queries() -> dict[str, str]:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return {
        f"{panel['title']}: {target['legendFormat']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel["targets"]
    }


async def test_prometheus_answers_each_query_of_the_dashboard_and_knows_the_alerts(
    prometheus: tuple[httpx.AsyncClient, str, Headers],
) -> None:
    client, url, headers = prometheus
    unanswered = queries()

    async with asyncio.timeout(60), httpx.AsyncClient(base_url=url, headers=headers) as user:
        while unanswered:
            # A rate needs two scrapes, and requests in between.
            assert (await user.get("/api/conversations")).status_code == 200
            answers = {title: await ask(client, "query", query=query) for title, query in unanswered.items()}
            await asyncio.sleep(0.2)  # Prometheus scrapes each second, and is not to be kept busy.
            unanswered = {
                title: query
                for title, query in unanswered.items()
                if not any(one["value"][1] != "NaN" for one in answers[title]["result"])
            }
        groups = (await ask(client, "rules"))["groups"]
        while any(rule["health"] == "unknown" for group in groups for rule in group["rules"]):
            groups = (await ask(client, "rules"))["groups"]

    [ours] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    assert [(rule["name"], rule["health"]) for group in groups for rule in group["rules"]] == [
        (rule["alert"], "ok") for rule in ours["rules"]
    ]


async def test_every_metric_that_the_rules_and_the_dashboard_name_is_there(
    service_url: str,
) -> None:
    async with httpx.AsyncClient(base_url=service_url) as client:
        shown = (await client.get("/metrics")).text
    alerts = (MONITORING / "alerts.yml").read_text()

    named = set(re.findall(r'([a-z_]+)\{job="ai-agent"', "\n".join([alerts, *queries().values()]))) - {"up"}

    assert {name for name in named if not re.search(rf"(?m)^{name}[ {{]", shown)} == set()
    assert len(named) > 8
