import asyncio
import secrets
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.database import USER_SESSIONS, run_sql, until_waiting_for_locks
from tests.support.refusing import USUAL, run_refusing
from tests.support.rows import seed, user_session
from tests.support.types import AppRole, NewDatabase

NOT_MIGRATED = "The database is not at the migration that this release needs:"
MAKE = (
    "let better-auth make it, with session: { modelName: 'user_sessions' } in its configuration and its own migration."
)
UNAVAILABLE = "The database is not available at the moment; try again shortly."


async def test_health_answers_without_a_token(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")

    assert (response.status_code, response.json()) == (200, {"status": "healthy", "service": "ai-agent"})


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_monitors_that_send_head_get_the_status_alone(path: str, client: httpx.AsyncClient) -> None:
    response = await client.head(path)

    assert (response.status_code, response.content) == (200, b"")


async def test_health_never_asks_the_database() -> None:
    async with running(make_settings(database_url="postgresql://127.0.0.1:1/none")) as app, client_of(app) as client:
        response = await client.get("/health")

    assert response.status_code == 200


async def test_ready_is_200_on_a_migrated_database(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (200, {"status": "ready", "service": "ai-agent"})


async def test_ready_says_that_the_database_is_away() -> None:
    async with running(make_settings(database_url="postgresql://127.0.0.1:1/none")) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert response.status_code == 503
    assert response.json() == {"detail": UNAVAILABLE}
    assert response.headers["Retry-After"].isdecimal()


# What is done to the database, and what then stands in the response and in the log.
LACKS = {
    "no tables of ours": (
        "ALTER TABLE messages RENAME TO hidden",
        f"{NOT_MIGRATED} it has no table messages. Run 'alembic upgrade head'.",
    ),
    "a column": (
        "ALTER TABLE conversations RENAME title TO hidden",
        f"{NOT_MIGRATED} it has no column conversations.title. Run 'alembic upgrade head'.",
    ),
    "the function": (
        "ALTER FUNCTION store_turn_1 RENAME TO hidden",
        f"{NOT_MIGRATED} it has no function store_turn_1. Run 'alembic upgrade head'.",
    ),
    "better-auth's table": ("ALTER TABLE user_sessions RENAME TO hidden", f"There is no table user_sessions: {MAKE}"),
    "better-auth's table under its own name": (
        "ALTER TABLE user_sessions RENAME TO session",
        f"There is no table user_sessions (there is a table session, better-auth's own name for it): {MAKE}",
    ),
    "better-auth's column": (
        'ALTER TABLE user_sessions RENAME "userId" TO user_id',
        f"There is no column user_sessions.userId: {MAKE}",
    ),
}


@pytest.mark.parametrize(("change", "detail"), LACKS.values(), ids=LACKS.keys())
async def test_ready_names_what_is_missing_and_the_remedy_and_so_does_the_log_at_the_start(
    change: str, detail: str, own_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await run_sql(own_url, change)

    async with running(make_settings(database_url=own_url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (503, {"detail": detail})
    assert f"Not ready: {detail}" in caplog.messages


@pytest.fixture
async def own_url(migrated_database: NewDatabase) -> str:
    """A database that a test may spoil."""
    return await migrated_database(USER_SESSIONS)


# What every turn, or every turn with a key, rests on.
UNDONE = {
    "what makes an id": (
        "ALTER TABLE conversations ALTER id DROP IDENTITY",
        "Nothing fills the column conversations.id, so no turn can be stored: give it a DEFAULT or an IDENTITY, which"
        " for an id begins after the highest one.",
    ),
    "a default": (
        "ALTER TABLE messages ADD tenant text NOT NULL",
        "Nothing fills the column messages.tenant, so no turn can be stored: give it a DEFAULT or an IDENTITY, which"
        " for an id begins after the highest one.",
    ),
    "the primary key of the idempotency keys": (
        "ALTER TABLE idempotency_keys DROP CONSTRAINT pk_idempotency_keys",
        "The table idempotency_keys has no index that keeps a user's keys unique, so no turn with a key can be stored:"
        " CREATE UNIQUE INDEX ON idempotency_keys (user_id, key).",
    ),
    "a primary key that is checked at once": (
        "ALTER TABLE idempotency_keys DROP CONSTRAINT pk_idempotency_keys,"
        " ADD CONSTRAINT pk_idempotency_keys PRIMARY KEY (user_id, key) DEFERRABLE",
        "The table idempotency_keys has no index that keeps a user's keys unique, so no turn with a key can be stored:"
        " CREATE UNIQUE INDEX ON idempotency_keys (user_id, key).",
    ),
}


@pytest.mark.parametrize(("change", "detail"), UNDONE.values(), ids=UNDONE.keys())
async def test_ready_names_what_the_tables_have_lost(change: str, detail: str, own_url: str) -> None:
    await run_sql(own_url, change)

    async with running(make_settings(database_url=own_url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (503, {"detail": detail})


async def test_the_log_says_that_a_deletion_would_leave_messages_and_how_to_mend_it(
    own_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    mend = (
        "ALTER TABLE messages ADD CONSTRAINT fk_messages_conversation_id FOREIGN KEY (conversation_id, user_id)"
        " REFERENCES conversations (id, user_id) ON DELETE CASCADE"
    )
    said = f"No foreign key deletes the messages of a deleted conversation: {mend}."
    statuses = []

    for change in ("ALTER TABLE messages DROP CONSTRAINT fk_messages_conversation_id", mend):
        await run_sql(own_url, change)
        caplog.clear()
        async with running(make_settings(database_url=own_url)) as app, client_of(app) as client:
            statuses.append(((await client.get("/health/ready")).status_code, said in caplog.messages))

    assert statuses == [(200, True), (200, False)]


# Each of these fills what the service does not, or stands for what was dropped.
REPLACED = {
    "another default": (
        "ALTER TABLE conversations ALTER id DROP IDENTITY",
        "CREATE SEQUENCE ids",
        "ALTER TABLE conversations ALTER id SET DEFAULT nextval('ids')",
    ),
    "a trigger": (
        "ALTER TABLE messages ADD tenant text NOT NULL",
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := 'one'; RETURN NEW; END $$",
        "CREATE TRIGGER fill BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fill()",
    ),
    "a unique index": (
        "ALTER TABLE idempotency_keys DROP CONSTRAINT pk_idempotency_keys",
        "CREATE UNIQUE INDEX ON idempotency_keys (key, user_id)",
    ),
    "a foreign key of another name": ("ALTER TABLE messages RENAME CONSTRAINT fk_messages_conversation_id TO other",),
}


@pytest.mark.parametrize("changes", REPLACED.values(), ids=REPLACED.keys())
async def test_ready_is_200_where_something_else_does_the_same(changes: tuple[str, ...], own_url: str) -> None:
    await run_sql(own_url, *changes)
    await seed(own_url, user_session("ada", "some-token"))
    headers = {"Authorization": "Bearer some-token", "Idempotency-Key": "one"}

    async with running(make_settings(database_url=own_url)) as app, client_of(app, headers=headers) as client:
        ready, sent = await client.get("/health/ready"), await client.post("/api/chat", json={"message": "Hello"})

    assert (ready.status_code, sent.status_code) == (200, 200)


REVOKED = {
    "SELECT on user_sessions": "SELECT ON user_sessions",
    "SELECT of a column": "SELECT ON messages",
    "INSERT": "INSERT ON messages",
    "UPDATE": "UPDATE ON conversations",
    "DELETE": "DELETE ON idempotency_keys",
    "a sequence": "USAGE ON SEQUENCE public.messages_id_seq",
}


@pytest.mark.parametrize("privilege", REVOKED.values(), ids=REVOKED.keys())
async def test_ready_names_a_privilege_that_the_role_lacks(privilege: str, own_url: str, app_role: AppRole) -> None:
    url = await app_role(own_url)
    role = urlsplit(url).username
    await run_sql(own_url, f"REVOKE {privilege.replace('public.', '')} FROM {role}")

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    name, _, table = privilege.partition(" ON ")
    remedy = f"The role {role} lacks {name} on {table}: GRANT {name} ON {table} TO {role}."
    assert (response.status_code, response.json()) == (503, {"detail": remedy})


async def test_ready_names_a_policy_that_hides_rows_and_requests_are_a_503_rather_than_an_empty_list(
    own_url: str, app_role: AppRole, caplog: pytest.LogCaptureFixture
) -> None:
    url = await app_role(own_url)
    await seed(own_url, user_session("ada", "some-token"), "ALTER TABLE conversations ENABLE ROW LEVEL SECURITY")
    headers = {"Authorization": "Bearer some-token"}

    async with running(make_settings(database_url=url)) as app, client_of(app, headers=headers) as client:
        ready, listed = await client.get("/health/ready"), await client.get("/api/conversations")

    role = urlsplit(url).username
    detail = (
        f"Row level security hides rows of conversations from the role {role}:"
        " make the role the table's owner, without FORCE ROW LEVEL SECURITY, or give it BYPASSRLS."
    )
    assert (ready.status_code, ready.json()) == (503, {"detail": detail})
    assert (listed.status_code, listed.json()) == (503, {"detail": UNAVAILABLE})
    assert "Make the service's role the owner of the table, or give it BYPASSRLS." in caplog.text


@pytest.mark.parametrize("whose", ["ROLE", "DATABASE"])
async def test_who_may_only_read_is_served_and_the_log_says_at_the_start_and_at_a_write_what_to_do(
    whose: str, own_url: str, app_role: AppRole, caplog: pytest.LogCaptureFixture
) -> None:
    url = await app_role(own_url)
    role, name = urlsplit(url).username, urlsplit(url).path[1:]
    signed_in = "INSERT INTO user_sessions VALUES ('1', 'infinity', 'some-token', now(), now(), '', '', 'ada')"
    set_by = {"ROLE": role, "DATABASE": name}[whose]
    await run_sql(own_url, signed_in, f"ALTER {whose} {set_by} SET default_transaction_read_only = on")
    headers = {"Authorization": "Bearer some-token"}

    async with running(make_settings(database_url=url)) as app, client_of(app, headers=headers) as client:
        answers = [await client.get(path) for path in ("/health/ready", "/api/conversations")]
        written = await client.post("/api/chat", json={"message": "Hello"})

    await run_sql(own_url, "SET default_transaction_read_only = off", f"ALTER {whose} {set_by} RESET ALL")
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (written.status_code, written.json()) == (503, {"detail": UNAVAILABLE})
    assert (
        f"The role {role} may only read, so every write is refused: ALTER ROLE {role} RESET"
        " default_transaction_read_only, or ALTER DATABASE, whichever has set it."
    ) in caplog.messages
    assert "where default_transaction_read_only is on, RESET it with ALTER ROLE or ALTER DATABASE." in caplog.text


async def test_an_isolation_that_refuses_writes_at_once_is_named_in_the_log_with_what_to_do(
    own_url: str, app_role: AppRole, caplog: pytest.LogCaptureFixture
) -> None:
    """A pooler takes no settings from the service, so those of the role count."""
    role_url = await app_role(own_url)
    role = urlsplit(role_url).username
    signed_in = "INSERT INTO user_sessions VALUES ('1', 'infinity', 'some-token', now(), now(), '', '', 'ada')"
    opened = "INSERT INTO conversations (id, user_id) OVERRIDING SYSTEM VALUE VALUES (7, 'ada')"
    isolated = f"ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'"
    await run_sql(own_url, signed_in, opened, isolated)
    database, headers = await asyncpg.connect(own_url), {"Authorization": "Bearer some-token"}

    async with (
        run_refusing(role_url, USUAL, "08P01") as (_, url),
        running(make_settings(database_url=url)) as app,
        client_of(app, headers=headers) as client,
    ):
        ready = await client.get("/health/ready")
        async with database.transaction():
            await database.execute("UPDATE conversations SET updated_at = now()")
            sending = asyncio.create_task(client.post("/api/chat", json={"message": "Hello", "conversation_id": 7}))
            await until_waiting_for_locks(database)
        sent = await sending

    await database.close()
    assert (ready.status_code, sent.status_code, sent.json()) == (200, 503, {"detail": UNAVAILABLE})
    assert (
        f"The role {role} has the isolation repeatable read behind a pooler, so some of the writes made at once are"
        f" refused: ALTER ROLE {role} SET default_transaction_isolation = 'read committed'."
    ) in caplog.messages
    assert "ALTER ROLE ... SET default_transaction_isolation = 'read committed'." in caplog.text


async def test_ready_names_an_encoding_that_does_not_fit_every_text(server_url: str) -> None:
    name = f"ai_agent_test_{secrets.token_hex(4)}"
    await run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    await run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")
    detail = "The database's encoding is LATIN1: create it with ENCODING 'UTF8', which every text fits."
    assert (response.status_code, response.json()) == (503, {"detail": detail})


async def test_ready_stays_200_while_the_next_release_has_migrated_but_not_started(own_url: str) -> None:
    await run_sql(own_url, "ALTER TABLE conversations ADD archived boolean", "CREATE TABLE more (id int)")

    async with running(make_settings(database_url=own_url)) as app, client_of(app) as client:
        assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize(
    ("revoked", "granted"),
    [("UPDATE ON conversations", "UPDATE (title)"), ("INSERT ON messages", "INSERT (conversation_id, user_id, role)")],
    ids=["UPDATE", "INSERT"],
)
async def test_a_privilege_on_some_of_the_columns_is_not_enough(
    revoked: str, granted: str, own_url: str, app_role: AppRole
) -> None:
    url = await app_role(own_url)
    role, table = urlsplit(url).username, revoked.rpartition(" ")[2]
    await run_sql(own_url, f"REVOKE {revoked} FROM {role}", f"GRANT {granted} ON {table} TO {role}")

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    remedy = f"The role {role} lacks {granted.split(maxsplit=1)[0]} on {table}: GRANT {revoked} TO {role}."
    assert (response.status_code, response.json()) == (503, {"detail": remedy})


async def test_ready_names_a_setting_with_which_a_deletion_would_leave_messages(
    own_url: str, app_role: AppRole
) -> None:
    url = await app_role(own_url)
    role = urlsplit(url).username
    await run_sql(own_url, f"ALTER ROLE {role} SET session_replication_role = replica")

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    detail = (
        f"The role {role} has session_replication_role = replica, so a deleted conversation would leave its messages:"
        f" ALTER ROLE {role} RESET session_replication_role, or ALTER DATABASE, whichever has set it."
    )
    assert (response.status_code, response.json()) == (503, {"detail": detail})


async def test_ready_names_a_search_path_without_a_schema_that_the_role_may_use(
    own_url: str, app_role: AppRole
) -> None:
    url = await app_role(own_url)
    role = urlsplit(url).username
    await run_sql(own_url, f"ALTER ROLE {role} SET search_path = elsewhere")

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert response.status_code == 503
    assert response.json()["detail"].startswith(f"The role {role} may use no schema of its search_path (elsewhere):")


# Our tables in a schema of their own, whether an operator moved them there or the migrations made them there.
OWN_SCHEMA = (
    "CREATE SCHEMA chat",
    *(
        f"ALTER TABLE {table} SET SCHEMA chat"
        for table in ("conversations", "messages", "idempotency_keys", "ai_agent_alembic_version")
    ),
    "ALTER FUNCTION store_turn_1 SET SCHEMA chat",
)


@pytest.mark.parametrize("path", ["chat,public", "public, chat", "chat"])
async def test_ready_names_the_schema_of_the_tables_that_the_role_may_not_use(
    path: str, own_url: str, app_role: AppRole
) -> None:
    url = await app_role(own_url)
    role = urlsplit(url).username
    await run_sql(own_url, *OWN_SCHEMA, "ALTER TABLE chat.ai_agent_alembic_version SET SCHEMA public")

    async with running(make_settings(database_url=f"{url}?search_path={path}")) as app, client_of(app) as client:
        refused = await client.get("/health/ready")

    remedy = f"The role {role} lacks USAGE on SCHEMA chat: GRANT USAGE ON SCHEMA chat TO {role}."
    assert (refused.status_code, refused.json()) == (503, {"detail": remedy})


async def test_ready_is_200_with_tables_in_a_schema_of_their_own(own_url: str, app_role: AppRole) -> None:
    url = await app_role(own_url)
    await run_sql(own_url, *OWN_SCHEMA, f"GRANT USAGE ON SCHEMA chat TO {urlsplit(url).username}")

    async with running(make_settings(database_url=f"{url}?search_path=chat,public")) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (200, {"status": "ready", "service": "ai-agent"})


ELSEWHERE = {
    "our tables": (
        OWN_SCHEMA,
        "There is no table conversations on the search_path, only one in the schema chat:"
        " name that schema too, as in ?search_path=chat,public in DATABASE_URL,"
        " or run 'alembic upgrade head' to make new, empty tables.",
    ),
    "better-auth's table": (
        ("CREATE SCHEMA auth", "ALTER TABLE user_sessions SET SCHEMA auth"),
        "There is no table user_sessions on the search_path, only one in the schema auth:"
        " name that schema too, as in ?search_path=public,auth in DATABASE_URL.",
    ),
}


@pytest.mark.parametrize(("moved", "detail"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
async def test_ready_names_a_schema_that_has_the_table_but_is_not_on_the_search_path(
    moved: tuple[str, ...], detail: str, own_url: str
) -> None:
    await run_sql(own_url, *moved)

    async with running(make_settings(database_url=own_url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (503, {"detail": detail})


async def test_another_programs_table_of_the_same_name_in_its_own_schema_is_not_taken_for_ours(
    new_database: NewDatabase,
) -> None:
    url = await new_database("CREATE SCHEMA theirs", "CREATE TABLE theirs.conversations (id int)")

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    detail = f"{NOT_MIGRATED} it has no table conversations. Run 'alembic upgrade head'."
    assert (response.status_code, response.json()) == (503, {"detail": detail})


UNREADABLE = {
    "a column's type": (
        ('ALTER TABLE user_sessions ALTER "expiresAt" TYPE bigint USING 0',),
        "operator does not exist: bigint > timestamp with time zone",
    ),
    "the table behind a view": (
        (
            "ALTER TABLE user_sessions RENAME TO session",
            "CREATE VIEW user_sessions WITH (security_invoker) AS SELECT * FROM session",
            "REVOKE SELECT ON session FROM {role}",
            "GRANT SELECT ON user_sessions TO {role}",
        ),
        "permission denied for table session",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_ready_says_why_no_token_can_be_looked_up(
    changes: tuple[str, ...], reason: str, own_url: str, app_role: AppRole, caplog: pytest.LogCaptureFixture
) -> None:
    url = await app_role(own_url)
    await run_sql(own_url, *(change.format(role=urlsplit(url).username) for change in changes))

    async with running(make_settings(database_url=url)) as app, client_of(app) as client:
        response = await client.get("/health/ready")

    detail = (
        f"No token can be looked up in user_sessions ({reason}): give it the column types that better-auth makes,"
        " and if it is a view, let the service's role read the tables behind it."
    )
    assert (response.status_code, response.json()) == (503, {"detail": detail})
    assert f"Not ready: {detail}" in caplog.messages
