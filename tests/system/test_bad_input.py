"""A running service refuses malformed bytes in JSON, repeats none of them, and logs no error."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import asyncpg
import pytest

from tests.support.raw import Answer, exchange, request
from tests.support.service import SERVICE_TOKEN, Service, run_service
from tests.support.types import SignIn

type Send = Callable[[bytes], Answer]

FRONT_END = "https://app.example.com"
MIB = 1024 * 1024
JSON = b"Content-Type: application/json"
MARK = b"never-to-be-repeated"


def problem(kind: str, *loc: str | int, msg: object = ANY) -> dict[str, Any]:
    return {"detail": [{"type": kind, "loc": list(loc), "msg": msg}]}


NOT_JSON = problem(
    "json_invalid",
    "body",
    msg="The body must be JSON in UTF-8, not nested too deep and with integers of at most 4300 digits,"
    " sent with 'Content-Type: application/json'",
)
NOT_AN_OBJECT = problem("model_attributes_type", "body")
NOT_A_TEXT = problem("string_type", "body", "message")
NOT_AN_ID = problem("int_type", "body", "conversation_id")
NO_CURSOR = {"detail": "The cursor does not belong to this list; start again without one."}
NOT_FOUND = {"detail": "Conversation not found."}
TOO_LARGE = {"detail": "The request body is larger than 1 MiB."}


@pytest.fixture(scope="module")
def service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"CORS_ORIGINS": FRONT_END, "LOG_LEVEL": "DEBUG", "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_service(tmp_path_factory.mktemp("service"), DATABASE_URL=database_url, **settings) as service:
        yield service


@pytest.fixture
def send(service: Service) -> Send:
    """Send bytes that must do no harm: no 5xx, no error in the log, and no copy of them anywhere."""

    def send(data: bytes) -> Answer:
        known = service.log.stat().st_size
        answer = exchange(service.url, data)
        logged = service.log.read_bytes()[known:]
        assert answer.status < 500
        assert MARK not in answer.body + bytes(answer.headers) + logged
        assert b"Traceback" not in logged
        assert b"ERROR" not in logged
        return answer

    return send


@pytest.fixture
async def token(sign_in: SignIn) -> bytes:
    """The header line of a user who is signed in."""
    return f"Authorization: {(await sign_in())['Authorization']}".encode()


def read(answer: Answer) -> tuple[int, Any]:
    """The status and the body of a response, which must be JSON and have the id of its log line."""
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-ID"]
    return answer.status, json.loads(answer.body)


def nested(depth: int) -> bytes:
    return b'{"message": %b"%b"%b}' % (b"[" * depth, MARK, b"]" * depth)


BODIES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "empty": (b"", problem("missing", "body")),
    "not JSON": (b'{"message": never-to-be-repeated', problem("json_invalid", "body", 12)),
    "a raw NUL": (b'{"message": "\0 never-to-be-repeated"}', problem("json_invalid", "body", 13)),
    "Latin-1": ('{"message": "é never-to-be-repeated"}'.encode("latin-1"), NOT_JSON),
    "UTF-16": ('{"message": "never-to-be-repeated"}'.encode("utf-16"), NOT_JSON),
    "UTF-32 without its mark": ('{"message": "Hello"}'.encode("utf-32-be"), problem("json_invalid", "body", 0)),
    "null": (b"null", NOT_AN_OBJECT),
    "a string": (b'"never-to-be-repeated"', NOT_AN_OBJECT),
    "an array": (b'["never-to-be-repeated"]', NOT_AN_OBJECT),
    "nested 5,000 deep": (nested(5_000), {"detail": [ANY]}),  # How deep is too deep differs between Pythons.
    "nested 100,000 deep": (nested(100_000), NOT_JSON),
    "nested 100,000 deep without an end": (b'["never-to-be-repeated",' * 40_000, NOT_JSON),
    "NaN": (b'{"message": NaN, "x": "never-to-be-repeated"}', NOT_A_TEXT),
    "1e999": (b'{"message": 1e999, "x": "never-to-be-repeated"}', NOT_A_TEXT),
    "an escaped NUL": (rb'{"message": "never-to-be-repeated \u0000"}', problem("value_error", "body", "message")),
    "a lone surrogate": (
        rb'{"message": "never-to-be-repeated \ud800"}',
        problem("string_unicode", "body", "message"),
    ),
    "a number of 5,000 digits": (b'{"message": "never-to-be-repeated", "x": %b}' % (b"9" * 5_000), NOT_JSON),
    "NaN for an id": (b'{"message": "never-to-be-repeated", "conversation_id": NaN}', NOT_AN_ID),
    "1e999 for an id": (b'{"message": "never-to-be-repeated", "conversation_id": 1e999}', NOT_AN_ID),
}

ODD_BUT_GOOD = {
    "duplicate keys, of which the last counts": b'{"message": "never", "message": "Hello"}',
    "NaN in an unknown field": b'{"message": "Hello", "x": NaN}',
    "a byte order mark": b'\xef\xbb\xbf{"message": "Hello"}',
}

MEDIA_TYPES = {
    "none": (),
    "empty": (b"Content-Type: ",),
    "text": (b"Content-Type: text/plain",),
    "a form, as curl sends it": (b"Content-Type: application/x-www-form-urlencoded",),
    "two in one": (b"Content-Type: application/json, text/plain",),
    "not ASCII": (b"Content-Type: \xff\xfe",),
    "endless": (b"Content-Type: " + b"a" * 10_000,),
}

CHUNKED = b"Transfer-Encoding: chunked"
CHUNK = b"%x\r\n%b\r\n" % (MIB, MARK.ljust(MIB, b"a"))

TOO_MUCH = {
    "20 MiB with their length": request(b"POST /api/chat", JSON, body=MARK.ljust(20 * MIB, b"a")),
    "20 MiB in chunks": request(b"POST /api/chat", JSON, CHUNKED, body=CHUNK * 20 + b"0\r\n\r\n"),
    "20 MiB announced": request(b"POST /api/chat", JSON, b"Content-Length: %d" % (20 * MIB)),
}

BODY_IDS: dict[bytes, tuple[int, dict[str, Any]]] = {
    b"0": (404, NOT_FOUND),
    b"-1": (404, NOT_FOUND),
    b"2147483648": (404, NOT_FOUND),
    b"9223372036854775808": (422, problem("less_than", "body", "conversation_id")),
    b"18446744073709551616": (422, problem("less_than", "body", "conversation_id")),
    b"1e3": (422, NOT_AN_ID),
    b"true": (422, NOT_AN_ID),
}

PATH_IDS: dict[bytes, tuple[int, dict[str, Any]]] = {
    b"0": (404, NOT_FOUND),
    b"-1": (404, NOT_FOUND),
    b"2147483648": (404, NOT_FOUND),
    b"9223372036854775808": (422, problem("less_than", "path", "conversation_id")),
    b"18446744073709551616": (422, problem("less_than", "path", "conversation_id")),
    b"9" * 5_000: (422, problem("int_parsing_size", "path", "conversation_id")),
    b"1e3": (422, problem("int_parsing", "path", "conversation_id")),
    b"true": (422, problem("int_parsing", "path", "conversation_id")),
    b"1_0": (422, problem("int_parsing", "path", "conversation_id")),
    b"1.0": (422, problem("int_parsing", "path", "conversation_id")),
    b"+1": (422, problem("int_parsing", "path", "conversation_id")),
    b"1%0a": (422, problem("int_parsing", "path", "conversation_id")),
    b"never-to-be-repeated": (422, problem("int_parsing", "path", "conversation_id")),
    b"%00": (422, problem("int_parsing", "path", "conversation_id")),
    b"%ff": (422, problem("int_parsing", "path", "conversation_id")),
}

QUERIES: dict[bytes, dict[str, Any]] = {
    b"limit=0": problem("greater_than_equal", "query", "limit"),
    b"limit=-1": problem("greater_than_equal", "query", "limit"),
    b"limit=1001": problem("less_than_equal", "query", "limit"),
    b"limit=1e3": problem("int_parsing", "query", "limit"),
    b"limit=": problem("int_parsing", "query", "limit"),
    b"limit=1_0": problem("int_parsing", "query", "limit"),
    b"limit=1.0": problem("int_parsing", "query", "limit"),
    b"limit=+1": problem("int_parsing", "query", "limit"),
    b"limit=never-to-be-repeated": problem("int_parsing", "query", "limit"),
    b"limit=%00": problem("int_parsing", "query", "limit"),
    b"limit=" + b"9" * 5_000: problem("int_parsing_size", "query", "limit"),
    b"cursor=": NO_CURSOR,
    b"cursor=never-to-be-repeated": NO_CURSOR,
    b"cursor=%00%ff": NO_CURSOR,
    b"cursor=%F0%9F%98%80": NO_CURSOR,
    b"cursor=" + b"_" * 32: NO_CURSOR,
    b"cursor=" + b"A" * 60_000: NO_CURSOR,
}

TOKENS = {
    "not ASCII": b"Bearer \xff\xfe never-to-be-repeated",
    "64 kB long": b"Bearer " + MARK.ljust(65_536, b"a"),
    "an encoded NUL": b"Bearer never-to-be-repeated%00",
    "encoded, but not in UTF-8": b"Bearer never-to-be-repeated%ff",
    "two words": b"Bearer never-to-be-repeated twice",
    "nothing": b"",
    "another scheme": b"Basic never-to-be-repeated",
}

SERVICE_HEADERS = {
    "a token that is not ASCII": (b"X-Service-Auth: \xff never-to-be-repeated", b"X-User-ID: ada"),
    "64 kB of token": (b"X-Service-Auth: " + MARK.ljust(65_536, b"a"), b"X-User-ID: ada"),
    "a user that is not ASCII": (b"X-Service-Auth: " + SERVICE_TOKEN.encode(), b"X-User-ID: \xff never-to-be-repeated"),
    "64 kB of user": (b"X-Service-Auth: " + SERVICE_TOKEN.encode(), b"X-User-ID: " + MARK.ljust(65_536, b"a")),
    "an empty user": (b"X-Service-Auth: " + SERVICE_TOKEN.encode(), b"X-User-ID: "),
}

# These never reach the app, because uvicorn itself refuses them, in plain text.
NOT_HTTP = {
    "a control byte": b"GET /health HTTP/1.1\r\nHost: service.test\r\nX-Word: \x01never-to-be-repeated\r\n\r\n",
    "a NUL": b"GET /health HTTP/1.1\r\nHost: service.test\r\nX-Word: \0never-to-be-repeated\r\n\r\n",
    "a name that is not ASCII": b"GET /health HTTP/1.1\r\nX-\xff: never-to-be-repeated\r\n\r\n",
    "a path that is not ASCII": b"GET /\xffnever-to-be-repeated HTTP/1.1\r\n\r\n",
    "a query that is not ASCII": b"GET /api/conversations?cursor=\xffnever-to-be-repeated HTTP/1.1\r\n\r\n",
    "a method that is none": b"HELLO /never-to-be-repeated HTTP/1.1\r\nHost: service.test\r\n\r\n",
    "a length below zero": b"POST /api/chat HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "a length of 5,000 digits": b"POST /api/chat HTTP/1.1\r\nContent-Length: %b\r\n\r\n" % (b"9" * 5_000),
    "two lengths": b"POST /api/chat HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a bad chunk": b"POST /api/chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnever-to-be-repeated\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10,
}

REQUEST_IDS = {
    "129 characters": b"a" * 129,
    "white space": b"never to-be-repeated",
    "markup": b"<never-to-be-repeated>",
    "not ASCII": b"\xff-never-to-be-repeated",
    "nothing": b"",
}

METHODS = {
    b"/api/chat": "POST",
    b"/api/conversations": "DELETE, GET, POST",
    b"/api/conversations/1": "DELETE, GET, PATCH",
    b"/api/conversations/1/messages": "POST",
    b"/health": "GET, HEAD",
    b"/docs": "GET",
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_no_chat_request_is_a_422_and_stores_nothing(
    body: bytes, expected: dict[str, Any], send: Send, token: bytes, database: asyncpg.Connection
) -> None:
    answer = send(request(b"POST /api/chat", token, JSON, body=body))

    assert read(answer) == (422, expected)
    assert await database.fetchval("SELECT count(*) FROM messages") == 0


@pytest.mark.parametrize("body", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD.keys())
def test_an_odd_body_that_has_one_meaning_is_accepted(body: bytes, send: Send, token: bytes) -> None:
    answer = send(request(b"POST /api/chat", token, JSON, body=body))

    turn = {"conversation_id": ANY, "user_message": "Hello", "assistant_message": "Echo: Hello"}
    assert read(answer) == (200, turn)


@pytest.mark.parametrize("media_type", MEDIA_TYPES.values(), ids=MEDIA_TYPES.keys())
def test_a_body_without_the_media_type_of_json_is_a_422_that_tells_the_cure(
    media_type: tuple[bytes, ...], send: Send, token: bytes
) -> None:
    answer = send(request(b"POST /api/chat", token, *media_type, body=b'{"message": "never-to-be-repeated"}'))

    assert read(answer) == (422, NOT_JSON)


@pytest.mark.parametrize("body", [b'{"message": never-to-be-repeated', b'["never-to-be-repeated"]'])
def test_what_is_wrong_with_a_body_is_not_said_where_there_is_no_token(body: bytes, send: Send) -> None:
    assert read(send(request(b"POST /api/chat", JSON, body=body))) == (401, {"detail": ANY})


@pytest.mark.parametrize("data", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_a_body_beyond_1_mib_is_a_413(data: bytes, send: Send, token: bytes) -> None:
    head, end, body = data.partition(b"\r\n\r\n")

    assert read(send(head + b"\r\n" + token + end + body)) == (413, TOO_LARGE)


@pytest.mark.parametrize("data", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_without_a_token_no_body_is_waited_for(data: bytes, send: Send) -> None:
    assert read(send(data)) == (401, {"detail": ANY})


@pytest.mark.parametrize(("id_", "expected"), BODY_IDS.items(), ids=map(bytes.decode, BODY_IDS))
def test_an_id_in_a_body_that_names_no_conversation_is_refused(
    id_: bytes, expected: tuple[int, dict[str, Any]], send: Send, token: bytes
) -> None:
    body = b'{"message": "never-to-be-repeated", "conversation_id": %b}' % id_

    assert read(send(request(b"POST /api/chat", token, JSON, body=body))) == expected


@pytest.mark.parametrize("method", [b"GET", b"PATCH", b"DELETE"], ids=bytes.decode)
@pytest.mark.parametrize(("id_", "expected"), PATH_IDS.items(), ids=[id_.decode()[:24] for id_ in PATH_IDS])
def test_an_id_in_a_path_that_names_no_conversation_is_refused(
    method: bytes, id_: bytes, expected: tuple[int, dict[str, Any]], send: Send, token: bytes
) -> None:
    body = b'{"title": "never-to-be-repeated"}' if method == b"PATCH" else b""

    answer = send(request(method + b" /api/conversations/" + id_, token, JSON, body=body))

    assert read(answer) == expected


@pytest.mark.parametrize("path", [b"/api/conversations", b"/api/conversations/1"], ids=["list", "conversation"])
@pytest.mark.parametrize(("query", "expected"), QUERIES.items(), ids=[query.decode()[:24] for query in QUERIES])
def test_a_garbage_limit_or_cursor_is_a_422(
    path: bytes, query: bytes, expected: dict[str, Any], send: Send, token: bytes
) -> None:
    assert read(send(request(b"GET %b?%b" % (path, query), token))) == (422, expected)


@pytest.mark.parametrize("credentials", TOKENS.values(), ids=TOKENS.keys())
def test_a_token_that_cannot_be_one_is_a_401(credentials: bytes, send: Send) -> None:
    assert read(send(request(b"GET /api/conversations", b"Authorization: " + credentials))) == (401, {"detail": ANY})


@pytest.mark.parametrize("headers", SERVICE_HEADERS.values(), ids=SERVICE_HEADERS.keys())
def test_service_headers_that_cannot_be_such_are_a_401(headers: tuple[bytes, ...], send: Send, token: bytes) -> None:
    assert read(send(request(b"GET /api/conversations", token, *headers))) == (401, {"detail": ANY})


def test_white_space_around_a_header_is_no_part_of_its_value(send: Send, token: bytes) -> None:
    served = (b"X-Service-Auth:\t " + SERVICE_TOKEN.encode() + b" \t", b"X-User-ID: nobody \t")
    key, body = b"Idempotency-Key: surrounded", b'{"message": "Hello"}'

    assert read(send(request(b"GET /api/conversations", token + b" \t"))) == (200, [])
    assert read(send(request(b"GET /api/conversations", *served))) == (200, [])
    first = read(send(request(b"POST /api/chat", token, JSON, key, body=body)))
    assert first[0] == 200
    assert read(send(request(b"POST /api/chat", token, JSON, key + b" \t", body=body))) == first


def test_a_header_of_the_contract_that_is_sent_twice_is_refused(send: Send, token: bytes) -> None:
    key, body = b"Idempotency-Key: never-to-be-repeated", b'{"message": "Hello"}'
    served = (b"X-Service-Auth: " + SERVICE_TOKEN.encode(), b"X-User-ID: ada")

    assert read(send(request(b"GET /api/conversations", token, token))) == (401, {"detail": ANY})
    assert read(send(request(b"GET /api/conversations", *served))) == (200, [])
    for header in served:
        assert read(send(request(b"GET /api/conversations", *served, header))) == (401, {"detail": ANY})
    assert read(send(request(b"POST /api/chat", token, JSON, key, key, body=body))) == (
        422,
        {"detail": "The request has more than one Idempotency-Key: send one."},
    )
    assert read(send(request(b"POST /api/chat", JSON, key, key, body=body))) == (401, {"detail": ANY})


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_what_is_not_http_is_a_400(data: bytes, send: Send) -> None:
    answer = send(data)

    assert (answer.status, answer.body) == (400, b"Invalid HTTP request received.")


@pytest.mark.parametrize("host", [b"", b"[", b"\xff", b'x>; rel="next', b"a" * 60_000], ids=lambda host: str(host)[:9])
def test_an_impossible_host_gets_the_same_answer(host: bytes, send: Send, token: bytes) -> None:
    data = b"GET /api/conversations HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (host, token)

    assert read(send(data)) == (200, [])


@pytest.mark.parametrize("request_id", REQUEST_IDS.values(), ids=REQUEST_IDS.keys())
def test_a_request_id_unfit_for_a_log_line_is_replaced(request_id: bytes, send: Send) -> None:
    answer = send(request(b"GET /health", b"X-Request-ID: " + request_id))

    assert len(answer.headers["X-Request-ID"]) == 32
    assert read(answer) == (200, {"status": "healthy", "service": "ai-agent"})


@pytest.mark.parametrize("path", METHODS, ids=bytes.decode)
def test_another_method_is_a_405_that_lists_the_methods_of_the_path(path: bytes, send: Send) -> None:
    for method in (b"OPTIONS", b"PUT", b"TRACE", b"PROPFIND"):
        answer = send(request(method + b" " + path))

        assert read(answer) == (405, {"detail": "Method Not Allowed"})
        assert answer.headers["Allow"] == METHODS[path]


@pytest.mark.parametrize(
    "path", [b"//", b"/%ff", b"/%00", b"*", b"/api//chat", b"/API/chat", b"/../etc/passwd", b"/" + b"a/" * 30_000]
)
def test_an_unknown_path_is_a_404_for_every_method(path: bytes, send: Send) -> None:
    for method in (b"GET", b"POST", b"OPTIONS", b"PROPFIND"):
        assert read(send(request(method + b" " + path))) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    "file", [b"", b"%00", b"%ff", b"..%2fmain.py", b"../main.py", b"//etc/passwd", b"a" * 5_000, b"swagger-ui"]
)
def test_a_file_that_the_documentation_has_not_is_a_404(file: bytes, send: Send) -> None:
    assert read(send(request(b"GET /docs/static/" + file))) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(("path", "status"), [(b"/health", 200), (b"/api/chat", 405), (b"/never-to-be-repeated", 404)])
def test_head_is_answered_without_a_body(path: bytes, status: int, send: Send) -> None:
    answer = send(request(b"HEAD " + path))

    assert (answer.status, answer.body) == (status, b"")


def test_an_unexpected_error_is_a_500_that_a_front_end_can_read_and_an_operator_can_find(
    service: Service, token: bytes, unlucky: str
) -> None:
    headers = (token, JSON, b"X-Request-ID: find-me", f"Origin: {FRONT_END}".encode())

    answer = exchange(service.url, request(b"POST /api/chat", *headers, body=b'{"message": "%b"}' % unlucky.encode()))

    assert read(answer) == (500, {"detail": "Internal server error."})
    assert answer.headers["X-Request-ID"] == "find-me"
    assert answer.headers["Access-Control-Allow-Origin"] == FRONT_END
    assert "ERROR ai_agent.api.middleware [find-me] POST /api/chat failed" in service.log.read_text()
