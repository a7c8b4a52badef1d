"""An HTTP line to a server on which a test may change what passes, or answer itself.

Everything stays on 127.0.0.1. Neighbour: `fault_proxy`, which does so by chance.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias, TypeVar

Headers: TypeAlias = list[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """What a client sent. `path` has the query."""

    method: str
    path: str
    headers: Headers
    body: bytes

    @property
    def is_listing(self) -> bool:
        """Whether it asks for a page of a listing."""
        return self.method == "GET" and "list-type=2" in self.path


@dataclass(frozen=True)
class Answer:
    """What a client gets. `declared` is the Content-Length where that lies."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    declared: int | None = None

    def without(self, *names: str) -> Answer:
        """Return the same answer without some headers."""
        return replace(self, headers=[h for h in self.headers if h[0].lower() not in names])


def error_answer(status: int, code: str, message: str = "on purpose") -> Answer:
    """Return an error as S3 writes it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, [("Content-Type", "application/xml")], body.encode())


@dataclass
class Line:
    """Between a client and the server on `port`; a test sets what happens to what passes.

    Attributes:
        on_request: changes a request, or answers it in the server's place.
        on_answer: changes an answer; None ends the connection without one.
        seen: every request as it came.
    """

    port: int
    on_request: Callable[[Request], Request | Answer] = lambda request: request
    on_answer: Callable[[Request, Answer], Answer | None] = lambda _, answer: answer
    seen: list[Request] = field(default_factory=list)
    endpoint: str = ""

    def handle(self, request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
        """Return what is answered; None ends the connection. `forward` asks the server."""
        self.seen.append(request)
        changed = self.on_request(request)
        answer = changed if isinstance(changed, Answer) else forward(changed)
        return self.on_answer(request, answer)

    def clear(self) -> None:
        """Change nothing from now on."""
        self.on_request = lambda request: request
        self.on_answer = lambda _, answer: answer


@contextlib.contextmanager
def line_to(port: int) -> Iterator[Line]:
    """Run a line to the server on `port` of 127.0.0.1."""
    with running(Line(port)) as line:
        yield line


LineKind = TypeVar("LineKind", bound=Line)


@contextlib.contextmanager
def running(line: LineKind) -> Iterator[LineKind]:
    """Run a line."""
    server = _Server(line)
    line.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield line
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, line: Line) -> None:
        self.line = line
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: some tests end connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, list(self.headers.items()), body)
        answer = self.server.line.handle(request, self._forward)
        if answer is None:
            self.close_connection = True
        else:
            self._send(answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815  # names of http.server

    def _forward(self, request: Request) -> Answer:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.line.port, timeout=60)
        try:
            upstream.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers:
                upstream.putheader(name, value)
            upstream.endheaders(request.body or None)
            answer = upstream.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            upstream.close()

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        length = str(len(answer.body) if answer.declared is None else answer.declared)
        for name, value in answer.headers:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        if answer.declared is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
