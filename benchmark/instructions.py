"""The instructions that an app spends on a request, as Valgrind's callgrind counts them.

Unlike times, they hardly depend on the machine's other work. Only uvicorn's clock, which ticks ten times a second, adds
up to 3 % on a slow machine, to both apps alike.
"""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

from benchmark.load import APPS, OPERATIONS, compose, run_app, send
from tests.support.service import Service

WARM_UP, FEW, MANY = 30, 10, 60  # Requests.

# The longest times that the settings allow, because everything takes some 50 times as long under Valgrind.
PATIENT = {"DATABASE_TIMEOUT": "4.5", "DATABASE_POOL_TIMEOUT": "4"}


def is_there() -> bool:
    return shutil.which("valgrind") is not None


def count(folder: Path, url: str, conversation_id: int) -> dict[str, dict[str, float]]:
    """For each app, the thousands of instructions that a request of each operation takes."""
    return {app: count_for(folder, app, url, conversation_id) for app in APPS}


def count_for(folder: Path, app: str, url: str, conversation_id: int) -> dict[str, float]:
    profile = folder / f"{app}.callgrind"
    callgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={profile}")
    # Otherwise Python orders sets at random, and so takes another path in each process.
    with run_app(folder, app, url, under=callgrind, PYTHONHASHSEED="0", **PATIENT) as service:
        requests = {operation: compose(operation, "small", conversation_id) for operation in OPERATIONS}
        for request in requests.values():  # Connecting and preparing would take too long once instructions are counted.
            asyncio.run(send(service, [request] * WARM_UP))
        control(service, "--instr=on")
        for request in requests.values():
            asyncio.run(send(service, [request] * WARM_UP))
        return {operation: count_request(service, profile, request) for operation, request in requests.items()}


def count_request(service: Service, profile: Path, request: bytes) -> float:
    """The thousands of instructions for a request, without those for a connection."""
    few, many = (count_requests(service, profile, [request] * times) for times in (FEW, MANY))
    return (many - few) / (MANY - FEW) / 1000


def count_requests(service: Service, profile: Path, requests: list[bytes]) -> int:
    control(service, "--zero")
    asyncio.run(send(service, requests))
    control(service, "--dump")
    dump = max(profile.parent.glob(f"{profile.name}.*"), key=lambda file: int(file.suffix[1:]))
    total = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
    assert total is not None, dump
    return int(total[1])


def control(service: Service, command: str) -> None:
    words = ["callgrind_control", command, str(service.process.pid)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
