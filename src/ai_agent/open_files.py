"""The files that the process opens: the three standard ones, and how many more, which bounds its connections."""

import logging
import os
import sys
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

# More than one process ever needs. Some systems refuse a much higher soft limit, even where "unlimited" is allowed.
ENOUGH = 65536

# Below this limit, ordinary traffic comes near it.
FEW = 1024


def open_missing_streams() -> None:
    """Open the null device as stdin, stdout and stderr where a supervisor has closed them.

    Otherwise a socket would get the number of one of them, and be closed or written to as if it were that one.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The system gives it the lowest free number, which is that of the missing stream.
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  # It stays open.
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def raise_limit() -> None:
    """Raise the soft limit, usually 1024, as far as the process may on its own and not beyond ENOUGH."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  # Windows has no such module.

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@cache
def limit() -> int:
    """The soft limit as it was at the first call."""
    if sys.platform == "win32":
        return ENOUGH
    import resource  # noqa: PLC0415  # Windows has no such module.

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def max_connections() -> int:
    """How many clients' connections to hold: half of the limit. The rest is for the database's and for closing ones."""
    return limit() // 2


def warn_of_few() -> None:
    """Warn at start of what would otherwise show only under load."""
    if limit() < FEW:
        logger.warning(
            "This process may open only %d files, so it holds at most %d connections of clients at once;"
            " raise the limit (ulimit -n, LimitNOFILE=, or docker run --ulimit nofile=) to %d or more.",
            *(limit(), max_connections(), FEW),
        )
