from pathlib import Path

import pytest

from ai_agent.database.passwords import find_password

FOUND = {
    "the line that fits": ("other:5432:app:ada:no\ndb:5432:app:ada:secret\n", "secret"),
    "the first one that fits": ("*:*:*:ada:secret\ndb:5432:app:ada:no\n", "secret"),
    "an escaped colon": (r"*:*:*:*:se\:cret", "se:cret"),
    "a colon as it is": ("*:*:*:*:se:cret", "se:cret"),
    "an escaped backslash": (r"*:*:*:*:secret\\", "secret\\"),
    "an escaped backslash before a field's end": ("*:*:*:ada\\\\:no\n*:*:*:*:secret", "secret"),
    "spaces at the ends": ("*:*:*:*: secret \n", " secret "),
    "Windows' ends of lines": ("# db\r\n\r\n*:*:*:*:secret\r\n", "secret"),
    "a comment": ("#*:*:*:*:no\n*:*:*:*:secret", "secret"),
    "another port": ("db:5433:app:ada:no\n", None),
    "another database": ("db:5432:postgres:ada:no\n", None),
    "another user": ("db:5432:app:bob:no\n", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("text", "password"), FOUND.values(), ids=FOUND.keys())
def test_a_password_is_found_as_libpq_finds_it(text: str, password: str | None, tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    file.write_text(text, newline="")

    assert find_password(str(file), "db", 5432, "app", "ada") == password


def test_a_socket_is_localhost_and_names_may_be_escaped(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    file.write_text(r"localhost:5432:a\:b:a\\b:secret")

    assert find_password(str(file), "/run/postgresql", 5432, "a:b", "a\\b") == "secret"


def test_a_file_that_others_may_read_or_that_is_gone_has_no_password(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.touch(mode=0o640)
    file.write_text("*:*:*:*:secret")

    assert find_password(str(file), "db", 5432, "app", "ada") is None
    assert find_password(str(tmp_path / "none"), "db", 5432, "app", "ada") is None
