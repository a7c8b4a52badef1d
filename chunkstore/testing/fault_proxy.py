"""An HTTP proxy before an S3 server that loses, delays, cuts and refuses some of what passes.

Which requests suffer is decided by a seeded generator. Everything stays on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

FAULTS: Final = ("drop", "delay", "truncate", "refuse", "lose answer")
"""The connection ends before the request is forwarded; the answer comes late; half of it comes;
503 instead of forwarding; the request takes effect and the connection ends without an answer."""


class FaultProxy:
    """A running proxy. `share` of the requests suffer one of `faults`; all wait `delay` seconds."""

    def __init__(
        self,
        upstream_port: int,
        *,
        share: float = 0.0,
        faults: tuple[str, ...] = FAULTS,
        delay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.upstream_port = upstream_port
        self.share = share
        self.faults = faults
        self.delay = delay
        self.requests: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self.port}"

    def choose(self, method: str) -> str | None:
        """Count a request; return the fault that it suffers, or None."""
        with self._lock:
            self.requests[method] += 1
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(self.faults)
            self.injected[fault] += 1
            return fault

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End serving."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def fault_proxy(
    upstream_port: int,
    *,
    share: float = 0.0,
    faults: tuple[str, ...] = FAULTS,
    delay: float = 0.0,
    seed: int = 0,
) -> Iterator[FaultProxy]:
    """Run a proxy before the server on `upstream_port` of 127.0.0.1."""
    proxy = FaultProxy(upstream_port, share=share, faults=faults, delay=delay, seed=seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: ended connections are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy = self.server.proxy
        fault = proxy.choose(self.command)
        if proxy.delay:
            time.sleep(proxy.delay)
        if fault == "drop":
            self.close_connection = True
            return
        if fault == "refuse":
            self._answer(503, [], b"")
            return
        if fault == "delay":
            time.sleep(0.3)
        status, headers, data = self._forward(body)
        if fault == "lose answer":
            self.close_connection = True
        elif fault == "truncate" and len(data) > 1:
            self._answer(status, headers, data, cut=len(data) // 2)
            self.close_connection = True
        else:
            self._answer(status, headers, data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815  # names of http.server

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(
            "127.0.0.1", self.server.proxy.upstream_port, timeout=60
        )
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: int | None = None
    ) -> None:
        self.send_response_only(status)
        stated = None
        for name, value in headers:
            if name.lower() == "content-length":
                stated = value
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        length = stated if self.command == "HEAD" and stated else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])

    def log_message(self, format: str, *args: object) -> None:  # name of http.server
        """Say nothing."""
