"""`ai-agent` started by hand: a real process in an empty folder, with the PostgreSQL that it starts."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from ai_agent.local.postgres import run_postgres
from tests.support.assistant import PROJECT
from tests.support.trial import AI_AGENT, ENVIRONMENT, Start, api, fail, page, start_trial
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the trial's own PostgreSQL needs Linux or macOS")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_printed_curl_command_stores_a_first_message(trial: Path) -> None:
    curl = "curl" + page(trial).partition("\ncurl")[2].partition("\n\n")[0]

    answer = subprocess.run(["sh", "-c", curl], check=True, capture_output=True, text=True, timeout=30)

    assert '"assistant_message":"Echo: Hello"' in answer.stdout
    assert "\n  Replies come from an echo, until ASSISTANT names an agent.\n" in page(trial)
    with api(trial) as client:
        assert len(client.get("/api/conversations").json()) == 1


def test_the_page_names_the_agent_that_replies(start: Start, tmp_path: Path) -> None:
    name = "tests.support.scripted_agent:agent"

    start(ASSISTANT=name, PYTHONPATH=str(PROJECT), MODEL_URL="http://127.0.0.1:1/v1")

    assert f"\n  Replies come from {name}.\n" in page(tmp_path)
    assert page(tmp_path).count(name) == 1


def test_the_next_start_finds_the_same_token_and_conversations(start: Start, tmp_path: Path) -> None:
    first = start()
    with api(tmp_path) as client:
        client.post("/api/chat", json={"message": "Hello"})
        conversations = client.get("/api/conversations").json()
        token = client.headers["Authorization"]
    first.terminate()
    first.wait(timeout=20)

    start()

    with api(tmp_path) as client:
        assert client.headers["Authorization"] == token
        assert client.get("/api/conversations").json() == conversations


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_the_service_and_its_postgres(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests run under nohup, which what they start respects")
    process = start()

    process.send_signal(number)

    assert process.wait(timeout=10) in {130, 143}
    assert "Traceback" not in page(tmp_path)
    assert_no_postgres(tmp_path)


@pytest.mark.parametrize("signals", ["INT", "INT TERM", "HUP INT TERM", "TERM HUP"])
@pytest.mark.parametrize("program", ["/initdb", "/postgres", "ai_agent.local.service"])
def test_signals_end_the_command_even_where_python_would_drop_an_exception(
    program: str, signals: str, tmp_path: Path
) -> None:
    code = f"""
import signal, sys
from ai_agent.local.command import main

class Signals:
    def __del__(self):
        numbers = [signal.Signals["SIG" + name] for name in {signals.split()}]
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

def when_it_starts(event, arguments):
    if event == "subprocess.Popen" and "--version" not in arguments[1]:
        if any(word.endswith("{program}") for word in arguments[1]):
            Signals()

sys.addaudithook(when_it_starts)
main()
"""
    command = [sys.executable, "-c", code, "--port", "0"]

    ended = subprocess.run(command, check=False, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=20)

    assert ended.returncode in {130, 143}
    assert (ended.stdout, ended.stderr) == (b"", b"")
    assert not (tmp_path / ".trial/data/postmaster.pid").exists()


@pytest.mark.parametrize("signals", ["INT", "INT TERM", "HUP INT TERM", "TERM HUP"])
def test_signals_end_the_command_while_its_service_is_loaded(signals: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, signal, sys

class WhileItLoads:
    def find_spec(self, name, *_):
        if name == "asyncpg":
            for signal_name in {signals.split()}:
                os.kill(os.getppid(), signal.Signals["SIG" + signal_name])

sys.meta_path.insert(0, WhileItLoads())
""")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}

    ended = subprocess.run(AI_AGENT, check=False, cwd=tmp_path, env=environment, capture_output=True, timeout=20)

    assert ended.returncode in {130, 143}
    assert (ended.stdout, ended.stderr) == (b"", b"")
    assert_no_postgres(tmp_path)


