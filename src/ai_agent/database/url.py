"""Reads DATABASE_URL as people paste it, over libpq's PG* variables, into one set of parameters."""

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, unquote, urlsplit

from ai_agent.database.parameters import Parameters, is_honored
from ai_agent.errors import ConfigurationError

_UNREADABLE = (
    "DATABASE_URL cannot be read as a URL: check that every port is in digits,"
    " and in the password write / as %2F, # as %23, ? as %3F, @ as %40, [ as %5B, % as %25"
)


def read_parameters(database_url: str) -> Parameters:
    """Everything that a URL and the PG* variables ask for and the service honors.

    As in libpq, the query wins over the rest of the URL, and the URL over the variables. Raises ConfigurationError for
    a URL that cannot be read, and for a parameter that can be neither honored nor dropped.
    """
    parameters = Parameters()
    try:
        parts = _split(database_url.strip())
        for name, value in (*_read_parts(parts), *_read_query(parts.query)):
            parameters.set(name, value)
        "".join(parameters.values()).encode()
    except ConfigurationError:
        raise
    except ValueError:  # Its text may quote a piece of the password.
        raise ConfigurationError(_UNREADABLE) from None
    for name, value in list(parameters.items()):
        if not is_honored(name, value, parameters.source(name)):
            del parameters[name]
    return parameters


def _split(database_url: str) -> SplitResult:
    parts = urlsplit(database_url)
    if parts.scheme not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise ConfigurationError("DATABASE_URL must begin with postgresql://")
    # An @ after the netloc shows that a character of the password has ended it too early.
    astray = "@" not in parts.netloc and any("@" in text for text in (parts.path, re.sub("=[^&]*", "", parts.query)))
    if astray or parts.fragment:
        raise ConfigurationError(_UNREADABLE)
    return parts


def _read_parts(parts: SplitResult) -> Iterator[tuple[str, str]]:
    credentials, _, addresses = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    hosts, ports = _split_addresses(addresses)
    found = {"user": unquote(user, errors="strict"), "password": unquote(password, errors="strict")}
    found |= {"host": ",".join(hosts), "port": ",".join(ports) if any(ports) else ""}
    found["dbname"] = unquote(parts.path[1:], errors="strict")
    yield from ((name, value) for name, value in found.items() if value)


def _split_addresses(addresses: str) -> tuple[list[str], list[str]]:
    """The hosts and ports of `h1:p1,[::1]:p2`, a missing port as an empty text; raises ValueError for anything else."""
    hosts, ports = [], []
    for address in addresses.split(","):
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.%a-z]+\]|[^\[\]:]*)(?::([0-9]*))?", address)
        if found is None:
            raise ValueError
        hosts.append(unquote(found[1].strip("[]"), errors="strict"))
        ports.append(found[2] or "")
    return hosts, ports


def _read_query(query: str) -> Iterator[tuple[str, str]]:
    """The names and values as libpq reads them: a plus sign stays a plus sign."""
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        yield unquote(name, errors="strict").lower(), unquote(value, errors="strict")
