"""A PostgreSQL server for the trial run and the tests, which ends with the process that started it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ai_agent.local.programs import DamagedData, TrialError, find_launcher, find_postgres, major_version, open_to
from ai_agent.local.signals import pause

if sys.platform != "win32":
    import fcntl


@contextmanager
def run_postgres(directory: Path, *options: str) -> Iterator[str]:
    """Run PostgreSQL on the data in `directory`, which the first use makes, and yield its superuser's URL.

    `options` are server settings such as `fsync=off`. On Linux the server ends even if this process is killed. Raises
    TrialError when PostgreSQL cannot run, and Stopped when a signal has come.
    """
    if sys.platform == "win32":
        raise TrialError("the trial's own PostgreSQL needs Linux or macOS: set DATABASE_URL to a database of yours")
    directory = directory.resolve()
    launcher = find_launcher()
    binaries = open_to(launcher, find_postgres())
    with _lock(directory) as lock:
        if not (directory / "data").exists():
            _initialize(directory, [*launcher, str(binaries / "initdb")], lock)
        _check_version(directory, binaries)
        # With the lock held this file is stale, even if its process id belongs to another process by now.
        (directory / "data/postmaster.pid").unlink(missing_ok=True)
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(free_port())}
        settings |= dict(option.split("=", 1) for option in options)
        words = (f"--{name}={value}" for name, value in settings.items())
        with _server(directory, [*launcher, str(binaries / "postgres"), *words], lock):
            yield f"postgresql://postgres:{_read_password(directory)}@127.0.0.1:{settings['port']}/postgres"


def _check_version(directory: Path, binaries: Path) -> None:
    """Refuse data of another major version in PostgreSQL's words. Older programs say instead that it is damaged."""
    with suppress(OSError):  # Without this file, PostgreSQL says so itself.
        version = (directory / "data/PG_VERSION").read_text().strip()
        if version != (other := major_version(binaries)):
            raise TrialError(
                f"The data directory was initialized by PostgreSQL version {version}, which is not compatible with"
                f" version {other}: name the folder of a `postgres` {version} in POSTGRES_BIN, or start in another"
                f" folder to begin anew; the data stays in {directory}"
            )


def _read_password(directory: Path) -> str:
    try:
        return (directory / "password").read_text()
    except (OSError, UnicodeError) as error:
        raise DamagedData(directory, error) from error


def free_port(wanted: int = 0) -> int:
    """Return this port if it is free, else another that is."""
    try:
        with socket.create_server(("127.0.0.1", wanted)) as probe:
            port: int = probe.getsockname()[1]
    except OSError:
        return free_port()
    return port


def _lock(directory: Path) -> TextIO:
    """Lock the folder until this process and the children that inherit the open file have ended, in whatever way."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise TrialError(f"the trial cannot keep its data here: {error}") from error
    deadline = time.monotonic() + 5  # The server of a trial that was killed takes a moment to end.
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        pause()
    lock.close()
    raise TrialError(f"another trial is running with the data in {directory}: stop it, or start this one elsewhere")


def _initialize(directory: Path, initdb: list[str], lock: TextIO) -> None:
    """Make the data folder, which gets its name last: an interrupted one is made again by the next start."""
    unfinished, password, log = directory / "data.unfinished", directory / "password", directory / "postgres.log"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe())
    if os.getuid() == 0:
        shutil.chown(unfinished, "nobody")
        shutil.chown(password, "nobody")
    options = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync")
    with _handed_over(unfinished, lock) as (folder, files), _handed_over(password, lock) as (pwfile, more_files):
        words = [*initdb, *options, f"--pwfile={pwfile}", folder]
        with _process(words, log, files | more_files) as process:
            while process.poll() is None:
                pause()
    if process.returncode != 0:
        reason = log.read_text(errors="replace").partition("\n")[0]
        raise TrialError(f"PostgreSQL could not make its data folder {directory}: {reason}")
    unfinished.rename(directory / "data")


@contextmanager
def _server(directory: Path, postgres: list[str], lock: TextIO) -> Iterator[None]:
    log = directory / "postgres.log"
    with (
        _handed_over(directory / "data", lock) as (data, files),
        _process([*postgres, "-D", data], log, files) as server,
    ):
        _wait_until_ready(server, directory / "data/postmaster.pid", log)
        yield


@contextmanager
def _handed_over(path: Path, lock: TextIO) -> Iterator[tuple[str, set[int]]]:
    """Yield a path by which PostgreSQL finds the file or folder, and the file descriptors that it must inherit for it.

    Root's PostgreSQL runs as `nobody`, who may not enter the folders above, but an open file leads there all the same.
    """
    if os.getuid() != 0:
        yield str(path), {lock.fileno()}
        return
    opened = os.open(path, os.O_PATH)
    try:
        yield f"/proc/self/fd/{opened}", {lock.fileno(), opened}
    finally:
        os.close(opened)


@contextmanager
def _process(words: list[str], log: Path, files: set[int]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            pass_fds=files,
            start_new_session=True,  # Ctrl-C reaches only this process, whose service needs its database to the end.
        )
    try:
        yield process
    finally:
        # SIGINT stops the server cleanly. SIGQUIT stops it at once and, after 5 seconds, kills those of its processes
        # that hang; the next start repairs the data. SIGKILL ends it, whatever it is doing.
        stop(process, (signal.SIGINT, 4), (signal.SIGQUIT, 7), (signal.SIGKILL, 4))


def stop(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, int]) -> None:
    """Send one signal after the other until the process has ended, and wait after each for its seconds."""
    for number, seconds in steps:
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
            return


def _wait_until_ready(server: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if " LOG:  " not in line]
            reason = lines[-1].rpartition(":  ")[2] if lines else f"exit status {server.returncode}"
            way_out = f"its log is {log}; delete {log.parent} to begin anew"
            raise TrialError(f"PostgreSQL did not start: {reason} ({way_out})")
        with suppress(FileNotFoundError):
            if pid_file.read_text().rstrip().endswith("ready"):
                return
        pause()
    raise TrialError(f"PostgreSQL was not ready within 30 seconds; its log is {log}")
