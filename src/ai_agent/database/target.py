"""What DATABASE_URL asks for, as asyncpg takes it: hosts in the order to try them, credentials, TLS, settings."""

import getpass
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_agent.database import tls
from ai_agent.database.parameters import SERVER_SETTINGS, Parameters, check_option
from ai_agent.database.passwords import check_passfile
from ai_agent.database.url import read_parameters
from ai_agent.errors import ConfigurationError

# The parameters by which Prisma, asyncpg and SQLAlchemy learn of a pooler in transaction mode, and the names that Neon
# and Supabase give theirs: ep-cool-name-pooler.eu-central-1.aws.neon.tech, aws-0-eu-central-1.pooler.supabase.com.
_POOLER_PARAMETERS = {("pgbouncer", "true"), ("statement_cache_size", "0"), ("prepared_statement_cache_size", "0")}
_POOLER_HOST = re.compile(r"[-.]pooler\.")

# Where PostgreSQL's packages put its socket. They are tried where no host is named, because libpq does so.
_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp")


@dataclass(frozen=True)
class Target:
    """Where and how to connect; `hosts.Connector` does it."""

    hosts: tuple[tuple[str, int], ...]
    """Names, addresses or folders of sockets, with their ports."""
    credentials: Mapping[str, Any] = field(repr=False)
    """asyncpg's arguments that say who connects, and to which database."""
    tls: tls.Attempts
    """What to try in order; None is a connection without TLS."""
    direct_tls: bool
    """Whether TLS begins at once rather than after PostgreSQL's own question for it."""
    settings: dict[str, str]
    """The server settings that the URL asks for, and the name of the application."""
    sessions: str
    """libpq's target_session_attrs: `any`, `read-write` or `primary`."""
    pooled: bool
    """Whether the URL itself says that a pooler in transaction mode stands before the server."""


def read_target(database_url: str) -> Target:
    """The target of a URL as a provider prints it; raises ConfigurationError, in one sentence, if it is unusable."""
    parameters = read_parameters(database_url)
    hosts = _read_hosts(parameters)
    attempts = tls.read_attempts(parameters)
    _check_addresses(parameters, attempts)
    return Target(
        hosts=hosts,
        credentials=_read_credentials(parameters),
        tls=attempts,
        direct_tls=parameters.get("sslnegotiation") == "direct",
        settings={"application_name": "ai-agent"} | _read_settings(parameters),
        sessions=_read_sessions(parameters),
        pooled=any(_POOLER_HOST.search(host) for host, _ in hosts)
        or not _POOLER_PARAMETERS.isdisjoint(parameters.items()),
    )


def _read_hosts(parameters: Parameters) -> tuple[tuple[str, int], ...]:
    name = "hostaddr" if parameters.get("hostaddr") else "host"
    split = [_split_port(host) for host in parameters.get(name, "").split(",")]
    hosts, own_ports = [host for host, _ in split], [port for _, port in split]
    ports = own_ports if any(own_ports) else parameters.get("port", "").split(",")
    if len(ports) > 1 and len(ports) != len(hosts):
        raise ConfigurationError(f"{parameters.source('port')} has {len(ports)} ports for {len(hosts)} hosts")
    numbers = [_read_port(port, parameters) for port in ports]
    pairs = zip(hosts, numbers if len(numbers) > 1 else numbers * len(hosts), strict=True)
    return tuple((found, port) for host, port in pairs for found in _find_host(host, parameters.source(name)))


def _split_port(host: str) -> tuple[str, str]:
    """A host and its own port. libpq reads such a port only before the query, but asyncpg reads it in `?host=` too."""
    found = re.fullmatch(r"\[?([^/:]+|(?<=\[)[^/\]]+)\]?:([0-9]+)", host)
    return (found[1], found[2]) if found and (host[0] == "[" or host.count(":") == 1) else (host, "")


