import ssl
from urllib.parse import urlsplit

import pytest

from ai_agent.database.url import connect_arguments, names_pooler
from ai_agent.errors import ConfigurationError

DSN = {
    "postgres": ("postgres://ada:pw@db/app", "postgresql://ada:pw@db/app"),
    "postgresql": ("postgresql://ada:pw@db:5433/app", "postgresql://ada:pw@db:5433/app"),
    "SQLAlchemy's scheme": ("postgresql+asyncpg://ada:pw@db/app", "postgresql://ada:pw@db/app"),
    "percent-encoded password": ("postgres://ada:p%40%2F%25%3A@db/app", "postgresql://ada:p%40%2F%25%3A@db/app"),
    "white space around": (" postgres://db/app\n", "postgresql://db/app"),
    "Neon": (
        "postgresql://ada:pw@ep-a.eu.aws.neon.tech/app?sslmode=require&channel_binding=require",
        "postgresql://ada:pw@ep-a.eu.aws.neon.tech/app?sslmode=require",
    ),
    "channel binding alone still means TLS": (
        "postgres://db/app?channel_binding=require",
        "postgresql://db/app?sslmode=require",
    ),
    "asyncpg's ssl": ("postgresql+asyncpg://db/app?ssl=require", "postgresql://db/app?sslmode=require"),
    "Prisma": ("postgresql://db/app?schema=public&pgbouncer=true&connection_limit=1", "postgresql://db/app"),
    "the system's certificates": (
        "postgres://db/app?sslrootcert=system",
        "postgresql://db/app?sslrootcert=system&sslmode=verify-full",
    ),
    "a long path of a socket": (
        "postgres://ada:pw@%2Fcloudsql%2Fa-long-name-of-a-project%3Aeurope-west1%3Aa-long-name-of-a-database/app",
        "postgresql://ada:pw@%2Fcloudsql%2Fa-long-name-of-a-project%3Aeurope-west1%3Aa-long-name-of-a-database/app",
    ),
    "an address in the query": ("postgres://db/app?user=ada@corp", "postgresql://db/app?user=ada%40corp"),
    "libpq's own": ("postgres://db/app?sslcertmode=disable&fallback_application_name=x", "postgresql://db/app"),
    "a server's setting": ("postgres://db/app?options=endpoint%3Dep-a", "postgresql://db/app?options=endpoint%3Dep-a"),
}

UNUSABLE = {
    "another database": ("mysql://db/app", "must begin with postgresql://"),
    "no scheme": ("db/app", "must begin with postgresql://"),
    "a port that is no number": ("postgres://db:port/app", "cannot be read as a URL"),
    "a slash in the password": ("postgres://ada:secret-word/s@db/app", "%2F"),
    "a hash in the password": ("postgres://ada:secret-word#s@db/app", "%23"),
    "a question mark in the password": ("postgres://ada:secret-word?s@db/app", "%3F"),
    "a slash in a password of digits": ("postgres://ada:123/secret-word@db/app", "%2F"),
    "an impossible host": ("postgres://..db/app", "cannot be read as a URL"),
    "what the driver cannot enforce": ("postgres://db/app?require_auth=scram-sha-256", "require_auth"),
    "a question mark in a password of digits": ("postgres://ada:123?4secret-word@db/app", "%3F"),
    "several hosts": ("postgres://db:5432,other:5432/app", "one host"),
    "a bracket in the password": ("postgres://ada:secret-word[s@db/app", "cannot be read as a URL"),
    "unknown mode": ("postgres://db/app?sslmode=strict", "unknown sslmode"),
    "empty mode": ("postgres://db/app?sslmode=", "unknown sslmode"),
    "missing certificate": ("postgres://db/app?sslmode=verify-full&sslrootcert=/no/such/file", "certificate"),
    "missing certificate, also to require": ("postgres://db/app?sslmode=require&sslrootcert=/none", "certificate"),
    "system's certificates without the name": ("postgres://db/app?sslmode=require&sslrootcert=system", "verify-full"),
}

NAMES_POOLER = {
    "Neon, pooled": ("postgres://ada:pw@ep-a-b-pooler.eu-central-1.aws.neon.tech/app?sslmode=require", True),
    "Neon, direct": ("postgres://ada:pw@ep-a-b.eu-central-1.aws.neon.tech/app?sslmode=require", False),
    "Supabase": ("postgres://ada:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", True),
    "Prisma": ("postgres://db/app?pgbouncer=true", True),
    "asyncpg": ("postgresql+asyncpg://db/app?statement_cache_size=0", True),
    "SQLAlchemy": ("postgresql+asyncpg://db/app?prepared_statement_cache_size=0", True),
    "a larger cache": ("postgresql+asyncpg://db/app?prepared_statement_cache_size=500", False),
    "a password that looks like one": ("postgres://ada:-pooler.@db/app", False),
    "a database that is named like one": ("postgres://db/-pooler.app", False),
}


@pytest.mark.parametrize(("pasted", "dsn"), DSN.values(), ids=DSN.keys())
def test_a_pasted_url_becomes_one_that_asyncpg_reads(pasted: str, dsn: str) -> None:
    assert connect_arguments(pasted)["dsn"] == dsn


@pytest.mark.parametrize(("pasted", "why"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_url_is_refused_with_the_reason_and_without_itself(pasted: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as error:
        connect_arguments(pasted if "@" in pasted else pasted.replace("://", "://ada:secret-word@"))

    assert "DATABASE_URL" in str(error.value)
    assert "secret-word" not in str(error.value)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_asyncpg_is_left_to_carry_out_the_modes_that_verify_nothing(mode: str) -> None:
    arguments = connect_arguments(f"postgres://db/app?sslmode={mode}")

    assert urlsplit(arguments["dsn"]).query == f"sslmode={mode}"
    assert "ssl" not in arguments


@pytest.mark.parametrize(("mode", "check_hostname"), [("verify-ca", False), ("verify-full", True)])
def test_the_verifying_modes_verify_against_the_systems_certificates(mode: str, check_hostname: bool) -> None:
    context = connect_arguments(f"postgres://db/app?sslmode={mode}")["ssl"]

    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname is check_hostname


def test_sessions_are_in_utc_and_carry_the_services_name() -> None:
    assert connect_arguments("postgres://db/app")["server_settings"] == {
        "timezone": "UTC",
        "application_name": "ai-agent",
    }


@pytest.mark.parametrize(("url", "pooled"), NAMES_POOLER.values(), ids=NAMES_POOLER.keys())
def test_a_url_may_say_that_a_pooler_answers(url: str, pooled: bool) -> None:
    assert names_pooler(url) is pooled
