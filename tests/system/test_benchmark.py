"""The benchmark is run by hand, so this test shows that it still runs."""

import subprocess
import sys

from tests.support.database import PROJECT


def test_the_benchmarks_smoke_mode_prints_its_table() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmark", "--smoke"], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert [line.split("  ")[0] for line in ended.stdout.splitlines()[2:]] == [
        "chat-new",
        "chat-append",
        "list of 20",
        "history of 50",
    ]
