"""How much memory a service takes for a piece of work."""

import asyncio
from collections.abc import Awaitable

import psutil

from tests.support.service import Service

MIB = 1024 * 1024


async def measure_growth[T](service: Service, work: Awaitable[T]) -> tuple[T, int]:
    """Await the work; return its result and the number of bytes by which the service's memory grew at its peak."""
    process = psutil.Process(service.process.pid)
    before = peak = process.memory_info().rss
    task = asyncio.ensure_future(work)
    while not task.done():
        peak = max(peak, process.memory_info().rss)
        await asyncio.wait([task], timeout=0.01)
    return await task, peak - before
