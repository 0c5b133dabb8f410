"""How connections are read: uvicorn's HTTP protocol, with bounds on what clients can make the process hold.

It extends classes that uvicorn does not document, so pyproject.toml caps uvicorn's minor version.
"""

import asyncio
import logging
import time
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ai_agent import open_files
from ai_agent.flow import Flow, PatientTransport
from ai_agent.parser import Parser, Trailer

logger = logging.getLogger(__name__)

# Seconds that a client has for the head of a request, from the connection's start or, on a kept connection, from the
# first byte. It has as long for the rest of a body that nobody reads.
HEAD_SECONDS = 10

# More than any browser or proxy sends; without a bound, a head could grow until its deadline.
HEAD_BYTES = 128 * 1024

# The parser cannot be stopped within a piece, so pieces are small: 4 KiB hold two hundred requests at most.
PIECE_BYTES = 4096

# Bytes that a client may still send after the response, because many read it only after they have sent everything.
DISCARDED_BYTES = 2 * 1024 * 1024


class Protocol(HttpToolsProtocol):
    """One connection.

    - Pipelined requests wait as bytes, at most one read's worth, rather than as objects of ten times the size.
    - Fields in the trailer of a chunked body never become headers, because RFC 9110 (section 6.5.1) forbids it.
    - White space after a header is no part of its value, because RFC 9110 (section 5.5) excludes it on both sides.
    - A head is bounded in time and in size. So is the rest of a request that was answered before it was complete.
    - A response arrives even if the connection closes after it and the request is still arriving.
    - When connections run short, the one that has been idle for longest is closed.
    - A request for a WebSocket, or for another upgrade, is read with its body and gets an ordinary response.
    """

    parser: Parser
    _idle: ClassVar[dict["Protocol", None]] = {}
    """The connections on which no request is served, the one that has waited longest first."""
    _complained_at: ClassVar[float] = float("-inf")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As in uvicorn.
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self.parser = Parser(self)
        self._unparsed = memoryview(b"")
        self._received = 0
        """Bytes since the head began, or since the response was complete."""
        self._deadline: asyncio.TimerHandle | None = None
        if len(self.connections) > open_files.max_connections():
            self._make_room()
        self._watch()

    def _make_room(self) -> None:
        longest_idle = next(iter(self._idle), self)
        self._idle.pop(longest_idle, None)
        longest_idle.transport.abort()
        if time.monotonic() - Protocol._complained_at > 60:  # One line a minute is enough.
            Protocol._complained_at = time.monotonic()
            logger.warning(
                "More than %d connections at once: idle ones are closed, because this process may open only %d files."
                " Raise its limit (ulimit -n), or start more replicas.",
                *(open_files.max_connections(), open_files.limit()),
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE_BYTES and not self._unparsed:
            self._parse_piece(data)
        else:
            self._unparsed = memoryview(b"".join([self._unparsed, data]))
            self._parse()
        self._watch()

    def _parse(self) -> None:
        while self._unparsed and not self.pipeline and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:PIECE_BYTES], self._unparsed[PIECE_BYTES:]
            self._parse_piece(piece)

    def _parse_piece(self, piece: bytes | memoryview) -> None:
        super().data_received(piece)  # type: ignore[arg-type]  # The parser takes any buffer.
        self._received += len(piece)
        if self._in_head() and self._received > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")
        elif not self._is_serving() and self._received > DISCARDED_BYTES:
            self.transport.close()

    def _in_head(self) -> bool:
        return self.cycle is None or self.cycle.scope is not self.scope

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """Note whether the connection is idle, and set a deadline for what must arrive next, if anything must."""
        if self._is_serving():
            self._idle.pop(self, None)
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif not self.transport.is_closing():
            self._idle[self] = None
            if self._deadline is None:
                self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._received = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value.rstrip(b" \t"))  # The parser strips the start only.

    def on_headers_complete(self) -> None:
        if self.parser.asks_for_upgrade() or self.transport.is_closing():
            return  # The parser will read the request again, or nobody waits for its response.
        super().on_headers_complete()
        if self.scope["method"] == "CONNECT":
            self.cycle.keep_alive = False  # What follows it need not be HTTP.
        if not self.cycle.keep_alive:
            self.cycle.transport = PatientTransport(self.transport, self.cycle)
        self.headers = Trailer()

    def on_message_complete(self) -> None:
        if self.parser.asks_for_upgrade():
            return
        super().on_message_complete()
        if not self._is_serving() and not self.cycle.keep_alive:
            self.transport.close()

    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is not None:
            self.cycle.transport = self.transport  # A stop does not wait for the rest of a request.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unparsed:
            self._parse()
        if self._is_serving() or self.transport.is_closing():
            return
        self._idle[self] = None
        self.cycle.body.clear()  # Nobody reads it any more, and the connection may stay open for long.
        if self.cycle.more_body or self._in_head():
            self._received = 0
            self._watch()
