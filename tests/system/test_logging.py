"""The log of a running service has one line for each request, and holds no secrets."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.support.raw import exchange
from tests.support.service import SERVICE_TOKEN, Service
from tests.support.types import Headers, SignIn, StartService

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?P<level>[A-Z]+) ai_agent\.[a-z.]+ \[(?P<id>.+?)\] (?P<text>.*)"
)


def stop(service: Service) -> str:
    """Stop the service, and return everything that it has logged."""
    service.process.terminate()
    service.process.wait(timeout=30)
    return service.log.read_text()


def own_lines(log: str) -> list[tuple[str, str, str]]:
    """Level, request id and text of the service's own lines; a question mark replaces the duration."""
    found = (LINE.fullmatch(line) for line in log.splitlines())
    return [(line["level"], line["id"], re.sub(r"\d+\.\d ms", "? ms", line["text"])) for line in found if line]


@pytest.fixture
async def headers(sign_in: SignIn) -> Headers:
    return await sign_in()


def test_a_request_is_one_line_with_its_template_and_its_id(start_service: StartService, headers: Headers) -> None:
    service = start_service()

    with httpx.Client(base_url=service.url, headers=headers) as client:
        answers = [
            client.get("/api/conversations?limit=5"),
            client.post("/api/chat", json={"message": "Hello"}, headers={"X-Request-ID": "from-the-front-end:1"}),
            client.get("/api/conversations/12345678?cursor=x"),
            client.delete("/api/conversations/12345678", headers={"Authorization": ""}),
            client.put("/api/conversations/12345678"),
            client.get("/api/a-path-that-may-hold-anything"),
        ]

    ids = [answer.headers["X-Request-ID"] for answer in answers]
    conversation_id = answers[1].json()["conversation_id"]
    log = stop(service)
    assert own_lines(log) == [
        ("INFO", ids[0], "GET /api/conversations 200 ? ms user"),
        ("INFO", f"from-the-front-end:1 conversation {conversation_id}", "POST /api/chat 200 ? ms user"),
        ("INFO", f"{ids[2]} conversation 12345678", "GET /api/conversations/{conversation_id} 422 ? ms user"),
        ("INFO", f"{ids[3]} conversation 12345678", "DELETE /api/conversations/{conversation_id} 401 ? ms user"),
        ("INFO", ids[4], "PUT /api/conversations/{conversation_id} 405 ? ms user"),
        ("INFO", ids[5], "GET (no route) 404 ? ms user"),
    ]
    assert len(set(ids)) == 6
    assert "HTTP/1.1" not in log  # uvicorn's own line would repeat all of it.


def test_what_operators_and_developers_fetch_leaves_no_line(start_service: StartService) -> None:
    service = start_service()

    for path in ("/health", "/health/ready", "/docs", "/openapi.json", "/favicon.ico"):
        httpx.get(service.url + path)

    assert own_lines(stop(service)) == []


def test_an_outage_is_one_error_that_names_its_cause(start_service: StartService, headers: Headers) -> None:
    service = start_service(DATABASE_URL="postgresql://127.0.0.1:1/app")

    answer = httpx.get(f"{service.url}/api/conversations", headers=headers)

    [error, request] = own_lines(stop(service))
    request_id = answer.headers["X-Request-ID"]
    assert error[:2] == ("ERROR", request_id)
    assert re.fullmatch(r"DatabaseUnavailable: ConnectionRefusedError\(.*\)", error[2])
    assert request == ("INFO", request_id, "GET /api/conversations 503 ? ms user")


def test_an_unexpected_error_is_logged_with_its_cause_but_without_the_row_that_caused_it(
    start_service: StartService, headers: Headers, unlucky: str
) -> None:
    service, message = start_service(), f"my number is {unlucky}"

    answer = httpx.post(f"{service.url}/api/chat", headers=headers, json={"message": message})

    log = stop(service)
    request_id = answer.headers["X-Request-ID"]
    assert answer.status_code == 500
    assert own_lines(log) == [
        ("ERROR", request_id, "POST /api/chat failed:"),
        ("INFO", request_id, "POST /api/chat 500 ? ms user"),
    ]
    assert 'CheckViolationError: new row for relation "messages" violates check constraint' in log
    assert "in send_message" in log
    assert message not in log


def test_json_lines_hold_the_fields_of_a_request(start_service: StartService, headers: Headers) -> None:
    service = start_service(LOG_FORMAT="json")

    answer = httpx.get(f"{service.url}/api/conversations", headers=headers)

    # uvicorn speaks before the settings are read.
    lines = [json.loads(line) for line in stop(service).splitlines() if not line.startswith("INFO:  ")]
    assert "Shutting down" in [line["message"] for line in lines]
    [request] = [line for line in lines if line["logger"] == "ai_agent.api.middleware"]
    assert datetime.fromisoformat(request.pop("time")).utcoffset() == timedelta(0)
    assert request.pop("message").startswith("GET /api/conversations 200 ")
    assert request.pop("milliseconds") > 0
    assert request == {
        "level": "INFO",
        "logger": "ai_agent.api.middleware",
        "request_id": answer.headers["X-Request-ID"],
        "method": "GET",
        "route": "/api/conversations",
        "status": 200,
        "actor": "user",
    }


