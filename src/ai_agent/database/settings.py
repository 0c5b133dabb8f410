"""The server settings that a connection begins with: all on the server itself, fewer where a pooler refuses some."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# Columns without a time zone hold UTC, and JSON made by the server prints UTC. Nearly all poolers pass this on.
_ALWAYS = {"timezone": "UTC"}

# Settings whose defaults a role or a database may have changed.
_DIRECT = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",  # A query fails when a policy would hide some of its rows.
    # Keepalives come before firewalls and address translators forget an idle connection.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

_IDLE_TIMEOUT = "300000"  # Milliseconds: the connections of a burst stay for the next one, and no longer.

# The server learns this setting from the connection's first message. Where it is missing, a pooler has accepted the
# settings and forgotten them.
MARKER = "ai_agent.connection"

# This must be one statement in the simple protocol, because a pooler may run the next one on another server. It returns
# rows only if the server knows the marker. It sets what older servers do not know and would refuse at the start, and
# what depends on the server: a commit waits at least for the disk, unless the server's own configuration, not a role's
# or a database's, says otherwise.
_SETTLE = """\
SELECT set_config(name, value, false)
FROM (VALUES
    ('lock_timeout', {lock_timeout}),
    ('idle_session_timeout', {idle_session_timeout}),
    ('transaction_timeout', {transaction_timeout}),
    ('synchronous_commit', CASE
        WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
            AND (SELECT source FROM pg_settings WHERE name = 'synchronous_commit')
            NOT IN ('default', 'environment variable', 'configuration file', 'command line') THEN 'on'
        ELSE current_setting('synchronous_commit') END)
) AS ours (name, value)
WHERE current_setting('ai_agent.connection', true) = '{{marker}}' AND current_setting(name, true) IS NOT NULL
"""

# Where a pooler refuses or ignores a setting, the role's own value may still be the right one.
_UTC_HOLDS = "current_setting('TimeZone') IN ('UTC', 'Etc/UTC')"
_PATH_HOLDS = """
{path} IN (replace(current_setting('search_path'), ', ', ','), current_schema(), '"' || current_schema() || '"')
"""
_ROLE_HOLDS = "current_user = coalesce(nullif({role}, 'none'), session_user)"


class Level(NamedTuple):
    """Settings that go together; the levels go from the most to the fewest that a server or a pooler accepts."""

    direct: bool
    """Whether they need the server itself, which keeps settings and the names of statements."""
    startup: Mapping[str, str]
    """What the connection begins with."""
    question: str
    """A statement that returns rows if the settings hold; it may be empty. `{marker}` is the connection's own."""


def make_levels(asked: dict[str, str], seconds: float) -> list[Level]:
    """The levels for the settings of DATABASE_URL. The server ends a statement one second after `seconds`."""
    given_up = str(round((seconds + 1) * 1000))
    time_outs = {"statement_timeout": given_up, "idle_in_transaction_session_timeout": given_up}
    later = {"lock_timeout": "0", "idle_session_timeout": _IDLE_TIMEOUT, "transaction_timeout": "0"}
    settle = _SETTLE.format(**{name: _literal(asked.get(name, value)) for name, value in later.items()})
    first = {name: value for name, value in asked.items() if name not in later}
    # Without these the connection would have no name or, at Neon, reach another server.
    kept = {name: value for name, value in asked.items() if name in ("application_name", "options")}
    target = list(_target_holds(asked))
    options = {name: value for name, value in kept.items() if name == "options"}
    levels = [
        Level(True, _DIRECT | time_outs | first | _ALWAYS, settle),
        Level(False, asked | _ALWAYS, _ask(target)),
        Level(False, kept | _ALWAYS, _ask(target)),
        Level(False, options, _ask([_UTC_HOLDS, *target])),
    ]
    return levels if asked.keys() - kept.keys() else [levels[0], *levels[2:]]


def _target_holds(asked: dict[str, str]) -> Iterator[str]:
    if "search_path" in asked:
        yield _PATH_HOLDS.format(path=_literal(re.sub(r",\s+", ",", asked["search_path"])))
    if "role" in asked:
        yield _ROLE_HOLDS.format(role=_literal(asked["role"]))


def _ask(conditions: list[str]) -> str:
    return f"SELECT WHERE {' AND '.join(conditions)}" if conditions else ""


def _literal(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))
