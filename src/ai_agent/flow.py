"""When a connection is read, and how it is closed."""

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Flow(FlowControl):
    """Resumes reading only when no request waits in the queue; uvicorn's own resumes after each response."""

    def __init__(self, transport: asyncio.Transport, queue: deque[Any]) -> None:
        super().__init__(transport)
        self._queue = queue

    def resume_reading(self) -> None:
        if not self._queue:
            super().resume_reading()


class PatientTransport(asyncio.Transport):
    """What a request that closes its connection writes to: it only half-closes while the request is still arriving.

    A socket that is closed before everything was read resets the connection, which can destroy the response on its way.
    The protocol closes the connection once the rest has arrived, or when it takes too long or is too large.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._cycle.more_body and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
