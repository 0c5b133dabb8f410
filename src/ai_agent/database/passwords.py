"""libpq's file of passwords. asyncpg reads it too, but takes its escapes, and spaces at the ends, for other text."""

import re
import sys
from contextlib import suppress
from pathlib import Path

from ai_agent.errors import ConfigurationError

# host:port:database:user:password, where a backslash makes the next character an ordinary one.
_ENTRY = re.compile(r"((?:\\.|[^\\:])*):" * 4 + "(.*)", re.DOTALL)


def check_passfile(passfile: str | None, source: str) -> None:
    """Refuse a file that asyncpg would silently ignore, because an operator would only see a wrong password then."""
    if not passfile:
        with suppress(OSError, RuntimeError):  # There may be no home, or none that the process may enter.
            _check_entries((Path.home() / ".pgpass").read_bytes(), "~/.pgpass")
        return
    try:
        is_private = _is_private(Path(passfile))
        content = Path(passfile).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{source} names a password file that cannot be read: {error.strerror}") from None
    if not is_private:
        raise ConfigurationError(f"{source} names a password file that others may read: make it private, chmod 600")
    _check_entries(content, f"{source} names a password file that")


def _is_private(file: Path) -> bool:
    return sys.platform == "win32" or not file.stat().st_mode & 0o077


def _check_entries(content: bytes, file: str) -> None:
    """Raise ConfigurationError for a line at which asyncpg would fail each time that it connects."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not UTF-8: save it again as UTF-8") from None
    for number, line in enumerate(lines, 1):
        is_entry = line.strip() and not line.lstrip().startswith("#")
        if is_entry and len(re.split(r"(?<!\\):", line, maxsplit=4)) < 5:
            raise ConfigurationError(f"{file} has no host:port:database:user:password in line {number}: mend that line")


def find_password(passfile: str | None, host: str, port: int, database: str, user: str) -> str | None:
    """The password of the first line that fits, or None. The file is read anew, because passwords change."""
    target = ("localhost" if host.startswith("/") else host, str(port), database, user)
    with suppress(OSError, RuntimeError, UnicodeDecodeError):
        file = Path(passfile) if passfile else Path.home() / ".pgpass"
        if not _is_private(file):
            return None
        for line in file.read_text(encoding="utf-8").split("\n"):
            found = None if line.startswith("#") else _ENTRY.fullmatch(line.rstrip("\r"))
            if found and all(field in ("*", value) for field, value in zip(_read_fields(found), target, strict=False)):
                return _read_fields(found)[4]
    return None


def _read_fields(entry: re.Match[str]) -> list[str]:
    return [re.sub(r"\\(.)", r"\1", field) for field in entry.groups()]
