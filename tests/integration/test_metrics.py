from importlib.metadata import version

import asyncpg
import httpx
import psutil
import pytest

from tests.support.app import client_of, make_settings, running
from tests.support.metrics import scrape
from tests.support.types import Chat, SignIn


async def test_requests_are_counted_by_method_route_and_status(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    headers = await sign_in("user-with-a-name")
    conversation_id = (await chat(headers, "A secret message"))["conversation_id"]
    for id_ in (conversation_id, conversation_id, conversation_id + 1):
        await client.get(f"/api/conversations/{id_}", headers=headers)
    await client.get("/nowhere/with/a/secret")

    metrics = await scrape(client)

    count = "http_request_duration_seconds_count"
    assert metrics[count, ("POST", "/api/chat", "200")] == 1
    assert metrics[count, ("GET", "/api/conversations/{conversation_id}", "200")] == 2
    assert metrics[count, ("GET", "/api/conversations/{conversation_id}", "404")] == 1
    assert metrics[count, ("GET", "(no route)", "404")] == 1
    assert metrics["http_requests_in_progress", ()] == 1


async def test_nothing_in_the_metrics_names_a_user_or_a_message(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    await chat(await sign_in("user-with-a-name", token="a-token-to-be-kept-secret"), "A secret message")

    text = (await client.get("/metrics")).text

    assert not any(word in text for word in ("user-with-a-name", "a-token-to-be-kept-secret", "A secret message"))


async def test_the_pools_connections_are_counted(chat: Chat, client: httpx.AsyncClient, sign_in: SignIn) -> None:
    await chat(await sign_in())

    metrics = await scrape(client)

    assert metrics["database_connections", ("in_use",)] == 0
    assert metrics["database_connections", ("idle",)] == 1


async def test_each_cause_of_a_503_is_there_before_it_happens(client: httpx.AsyncClient) -> None:
    metrics = await scrape(client)

    causes = {labels: value for (name, labels), value in metrics.items() if name == "database_unavailable_total"}
    assert causes == {
        ("pool_exhausted",): 0,
        ("too_slow",): 0,
        ("unreachable",): 0,
        ("connection_lost",): 0,
        ("refused",): 0,
        ("not_ready",): 0,
    }


async def test_the_release_and_the_process_are_measured(client: httpx.AsyncClient) -> None:
    metrics = await scrape(client)

    assert metrics["ai_agent_info", (version("ai-agent"),)] == 1
    assert metrics["process_start_time_seconds", ()] == pytest.approx(psutil.Process().create_time(), abs=2)
    assert metrics["process_resident_memory_bytes", ()] > 0
    assert metrics["process_open_fds", ()] > 0
    assert ("python_gc_collections_total", ("2",)) in metrics


async def test_each_503_is_counted_under_its_cause(database: asyncpg.Connection, database_url: str) -> None:
    async with running(make_settings(database_url="postgresql://127.0.0.1:1/none")) as app, client_of(app) as client:
        await client.get("/api/conversations", headers={"Authorization": "Bearer token"})
        unreachable = await scrape(client)
    settings = make_settings(database_url=database_url, database_pool_size=1, database_max_overflow=0)
    async with running(settings) as app, client_of(app) as client, app.state.engine.connect():
        await client.get("/health/ready")
        exhausted = await scrape(client)

    assert unreachable["database_unavailable_total", ("unreachable",)] == 1
    assert exhausted["database_unavailable_total", ("pool_exhausted",)] == 1


@pytest.mark.parametrize(
    ("path", "closed", "opened"), [("off", "/metrics", None), ("/inside/m", "/metrics", "/inside/m")]
)
async def test_the_metrics_can_be_moved_and_closed(
    path: str, closed: str, opened: str | None, database_url: str
) -> None:
    async with running(make_settings(database_url=database_url, metrics_path=path)) as app, client_of(app) as client:
        assert (await client.get(closed)).status_code == 404
        if opened:
            assert await scrape(client, opened)
