"""One client's connection: uvicorn's, held within bounds.

A head is short and comes in time, what was sent is taken in time, and what can be read in two ways
is refused, so that no proxy in front takes it otherwise. Neighbours: `server` has uvicorn make
these; `body` and `downloads` are what passes through them.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chunkstore_api.problems import busy, problem, problem_of
from chunkstore_api.settings import Limits

LONGEST_HEAD: Final = 16 * 1024
"""Bytes of a request's first line and headers, and of whatever else is no body."""

_HEADER_COST: Final = 4  # bytes of colon, space and line end
_CHECKS: Final = 4  # while a client may be idle


class Connection(HttpToolsProtocol):
    """A connection, in the event loop. Times in seconds of the loop's clock."""

    transport: asyncio.Transport

    def __init__(self, limits: Limits, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.access_log = False  # whoever reads a link there could use it
        self._limits = limits
        self._refusal: Response | None = None
        self._reads_no_more = False
        self._in_vain = 0  # bytes since a head was complete or a byte of a body came
        self._in_head = False
        self._waiting_since: float | None = None  # for a whole head, where no request is served
        self._resumed = 0
        self._sent = (0, 0)
        self._sent_at = 0.0
        self._next_check: asyncio.TimerHandle | None = None

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._waiting_since = self.loop.time()
        self._next_check = self.loop.call_later(self._limits.idle / _CHECKS, self._check)
        if len(self.connections) > self._limits.connections:
            self._refuse(problem_of(busy(f"{self._limits.connections} connections")))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._next_check is not None:
            self._next_check.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Note that the client took something."""
        self._resumed += 1
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read on, or refuse what cannot be read."""
        if self._reads_no_more:
            return
        self._unset_keepalive_if_required()
        self._in_vain += len(data)
        try:
            self._parse(data)
            if self._in_vain > LONGEST_HEAD:
                self._refuse(_too_long())
        except httptools.HttpParserError as error:
            callback = isinstance(error, httptools.HttpParserCallbackError)
            self._refuse(self._refusal or _malformed("a URL" if callback else str(error)))

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # No other protocol is offered, so the request is served as if none was asked for. The
            # parser stops there, even before a body: another one reads on.
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(self._plain_head() + data[upgrade.args[0] :])

    def _plain_head(self) -> bytes:
        version = self.scope["http_version"].encode()
        lines = [b"%s %s HTTP/%s" % (self.scope["method"].encode(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                rest = [word for word in value.split(b",") if word.strip().lower() != b"upgrade"]
                value = b",".join(rest)  # noqa: PLW2901  # what is left of it
            lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    # what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; one behind a body, where nobody looks for it any more, is left out."""
        if self._in_head:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head = True
        if self._waiting_since is None:
            self._waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Serve a request, unless its head is ambiguous or too long."""
        asked = self.parser.get_method()
        self.scope["method"] = asked.decode("ascii")
        self.scope["http_version"] = self.parser.get_http_version()
        if self.parser.should_upgrade():
            if asked == b"CONNECT":
                self._stop(_malformed("this is no proxy"))
            return
        length = len(self.url) + sum(len(n) + len(v) + _HEADER_COST for n, v in self.headers)
        if length > LONGEST_HEAD:
            self._stop(_too_long())
        if reason := self._ambiguity():
            self._stop(_malformed(reason))
        self._in_head = False
        self._waiting_since = None
        self._in_vain = 0
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", _Answering(self))

    def _ambiguity(self) -> str | None:
        found: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            found.setdefault(name, []).append(value)
        old = self.parser.get_http_version() == "1.0"
        if len(found.get(b"host", [])) != 1 and not (old and b"host" not in found):
            return "a request has one Host"
        codings = found.get(b"transfer-encoding")
        if codings is not None and (old or [each.lower() for each in codings] != [b"chunked"]):
            return "the only Transfer-Encoding is chunked, in HTTP/1.1"
        return None

    def on_body(self, body: bytes) -> None:
        """Take bytes of a body in."""
        self._in_vain = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; one that is read again without its upgrade goes on."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._waiting_since = self.loop.time()
        super().on_response_complete()

    # bounds

    def _check(self) -> None:
        """Cut the client off if it gave or took nothing for too long; else check again later."""
        now, idle = self.loop.time(), self._limits.idle
        sent = (self._resumed, self.transport.get_write_buffer_size())
        if not sent[1] or sent != self._sent:
            self._sent, self._sent_at = sent, now
        elif now - self._sent_at >= idle:
            self.transport.abort()
        answered = self.cycle is None or self.cycle.response_complete
        since = self._waiting_since
        if self._reads_no_more:
            self.transport.close()
        elif answered and since is not None and now - since >= idle:
            if self._in_vain:
                self._refuse(problem(408, "timeout", f"no whole head came in {idle:g} seconds"))
            self.transport.close()
        self._next_check = self.loop.call_later(idle / _CHECKS, self._check)

    def _stop(self, refusal: Response) -> None:
        """End the parser's work from within."""
        self._refusal = refusal
        raise ValueError("refused")

    def _refuse(self, answer: Response) -> None:
        """Answer in the place of the application, and take nothing in any more.

        Where an answer is on its way it is cut off, since its client would take this one for bytes
        of it.
        """
        self._refusal = answer
        self._reads_no_more = True
        if self.cycle is not None and not self.cycle.response_complete:
            if self.pipeline or self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True  # to the application the client is gone
            self.cycle.message_event.set()
        status = HTTPStatus(answer.status_code)
        head = [f"HTTP/1.1 {status} {status.phrase}".encode(), b"connection: close"]
        head += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + bytes(answer.body))
        self._leave()

    def end_answer(self) -> None:
        """Close behind an answer, without a loss of it where its request is still coming."""
        if self.cycle.response_complete and self.cycle.more_body:
            self._leave()
        else:
            self.transport.close()

    def _leave(self) -> None:
        """Take nothing in any more, and close at the next check.

        To close a line with bytes unread would reset it, and the client, or a proxy, might not see
        the answer.
        """
        self._reads_no_more = True
        if self.transport.can_write_eof():
            self.transport.write_eof()


class _Answering:
    """The transport as an answer has it."""

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.end_answer


def _malformed(reason: str) -> Response:
    return problem(400, "invalid_input", f"not a request of HTTP/1.1 as it has to be: {reason}")


def _too_long() -> Response:
    return problem(431, "too_large", f"the head of a request has at most {LONGEST_HEAD} bytes")
