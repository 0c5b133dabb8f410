"""What an operator measures: requests, the pool, the database's failures, the assistant. Nothing names a user."""

import multiprocessing
import os
import sys
from functools import cache
from importlib.metadata import version
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, Info, ProcessCollector
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from ai_agent.errors import Cause

# prometheus_client's multiprocess mode does not help, because its gauges cannot be read at the time of a scrape, and it
# forgets which process has which connections.
SEVERAL_WORKERS = (
    "There are several workers, and the metrics are only those of the worker that Prometheus happens to reach: run one"
    " process in each container or unit, without --workers and WEB_CONCURRENCY, and let Prometheus scrape each of them."
)


class Metrics:
    """The metrics of one app; each worker process has its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Info("ai_agent", "The release that runs.", registry=self.registry).info({"version": version("ai-agent")})
        requests = Histogram(
            "http_request_duration_seconds",
            "Time from the head of a request to the end of its response.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        # Looking a series up by its three labels costs more than counting in it.
        self.requests = cache(requests.labels)
        self.in_progress = 0
        in_progress = Gauge("http_requests_in_progress", "Requests that are being served.", registry=self.registry)
        in_progress.set_function(lambda: self.in_progress)
        self.unavailable = Counter(
            "database_unavailable", "503s of the database, by cause.", ["cause"], registry=self.registry
        )
        for cause in get_args(Cause):  # Prometheus needs two values for a rate, so each starts at 0.
            self.unavailable.labels(cause)
        self.assistant_turns = Counter(
            "assistant_turns",
            "Turns that the assistant was asked for, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self.assistant_seconds = Histogram(
            "assistant_turn_duration_seconds",
            "Time from a question to its stored reply, or to the failure.",
            buckets=(0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1800, 3600),
            registry=self.registry,
        )
        self.assistant_running = 0
        running = Gauge("assistant_turns_running", "Turns that the assistant is making.", registry=self.registry)
        running.set_function(lambda: self.assistant_running)
        pool = engine.pool
        assert isinstance(pool, QueuePool)
        connections = Gauge("database_connections", "Connections of the pool.", ["state"], registry=self.registry)
        connections.labels("in_use").set_function(pool.checkedout)
        connections.labels("idle").set_function(pool.checkedin)


def is_one_of_several() -> bool:
    """Whether this process is one of several workers. uvicorn starts a child for each, but none for a single worker."""
    reloads = "--reload" in sys.argv or "UVICORN_RELOAD" in os.environ
    return multiprocessing.parent_process() is not None and not reloads
