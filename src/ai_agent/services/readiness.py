"""Whether the database has everything that the routes need: tables, columns, the function, privileges, the encoding."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic_core import to_json
from sqlalchemy import Table
from sqlmodel import SQLModel

from ai_agent.database.connection import Connection
from ai_agent.database.models import BetterAuth
from ai_agent.database.statements import load
from ai_agent.errors import DatabaseNotReady
from ai_agent.services import auth
from ai_agent.services.turns import FUNCTION

# The columns that statements update. Statements read all columns, and insert all but the ids, which the database makes.
UPDATED = {
    "conversations": ["title", "updated_at"],
    "idempotency_keys": ["fingerprint", "conversation_id", "first_message_id", "last_message_id", "created_at"],
}

# Where the wheel is installed, `alembic` would run the migrations of whatever project is in the working directory.
MIGRATE = "ai-agent-migrate" if (Path(__file__).parents[1] / "migrations").exists() else "alembic upgrade head"


# What is wrong, by its kind, and what to do about it.
_SENTENCES = {
    "encoding": "The database's encoding is {name}: create it with ENCODING 'UTF8', which every text fits.",
    "schema": (
        "The role {role} may use no schema of its search_path ({name}):"
        " GRANT USAGE ON SCHEMA public TO {role}, or name another with ?schema= in DATABASE_URL."
    ),
    "privilege": "The role {role} lacks {privilege} on {name}: GRANT {privilege} ON {name} TO {role}.",
    "policy": (
        "Row level security hides rows of {name} from the role {role}:"
        " make the role the table's owner, without FORCE ROW LEVEL SECURITY, or give it BYPASSRLS."
    ),
    "filling": (
        "Nothing fills the column {name}, so no turn can be stored: give it a DEFAULT or an IDENTITY, which for an id"
        " begins after the highest one."
    ),
    "index": (
        "The table {name} has no index that keeps a user's keys unique, so no turn with a key can be stored:"
        " CREATE UNIQUE INDEX ON {name} (user_id, key)."
    ),
    "replica": (
        "The role {role} has session_replication_role = replica, so a deleted conversation would leave its messages:"
        " ALTER ROLE {role} RESET session_replication_role, or ALTER DATABASE, whichever has set it."
    ),
    "standby": (
        "The server is a standby, so every write is refused: name the primary in DATABASE_URL,"
        " or all hosts, with target_session_attrs=read-write."
    ),
    "read-only": (
        "The role {role} may only read, so every write is refused:"
        " ALTER ROLE {role} RESET default_transaction_read_only, or ALTER DATABASE, whichever has set it."
    ),
    "isolation": (
        "The role {role} has the isolation {name} behind a pooler, so some of the writes made at once are refused:"
        " ALTER ROLE {role} SET default_transaction_isolation = 'read committed'."
    ),
    "foreign key": (
        "No foreign key deletes the messages of a deleted conversation:"
        " ALTER TABLE messages ADD CONSTRAINT fk_messages_conversation_id FOREIGN KEY (conversation_id, user_id)"
        " REFERENCES conversations (id, user_id) ON DELETE CASCADE."
    ),
}

# What to do about a missing table that another schema has.
_ELSEWHERE = {
    "table": (
        "There is no table {name} on the search_path, only one in the schema {elsewhere}:"
        " name that schema too, as in ?search_path={elsewhere},public in DATABASE_URL,"
        " or run '{migrate}' to make new, empty tables."
    ),
    "better-auth table": (
        "There is no table {name} on the search_path, only one in the schema {elsewhere}:"
        " name that schema too, as in ?search_path=public,{elsewhere} in DATABASE_URL."
    ),
}

# With these, reads still work, so the service stays ready: otherwise nobody could read either.
_ONLY_WRITES = ("standby", "read-only", "isolation", "foreign key")


class Lack(NamedTuple):
    """One thing that is missing."""

    kind: Literal[
        "encoding",
        "schema",
        "table",
        "column",
        "function",
        "better-auth table",
        "better-auth column",
        "privilege",
        "policy",
        "filling",
        "index",
        "replica",
        "standby",
        "read-only",
        "isolation",
        "foreign key",
    ]
    name: str
    privilege: str
    role: str
    has_session: bool
    """Whether there is a table with better-auth's own name for its sessions."""
    elsewhere: str | None
    """For a table that is missing, a schema outside of the search_path that has one."""

    def describe(self) -> str:
        """What is missing and what to do about it, in one or two sentences."""
        if self.elsewhere is not None:
            return _ELSEWHERE[self.kind].format(migrate=MIGRATE, **self._asdict())
        if self.kind in _SENTENCES:
            return _SENTENCES[self.kind].format(**self._asdict())
        if self.kind.startswith("better-auth"):
            known = " (there is a table session, better-auth's own name for it)" if self.has_session else ""
            return (
                f"There is no {self.kind.removeprefix('better-auth ')} {self.name}{known}: let better-auth make it,"
                " with session: { modelName: 'user_sessions' } in its configuration and its own migration."
            )
        return (
            "The database is not at the migration that this release needs:"
            f" it has no {self.kind} {self.name}. Run '{MIGRATE}'."
        )


_FIND_LACKS = load(Path(__file__).with_name("find_lacks.sql"), Lack)


def _needed() -> list[dict[str, Any]]:
    """The tables of the models, in the order in which they are checked."""
    return [
        {
            "name": table.name,
            "ours": ours,
            "columns": [column.name for column in table.columns],
            "privileges": _privileges(table, ours=ours),
        }
        for ours, metadata in ((True, SQLModel.metadata), (False, BetterAuth.metadata))
        for table in metadata.sorted_tables
    ]


def _privileges(table: Table, *, ours: bool) -> list[dict[str, Any]]:
    """What the statements do with a table. What a foreign key causes runs as the table's owner."""
    used: list[dict[str, Any]] = [{"privilege": "SELECT", "columns": [column.name for column in table.columns]}]
    if ours:
        inserted = [column.name for column in table.columns if column.identity is None]
        used.append({"privilege": "INSERT", "columns": inserted})
    if table.name in UPDATED:
        used += [{"privilege": "UPDATE", "columns": UPDATED[table.name]}, {"privilege": "DELETE", "columns": None}]
    return used


async def check(connection: Connection) -> str | None:
    """Raise DatabaseNotReady, which names the most important thing that is missing. If only writes suffer, return why.

    Anything more in the database does no harm, so this release still serves after the next one's migrations.
    """
    needed = to_json(_needed()).decode()
    lack = await connection.fetch_first(_FIND_LACKS, needed=needed, function=FUNCTION)
    if lack is not None and lack.kind not in _ONLY_WRITES:
        raise DatabaseNotReady(lack.describe())
    await auth.check(connection)
    return lack and lack.describe()
