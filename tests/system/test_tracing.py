"""Tracing as the page for operators shows it, with a real exporter: no span holds what people wrote."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest

from ai_agent.local.postgres import free_port
from tests.support import operations
from tests.support.types import Headers, SignIn
from tests.support.waiting import wait_until_answered


@contextmanager
def traced(folder: Path, database_url: str, exporter: str = "console", **environment: str) -> Iterator[str]:
    """Run the page's command until the block ends; the console's spans are then in the file `spans` of the folder."""
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = f"exec {operations.block('sh', '### Tracing').strip()} --port {port}".replace("console", exporter)
    with (folder / "spans").open("w") as spans, (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env={"PATH": path, "DATABASE_URL": database_url, **environment},
            stdout=spans,
            stderr=log,
        )
    try:
        wait_until_answered(process, f"http://127.0.0.1:{port}/health", folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def read_spans(text: str) -> list[dict[str, Any]]:
    spans, decoder = [], json.JSONDecoder()
    while text := text.strip():
        span, end = decoder.raw_decode(text)
        spans.append(span)
        text = text[end:]
    return spans


async def test_a_request_is_traced_to_its_statements_and_no_span_holds_the_message(
    database_url: str, sign_in: SignIn, unlucky: str, tmp_path: Path
) -> None:
    headers: Headers = await sign_in()
    private = "nobody's business"

    with traced(tmp_path, database_url) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            answers = [
                await client.post("/api/chat", json={"message": private}),
                await client.post("/api/chat", json={"message": f"{private}: {unlucky}"}),
                await client.post("/api/chat", json={"message": f"{private}\0"}),
            ]

    text = (tmp_path / "spans").read_text()
    spans = read_spans(text)
    assert [answer.status_code for answer in answers] == [200, 500, 422]
    requests = [span for span in spans if span["name"] == "POST /api/chat"]
    assert [span["attributes"]["http.response.status_code"] for span in requests] == [200, 500, 422]
    [failed] = [span for span in spans if "CheckViolationError" in json.dumps(span["events"])]
    assert failed["context"]["trace_id"] == requests[1]["context"]["trace_id"]
    assert "store_turn_1" in failed["attributes"]["db.statement"]
    assert 'violates check constraint "lucky"' in failed["events"][0]["attributes"]["exception.message"]
    for secret in (private, headers["Authorization"].removeprefix("Bearer ")):
        assert secret not in text
        assert secret not in (tmp_path / "log").read_text()


class Collector(BaseHTTPRequestHandler):
    """Keeps what an exporter sends."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] else body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector_url() -> Iterator[str]:
    Collector.received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_a_collector_gets_the_spans_of_the_last_seconds_too(
    database_url: str, sign_in: SignIn, collector_url: str, tmp_path: Path
) -> None:
    headers, private = await sign_in(), "nobody's business"
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url}
    assert "`--traces_exporter otlp_proto_http`" in operations.PAGE.read_text()

    with traced(tmp_path, database_url, "otlp_proto_http", **endpoint) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            assert (await client.post("/api/chat", json={"message": private})).status_code == 200

    assert {path for path, _ in Collector.received} == {"/v1/traces"}
    spans = b"".join(body for _, body in Collector.received)
    assert b"POST /api/chat" in spans
    assert b"FROM store_turn_1($" in spans
    assert private.encode() not in spans
