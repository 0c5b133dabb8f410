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
    """Carries the response after which the connection closes, and only half-closes it while the request still arrives.

    Closing a socket with unread bytes resets the connection, and the reset can destroy the response on its way. So the
    protocol closes the connection later, once the rest has arrived, or if it takes too long or is too large.
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
