"""The metrics of a service, and waiting for them."""

import asyncio

import httpx
from prometheus_client.parser import text_string_to_metric_families

type Metrics = dict[tuple[str, tuple[str, ...]], float]


async def scrape(client: httpx.AsyncClient, path: str = "/metrics") -> Metrics:
    """The service's metrics, by name and label values."""
    response = await client.get(path)
    assert response.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def scrape_at(url: str) -> Metrics:
    """The metrics of a service that runs as a process of its own."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        return await scrape(client)


async def connections_in_use(url: str) -> float:
    return (await scrape_at(url))["database_connections", ("in_use",)]


async def wait_for_requests(url: str, number: int) -> None:
    """Return when the service has this number of requests in progress, besides the one that asks."""
    for _ in range(1000):
        if (await scrape_at(url))["http_requests_in_progress", ()] == number + 1:
            return
        await asyncio.sleep(0.02)  # Each question is a request too, and must not become the load.
    raise AssertionError(f"the service never had {number} requests in progress")