def _read_port(port: str, parameters: Parameters) -> int:
    if not re.fullmatch(r"[0-9]{0,5}", port) or not 0 < int(port or 5432) < 65536:
        raise ConfigurationError(f"{parameters.source('port')} has a port that is not a number from 1 to 65535")
    return int(port or 5432)


def _find_host(host: str, source: str) -> tuple[str, ...]:
    if not host:
        return (*(folder for folder in _SOCKETS if Path(folder).is_dir()), "localhost")
    try:
        if not host.startswith("/"):  # Else it is the folder of a socket.
            host.encode("idna")
    except UnicodeError:
        problem = "has a host that cannot be read as a URL's: give names or addresses, with commas between several"
        raise ConfigurationError(f"{source} {problem}") from None
    return (host.strip("[]"),)


def _check_addresses(parameters: Parameters, attempts: tls.Attempts) -> None:
    """Refuse hostaddr beside a host to verify, because asyncpg compares the certificate with the address alone."""
    named = parameters.get("host")
    verifies = any(context is not None and context.check_hostname for context in attempts)
    if parameters.get("hostaddr") and named and named != parameters["hostaddr"] and verifies:
        source = parameters.source("hostaddr")
        raise ConfigurationError(f"{source} has hostaddr beside a host that sslmode=verify-full checks: leave one out")


def _read_credentials(parameters: Parameters) -> dict[str, Any]:
    user, password = parameters.get("user"), parameters.get("password")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # The user of a container may have no name.
            raise ConfigurationError("DATABASE_URL names no user, and the process's own has no name: add one") from None
    passfile = parameters.get("passfile")
    if not password:
        check_passfile(passfile, parameters.source("passfile"))
    return {
        "user": user,
        "password": password or None,
        "passfile": passfile or None,
        "database": parameters.get("dbname") or parameters.get("database") or user,
        "krbsrvname": parameters.get("krbsrvname"),
        "gsslib": "sspi" if sys.platform == "win32" else "gssapi",
    }


def _read_settings(parameters: Parameters) -> dict[str, str]:
    names = (name for name in parameters if name in SERVER_SETTINGS or "." in name or name == "application_name")
    settings = {name: parameters[name] for name in names}
    if schema := parameters.get("schema"):
        settings.setdefault("search_path", '"{}"'.format(schema.replace('"', '""')))
    return _read_options(parameters) | settings


def _read_options(parameters: Parameters) -> dict[str, str]:
    """The settings that `options` gives the server, a later one before an earlier; what is no setting stays there."""
    settings, unread = {}, []
    text, source = parameters.get("options", "").strip(), parameters.source("options")
    for option in re.split(r"(?<!\\)\s+", re.sub(r"(?<!\S)-c\s+", "-c", text)):
        found = re.fullmatch(r"(?:-c|--)([^=]+)=(.*)", option, re.DOTALL)
        if found is None:
            unread.append(option)  # For example Neon's `endpoint=...`, which is for its proxy.
            continue
        name = found[1].lower().replace("-", "_")
        if not re.fullmatch(r"[a-z_][a-z0-9_.$]*", name):
            raise ConfigurationError(f"{source} has options that name no setting: write a space as %20, not as +")
        check_option(name, source)
        if name != "client_encoding":  # asyncpg speaks UTF-8.
            settings[name] = re.sub(r"\\(.)", r"\1", found[2])
    return settings | ({"options": " ".join(unread)} if any(unread) else {})


def _read_sessions(parameters: Parameters) -> str:
    sessions = parameters.get("target_session_attrs") or "any"
    source = parameters.source("target_session_attrs")
    if sessions in ("read-only", "standby", "prefer-standby"):
        refused = f"has target_session_attrs={sessions}, where nothing can be written: use read-write"
        raise ConfigurationError(f"{source} {refused}")
    if sessions not in ("any", "read-write", "primary"):
        raise ConfigurationError(f"{source} has an unknown target_session_attrs; use any, read-write or primary")
    return sessions
