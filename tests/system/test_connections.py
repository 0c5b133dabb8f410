"""What one client, or many of them, can make the server hold: pipelines, trailers, upgrades, silence, unread bodies."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from tests.support.memory import MIB, measure_growth
from tests.support.raw import compose, connect, exchange, exchange_async, request
from tests.support.service import run_service
from tests.support.types import SignIn, StartService

HEALTH = request(b"GET /health")
UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)

PIPELINES = {
    "requests of the shortest kind": b"GET /health HTTP/1.1\r\n\r\n",
    "requests with a body": request(b"POST /api/chat", b"Authorization: Bearer " + b"a" * 32, body=b'{"message": ""}'),
}


@pytest.mark.parametrize("piece", PIPELINES.values(), ids=PIPELINES.keys())
async def test_pipelined_requests_whose_responses_nobody_reads_take_little_memory(
    piece: bytes, start_service: StartService
) -> None:
    service = start_service(DATABASE_URL="postgresql://127.0.0.1:1/none", LOG_LEVEL="ERROR")

    async def flood() -> list[int]:
        _, writer = await connect(service.url, limit=1)  # It stops reading after the first responses.
        writer.write(piece * (10 * MIB // len(piece)))
        statuses = [(await exchange_async(service.url, compose("GET", "/health", {}))).status for _ in range(20)]
        writer.transport.abort()
        return statuses

    statuses, growth = await measure_growth(service, flood())

    assert statuses == [200] * 20
    assert growth < 40 * MIB


async def test_pipelined_requests_are_all_answered_in_their_order(service_url: str) -> None:
    numbers = range(3000)
    pipeline = b"".join(request(b"GET /health", b"X-Request-ID: %d" % number) for number in numbers)
    reader, writer = await connect(service_url)

    writer.write(pipeline + request(b"GET /health", b"X-Request-ID: last", b"Connection: close"))
    answers = await asyncio.wait_for(reader.read(), 60)

    ids = re.findall(rb"x-request-id: (\w+)", answers)
    assert ids == [*(b"%d" % number for number in numbers), b"last"]
    writer.close()


def chunked(path: bytes, *trailer: bytes, headers: tuple[bytes, ...] = ()) -> bytes:
    """A request with a body in chunks, and the fields of its trailer."""
    head = request(b"POST " + path, b"Content-Type: application/json", b"Transfer-Encoding: chunked", *headers)
    return head + b"\r\n".join([b"11", b'{"message": "Hi"}', b"0", *trailer, b"", b""])


async def test_authorization_in_the_trailer_of_a_body_is_no_header(service_url: str, sign_in: SignIn) -> None:
    token = f"Authorization: {(await sign_in())['Authorization']}".encode()

    assert exchange(service_url, chunked(b"/api/chat", headers=(token,))).status == 200
    assert exchange(service_url, chunked(b"/api/chat", token)).status == 401


async def test_no_field_of_a_trailer_counts(service_url: str, sign_in: SignIn) -> None:
    token = f"Authorization: {(await sign_in())['Authorization']}".encode()
    trailer = (token, b"Idempotency-Key: \xff", b"X-Request-ID: from-the-trailer", b"Host: b", b"X-Service-Auth: x")

    answer = exchange(service_url, chunked(b"/api/chat", *trailer, headers=(token,)))

    assert answer.status == 200
    assert answer.headers["X-Request-ID"] != "from-the-trailer"


@pytest.mark.parametrize(("path", "status"), [(b"/chat?token=never-to-be-repeated", 404), (b"/health", 200)])
def test_a_websocket_is_declined_by_an_ordinary_response_and_its_query_not_logged(
    path: bytes, status: int, start_service: StartService
) -> None:
    service = start_service(LOG_LEVEL="DEBUG")

    answer = exchange(service.url, request(b"GET " + path, *UPGRADE))

    assert answer.status == status
    assert "never-to-be-repeated" not in service.log.read_text()
    assert "WebSocket" not in service.log.read_text()


async def exchange_in_parts(url: str, *parts: bytes) -> bytes:
    """Everything that the server answers to these parts, which it reads one at a time."""
    reader, writer = await connect(url)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.2)  # Otherwise the server may find several of them at once.
    answers = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answers


# Java's HttpClient sends these by default, with each request that is not encrypted.
HTTP_2 = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAB")
LAST = request(b"GET /health", b"Connection: close")


@pytest.mark.parametrize("headers", [HTTP_2, UPGRADE], ids=["HTTP/2", "WebSocket"])
@pytest.mark.parametrize("in_chunks", [False, True], ids=["with its length", "in chunks"])
@pytest.mark.parametrize("in_parts", [False, True], ids=["whole", "in parts"])
async def test_the_body_of_a_request_for_an_upgrade_is_read(
    headers: tuple[bytes, ...], in_chunks: bool, in_parts: bool, service_url: str, sign_in: SignIn
) -> None:
    token = f"Authorization: {(await sign_in())['Authorization']}".encode()
    json = b"Content-Type: application/json"
    plain = request(b"POST /api/chat", token, json, *headers, body=b'{"message": "Hi"}')
    message = chunked(b"/api/chat", headers=(token, *headers)) if in_chunks else plain
    head, end, body = message.partition(b"\r\n\r\n")

    answers = await exchange_in_parts(service_url, *([head + end, body, LAST] if in_parts else [message + LAST]))

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200"]
    assert answers.count(b'"assistant_message":"Echo: Hi"') == 1


@pytest.mark.parametrize("version", [b"1.0", b"1.1"], ids=bytes.decode)
async def test_a_request_for_an_upgrade_that_closes_its_connection_is_answered(
    version: bytes, service_url: str
) -> None:
    ending = b"GET /health HTTP/%b\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n" % version

    answers = await exchange_in_parts(service_url, HEALTH + ending + HEALTH)

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200"]


async def test_the_body_of_a_request_for_an_upgrade_is_no_further_request(service_url: str) -> None:
    head, end, body = request(b"POST /api/chat", *HTTP_2, body=HEALTH).partition(b"\r\n\r\n")

    answers = await exchange_in_parts(service_url, head + end, body, LAST)

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"401", b"200"]


async def test_what_follows_connect_is_no_further_request(service_url: str) -> None:
    answers = await exchange_in_parts(service_url, request(b"CONNECT /api/chat"), HEALTH)

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"405"]


@pytest.mark.parametrize("headers", [(), (b"Authorization: Bearer a",)], ids=["no token", "a body beyond 1 MiB"])
async def test_a_response_to_half_a_request_arrives_even_if_the_connection_is_to_be_closed(
    headers: tuple[bytes, ...], service_url: str
) -> None:
    """nginx asks for that by default, and answers 502 if the connection is reset while it is still sending."""
    data = request(b"POST /api/chat", b"Connection: close", *headers, body=b"a" * (MIB + 200_000))

    for _ in range(10):
        reader, writer = await connect(service_url)
        writer.write(data)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)  # A reset connection would raise an error here.
        writer.close()

        assert answer.startswith(b"HTTP/1.1 413" if headers else b"HTTP/1.1 401")
        assert answer.endswith(b"}")


async def test_an_idle_connection_is_kept_for_longer_than_uvicorn_would(service_url: str) -> None:
    async def idle_after(requests: int) -> None:
        reader, writer = await connect(service_url)
        for _ in range(requests):
            writer.write(HEALTH)
            assert await reader.readuntil(b"}") != b""

        await asyncio.sleep(6)  # By itself, uvicorn closes an idle connection after 5 seconds.
        writer.write(HEALTH)

        assert await reader.readuntil(b"}") != b""
        writer.close()

    await asyncio.gather(idle_after(1), idle_after(2))


async def stay_silent(_: asyncio.StreamWriter) -> None:
    pass


async def send_slowly(writer: asyncio.StreamWriter) -> None:
    for byte in HEALTH[:30]:
        writer.write(bytes([byte]))
        await asyncio.sleep(1)  # This is how slow the client is.


async def send_line_breaks(writer: asyncio.StreamWriter) -> None:
    writer.write(HEALTH)
    for _ in range(30):
        writer.write(b"\r\n")
        await asyncio.sleep(1)  # This is how slow the client is.


async def send_no_end_of_a_body(writer: asyncio.StreamWriter) -> None:
    writer.write(request(b"POST /api/chat", b"Content-Length: 1000000"))


async def send_a_body_without_end(writer: asyncio.StreamWriter) -> None:
    writer.write(request(b"POST /api/chat", b"Transfer-Encoding: chunked"))
    while True:
        writer.write(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
        await writer.drain()


type Behavior = Callable[[asyncio.StreamWriter], Coroutine[None, None, None]]

UNFINISHED: list[Behavior] = [stay_silent, send_slowly, send_line_breaks, send_no_end_of_a_body]


async def assert_closed(behave: Behavior, url: str) -> None:
    """Connect, behave like this, and wait until the service closes the connection."""
    reader, writer = await connect(url)
    sending = asyncio.ensure_future(behave(writer))

    with suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 60)

    assert reader.at_eof() or reader.exception() is not None
    sending.cancel()
    with suppress(ConnectionError, asyncio.CancelledError):
        await sending
    writer.transport.abort()


async def test_each_connection_without_a_whole_request_is_closed(service_url: str) -> None:
    await asyncio.gather(*(assert_closed(behave, service_url) for behave in UNFINISHED))


async def test_a_connection_with_a_body_without_end_is_closed(service_url: str) -> None:
    await assert_closed(send_a_body_without_end, service_url)


async def test_a_head_without_end_is_refused(start_service: StartService) -> None:
    service = start_service(LOG_LEVEL="ERROR")

    async def send_headers() -> bool:
        _, writer = await connect(service.url)
        writer.write(HEALTH[:-2])
        with suppress(ConnectionError):
            for _ in range(100):
                writer.write((b"X-Word: " + b"a" * 992 + b"\r\n") * 1000)
                await writer.drain()
        sent_all = not writer.is_closing()
        writer.transport.abort()
        return sent_all

    sent_all, growth = await measure_growth(service, send_headers())

    assert not sent_all
    assert growth < 10 * MIB


async def test_silent_connections_keep_nobody_out_and_are_logged_once(database_url: str, tmp_path: Path) -> None:
    with run_service(tmp_path, under=["prlimit", "--nofile=128"], DATABASE_URL=database_url) as service:
        silent = [await connect(service.url) for _ in range(300)]
        answer = exchange(service.url, compose("GET", "/health/ready", {}))
        log = service.log.read_text()
        for _, writer in silent:
            writer.transport.abort()

    assert (answer.status, answer.body) == (200, b'{"status":"ready","service":"ai-agent"}')
    assert log.count("This process may open only 128 files, so it holds at most 64 connections of clients at once") == 1
    assert log.count("More than 64 connections at once: idle ones are closed") == 1


async def test_bodies_of_clients_without_a_token_take_no_memory(start_service: StartService) -> None:
    service = start_service(LOG_LEVEL="ERROR")
    data = request(b"POST /api/chat", b"Content-Length: 1048576") + b"a" * (MIB - 1)

    async def send_almost_all() -> list[bytes]:
        connections = [await connect(service.url) for _ in range(200)]
        for _, writer in connections:
            writer.write(data)
        statuses = [await reader.readexactly(12) for reader, _ in connections]
        for _, writer in connections:
            writer.transport.abort()
        return statuses

    statuses, growth = await measure_growth(service, send_almost_all())

    assert statuses == [b"HTTP/1.1 401"] * 200
    assert growth < 100 * MIB


async def test_large_bodies_with_invented_tokens_take_little_memory_and_keep_no_message_out(
    start_service: StartService, sign_in: SignIn
) -> None:
    service, headers = start_service(LOG_LEVEL="CRITICAL"), await sign_in()
    invented = b"Authorization: Bearer " + b"a" * 32
    data = request(b"POST /api/chat", invented, b"Content-Length: 1048576") + b"a" * (MIB - 1)

    async def send_almost_all() -> tuple[list[bytes], int]:
        connections = [await connect(service.url) for _ in range(200)]
        for _, writer in connections:
            writer.write(data)
        # All but thirty of them are refused, because those hold what all may hold together.
        heads = [asyncio.ensure_future(reader.readexactly(12)) for reader, _ in connections]
        for answered in islice(asyncio.as_completed(heads), 120):
            await answered
        statuses = [head.result() for head in heads if head.done()]
        chat = await exchange_async(service.url, compose("POST", "/api/chat", headers, {"message": "a" * 50_000}))
        for head in heads:
            head.cancel()
        for _, writer in connections:
            writer.transport.abort()
        return statuses, chat.status

    (statuses, status), growth = await measure_growth(service, send_almost_all())

    assert set(statuses) == {b"HTTP/1.1 503"}
    assert status == 200
    assert growth < 200 * MIB
