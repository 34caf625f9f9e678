"""HTTP as it comes from the socket."""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a head or of trailers: of whatever is neither a body nor a whole request.
_MOST_BYTES = 1 << 16


class Protocol(HttpToolsProtocol):
    """Uvicorn's fast protocol, without two faults that its slow one does not have.

    It collects a head for as long as one is sent, and it loses the body of a request that offers
    to go on in another protocol, as Java's client does with HTTP/2 by default.
    """

    _pending = 0  # bytes since the last body or request

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._unset_keepalive_if_required()
        self._pending += len(data)
        try:
            self._feed(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._pending > _MOST_BYTES:
                self.send_400_response("The head of the request is too large.")

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                data = self._head_without_offer() + data[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)

    def _head_without_offer(self) -> bytes:
        """Return the head that has just been read, as if it said nothing of another protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise HttpParserError("no proxy")
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, which routes bound."""
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        if not self.parser.should_upgrade():
            self._pending = 0
            super().on_message_complete()