@pytest.mark.parametrize("zone", ["Asia/Karachi", "America/New_York"])
def test_the_time_of_a_line_is_that_of_the_world(zone: str, start_service: StartService, headers: Headers) -> None:
    service = start_service(TZ=zone)
    before = datetime.now(UTC)

    httpx.get(f"{service.url}/api/conversations", headers=headers)

    [time] = re.findall(r"(?m)^(\S+) INFO ai_agent\.api\.middleware ", stop(service))
    assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(time) <= datetime.now(UTC)


def test_json_lines_hold_the_conversation_where_there_is_one(start_service: StartService, headers: Headers) -> None:
    served = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}
    service = start_service(LOG_FORMAT="json", SERVICE_AUTH_TOKEN=SERVICE_TOKEN)

    with httpx.Client(base_url=service.url) as client:
        begun = client.post("/api/chat", json={"message": "Hello"}, headers=headers).json()["conversation_id"]
        opened = client.post("/api/conversations", json={}, headers=served).json()["id"]
        paths = [f"{begun}", "0", "007", "-7", "9" * 19, "9" * 20, "٣", "a-secret"]
        for path in paths:
            client.get(f"/api/conversations/{path}", headers=headers)
        client.get("/api/conversations", headers=headers)

    lines = [json.loads(line) for line in stop(service).splitlines() if not line.startswith("INFO:  ")]
    requests = [line for line in lines if line["logger"] == "ai_agent.api.middleware"]
    assert [line.get("conversation_id") for line in requests] == [
        *(begun, opened),
        *(begun, 0, 7, None, int("9" * 19), None, None, None),
        None,
    ]
    assert not any("conversation" in line for line in lines)


def test_a_log_config_for_uvicorn_stays_in_force(start_service: StartService, tmp_path: Path) -> None:
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "uvicorn.log")}
    loggers = {"uvicorn": {"handlers": ["file"], "level": "INFO"}}
    config = {"version": 1, "disable_existing_loggers": False, "handlers": {"file": handler}, "loggers": loggers}
    (tmp_path / "config.json").write_text(json.dumps(config))

    stop(start_service(f"--log-config={tmp_path / 'config.json'}"))

    assert "Shutting down" in (tmp_path / "uvicorn.log").read_text()


@pytest.mark.parametrize("settings", [{}, {"BETTER_AUTH_SECRET": "a secret", "LOG_FORMAT": "json"}], ids=str)
def test_no_token_and_no_text_is_in_the_log_of_good_and_bad_requests(
    settings: dict[str, str], start_service: StartService, headers: Headers, unlucky: str
) -> None:
    service, private = start_service(LOG_LEVEL="DEBUG", **settings), "nobody's business"
    token = headers["Authorization"].removeprefix("Bearer ")
    signed = quote(f"{token}.{base64.b64encode(bytes(32)).decode()}")
    as_json = {"Content-Type": "application/json"}

    with httpx.Client(base_url=service.url, headers=headers) as client:
        answers = [
            (200, client.post("/api/chat", json={"message": private}, headers={"Idempotency-Key": token})),
            (422, client.post("/api/chat", json={"message": f"{private}!"}, headers={"Idempotency-Key": token})),
            (200, client.get("/api/conversations")),
            (422, client.post("/api/chat", json={"message": f"{private}\0", "conversation_id": private})),
            (422, client.post("/api/chat", json={"message": private * 10_000})),
            (413, client.post("/api/chat", json={"message": private * 100_000})),
            (422, client.post("/api/chat", content=f'{{"message": "{private}', headers=as_json)),
            (422, client.post("/api/chat", content=f'{{"message": "{private}"}}')),
            (500, client.post("/api/chat", json={"message": f"{private} {unlucky}"})),
            (422, client.patch("/api/conversations/0", json={"title": private * 100})),
            (404, client.patch("/api/conversations/0", json={"title": private})),
            (401 if settings else 200, client.get("/api/conversations", headers={"Authorization": f"Bearer {signed}"})),
            (401, client.get("/api/conversations", headers={"Authorization": f"Token {token}"})),
            (422, client.get("/api/conversations", params={"cursor": token})),
            (422, client.get(f"/api/conversations/{token}")),
            (404, client.get(f"/{token}", params={"token": token})),
            (200, client.get("/health", headers={"X-Request-ID": f"Bearer {token}"})),
        ]
    exchange(service.url, f"GET /{token} HTTP/1.1\r\nAuthorization: Bearer \1{token}\r\n\r\n".encode())

    log = stop(service)
    assert [answer.status_code for _, answer in answers] == [status for status, _ in answers]
    assert log.count(" ms user") > len(answers)
    assert token not in log
    assert private not in log