def test_an_impatient_second_ctrl_c_still_ends_in_order(start: Start, tmp_path: Path) -> None:
    process = start()

    process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # The first signal must arrive by itself, and the second while it is being handled.
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=10) == 130
    assert "Traceback" not in page(tmp_path)
    assert_no_postgres(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists processes as files")
def test_neither_a_postgres_that_hangs_nor_one_of_its_processes_outlives_the_service(tmp_path: Path) -> None:
    with ExitStack() as trials:
        ending = []
        for hangs in (postmaster_of, child_of):
            folder = tmp_path / hangs.__name__
            folder.mkdir()
            process = start_trial(folder, trials)
            hanging = hangs(folder)
            os.kill(hanging, signal.SIGSTOP)
            process.terminate()
            ending.append((process, hanging))

        for process, hanging in ending:  # Each takes its time, so they end side by side.
            assert process.wait(timeout=30) == 143
            assert not Path(f"/proc/{hanging}").exists()


def postmaster_of(folder: Path) -> int:
    return int((folder / ".trial/data/postmaster.pid").read_text().partition("\n")[0])


def child_of(folder: Path) -> int:
    postmaster = postmaster_of(folder)
    return int(Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()[0])


def assert_no_postgres(folder: Path) -> None:
    """PostgreSQL removes its pid file, and then says so; a process id would still be seen as a zombie."""
    wait_until(lambda: "database system is shut down" in (folder / ".trial/postgres.log").read_text())
    assert not (folder / ".trial/data/postmaster.pid").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a server with the process that started it")
def test_a_killed_service_takes_its_postgres_along(start: Start, tmp_path: Path) -> None:
    start().kill()

    assert_no_postgres(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a server with the process that started it")
def test_a_start_right_after_a_kill_finds_the_data(start: Start, tmp_path: Path) -> None:
    start().kill()

    start()

    with api(tmp_path) as client:
        assert client.get("/api/conversations").json() == []


def test_an_interrupted_first_start_is_made_good(start: Start, tmp_path: Path) -> None:
    unfinished = tmp_path / ".trial/data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")

    start()

    with api(tmp_path) as client:
        assert client.get("/api/conversations").json() == []


def test_a_second_trial_on_the_same_data_is_refused(trial: Path) -> None:
    assert fail(trial) == (
        f"ai-agent: another trial is running with the data in {trial}/.trial: stop it, or start this one elsewhere\n"
    )


def test_a_port_in_use_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = fail(tmp_path, "--port", str(port))

    assert said.startswith(f"ai-agent: cannot listen on 127.0.0.1 port {port}, choose others with --host and --port: ")
    assert said.count("\n") == 1
    assert not (tmp_path / ".trial").exists()


def test_a_missing_postgres_is_one_sentence(tmp_path: Path) -> None:
    said = fail(tmp_path, POSTGRES_BIN=str(tmp_path))

    assert said.startswith(f"ai-agent: no PostgreSQL in {tmp_path}: run `uv sync`,")
    assert said.count("\n") == 1


def test_data_of_another_postgres_version_is_one_sentence(start: Start, tmp_path: Path) -> None:
    process = start()
    process.terminate()
    process.wait(timeout=20)
    (tmp_path / ".trial/data/PG_VERSION").write_text("9.6\n")

    said = fail(tmp_path)

    assert "The data directory was initialized by PostgreSQL version 9.6, which is not compatible with" in said
    assert said.count("\n") == 1


def test_damaged_data_is_one_sentence_that_names_the_way_out(start: Start, tmp_path: Path) -> None:
    process = start()
    process.terminate()
    process.wait(timeout=20)
    trial = tmp_path / ".trial"

    (trial / "password").write_text("another")
    refused = fail(tmp_path)
    (trial / "password").unlink()
    missing = fail(tmp_path)

    assert refused == (
        f'ai-agent: the data in {trial} is damaged: password authentication failed for user "postgres"'
        " (delete it to begin anew)\n"
    )
    assert missing == (
        f"ai-agent: the data in {trial} is damaged: [Errno 2] No such file or directory: '{trial}/password'"
        " (delete it to begin anew)\n"
    )


def test_an_unreachable_database_is_one_sentence_without_the_password(tmp_path: Path) -> None:
    said = fail(tmp_path, DATABASE_URL="postgresql://someone:secret@127.0.0.1:1/nothing")

    assert said.startswith("ai-agent: The database that DATABASE_URL names cannot be migrated: ")
    assert said.count("\n") == 1
    assert "secret" not in said


async def test_a_database_of_ones_own_is_migrated_and_nothing_else(start: Start, tmp_path: Path) -> None:
    with run_postgres(tmp_path / "postgres", "fsync=off") as url:
        (tmp_path / ".env").write_text(f"DATABASE_URL={url}\n")
        start().terminate()
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()

    tables = {row["tablename"] for row in rows}
    assert "conversations" in tables
    assert tables.isdisjoint({"user", "user_sessions"})
    assert "Token" not in page(tmp_path)
    assert not (tmp_path / ".trial").exists()
