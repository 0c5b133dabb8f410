"""A primary and its synchronous standby, of Debian's PostgreSQL, which can lose the primary in several ways."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from ai_agent.local.postgres import free_port
from ai_agent.local.programs import find_launcher
from tests.support.database import until
from tests.support.middlemen import READ_ALL
from tests.support.waiting import wait_until_ready

# The wheel's PostgreSQL has no pg_basebackup. What is written outlives a process that is killed, with or without fsync.
_SETTINGS = ("fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=16MB")


class Node:
    """One of the two servers."""

    def __init__(self, folder: Path, password: str) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres:{password}@127.0.0.1:{self.port}/postgres"
        self.data = folder / f"data-{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *settings: str) -> None:
        """Start with these settings, and return when connections are accepted."""
        words = [f"--{setting}" for setting in (*_SETTINGS, f"port={self.port}", *settings)]
        with self.data.with_suffix(".log").open("a") as log:
            self._process = subprocess.Popen(
                [*find_launcher(*READ_ALL), str(_find("postgres")), "-D", self.data, *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until_ready(self._process, self._accepts_connections, self.data.with_suffix(".log"))

    def _accepts_connections(self) -> bool:
        """Whether the server says so in its own file, whose last line is its state."""
        with suppress(FileNotFoundError):
            return (self.data / "postmaster.pid").read_text().rstrip().endswith("ready")
        return False

    def stop(self) -> None:
        """Stop cleanly: all that was committed reaches the standby first."""
        self._signal_one(signal.SIGINT)

    def kill(self) -> None:
        """Kill every process of the server, also a frozen one."""
        self._signal_all(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(timeout=10)

    def freeze(self) -> None:
        """Let every process of the server fall silent, with its connections open."""
        self._signal_all(signal.SIGSTOP)

    def _signal_one(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)

    def _signal_all(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        postmaster = self._process.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in (postmaster, *map(int, children)):
            with suppress(ProcessLookupError):  # It may have ended when the others did.
                os.kill(process, number)


class Pair:
    """The two servers; `primary` is the one that takes writes, or did."""

    def __init__(self, folder: Path) -> None:
        self._password = secrets.token_hex()
        self._nodes = Node(folder, self._password), Node(folder, self._password)
        self.primary, self.standby = self._nodes
        password = folder / "password"
        password.write_text(self._password)
        access = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}")
        _own(self.primary.data)
        _run("initdb", *access, "--encoding=UTF8", "--no-locale", "--no-sync", "-D", self.primary.data)

    def start(self) -> None:
        """Start both; the standby is a copy of the primary, made at the first start."""
        self.primary, self.standby = self._nodes
        self.primary.start("synchronous_standby_names=*")
        if not self.standby.data.exists():
            _own(self.standby.data)
            copied = ("--checkpoint=fast", "--no-sync", "--write-recovery-conf", f"--dbname={self.primary.url}")
            _run("pg_basebackup", *copied, "-D", self.standby.data)
        self.standby.start()

    def save(self) -> None:
        """Stop both, and keep their data for `restore`."""
        self.primary.stop()
        self.standby.stop()
        for node in self._nodes:
            node.data.rename(node.data.with_suffix(".saved"))

    def restore(self) -> None:
        """End both, whatever they do, and give them the data that was saved."""
        for node in self._nodes:
            node.kill()
            shutil.rmtree(node.data, ignore_errors=True)
            subprocess.run(["cp", "-a", node.data.with_suffix(".saved"), node.data], check=True)

    async def promote(self) -> None:
        """Let the standby become the primary, and return when it takes writes."""
        connection = await asyncpg.connect(self.standby.url)
        await connection.execute("SELECT pg_promote()")
        await connection.close()
        self.primary, self.standby = self.standby, self.primary

    def follow(self) -> None:
        """Start the former primary, which was stopped cleanly, as the standby of the new one."""
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres password={self._password}"
        (self.standby.data / "standby.signal").touch()
        self.standby.start(f"primary_conninfo={source}", "recovery_target_timeline=latest")


async def until_synchronous(pair: Pair) -> None:
    """Wait until the primary acknowledges nothing that the standby has not."""
    connection = await asyncpg.connect(pair.primary.url)
    await until(connection, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
    await connection.close()


@asynccontextmanager
async def tell_who_takes_writes(nodes: Sequence[Node]) -> AsyncIterator[list[int]]:
    """Yield a port for each server, where HTTP is answered 200 while it takes writes, as Patroni's `/primary` does."""

    async def answer(node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = b"200 OK" if await _takes_writes(node) else b"503 Service Unavailable"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with AsyncExitStack() as listeners:
        servers = [await asyncio.start_server(partial(answer, node), "127.0.0.1", 0) for node in nodes]
        for server in servers:
            await listeners.enter_async_context(server)
        yield [server.sockets[0].getsockname()[1] for server in servers]


async def _takes_writes(node: Node) -> bool:
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with asyncio.timeout(1):
            connection = await asyncpg.connect(node.url)
            try:
                return not await connection.fetchval("SELECT pg_is_in_recovery()")
            finally:
                connection.terminate()
    return False


def _find(program: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"[0-9]*/bin/{program}"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.skip("Debian's PostgreSQL is not installed")
    return found[-1]


def _own(data: Path) -> None:
    data.mkdir(mode=0o700)
    if os.getuid() == 0:
        shutil.chown(data, "nobody")


def _run(program: str, *arguments: str | Path) -> None:
    words = [*find_launcher(*READ_ALL), str(_find(program)), *arguments]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
