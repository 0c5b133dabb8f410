"""How requests are parsed: by httptools, but a request for an upgrade is read as if it asked for none."""

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Parser(HttpRequestParser):
    """Parses a connection's requests. One that asks for an upgrade is parsed a second time, without its `Upgrade`.

    Otherwise httptools would take the body of that request for the next request. A client that asks for HTTP/2 first,
    such as Java's, would lose every message, and others could smuggle requests through a proxy.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # As in uvicorn.
        self._protocol = protocol

    def asks_for_upgrade(self) -> bool:
        """Whether the request will be parsed again. CONNECT will not, because it is an upgrade even without headers."""
        return self.should_upgrade() and self.get_method() != b"CONNECT"

    def feed_data(self, data: bytes | memoryview) -> None:  # type: ignore[override]  # No other type comes.
        try:
            super().feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        else:
            return
        if self.asks_for_upgrade():
            # The parser is a new one, because this one may be at its end: after 'Connection: close' it reads no more.
            self._protocol.parser = Parser(self._protocol)
            self._protocol.parser.feed_data(self._head_without_upgrade() + rest)

    def _head_without_upgrade(self) -> bytes:
        line = b"%b %b HTTP/%b" % (self.get_method(), self._protocol.url, self.get_http_version().encode())
        fields = (b"%b: %b" % field for field in self._protocol.headers if field[0] != b"upgrade")
        return b"\r\n".join([line, *fields, b"", b""])


class Trailer(list[tuple[bytes, bytes]]):
    """Replaces the list of headers once the head is complete, and drops what is appended."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        pass
