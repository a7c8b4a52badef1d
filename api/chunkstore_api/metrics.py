"""What the server counts, for Prometheus; no label holds a name of the user's."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chunkstore_api.gates import Gate

_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH")


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["method", "route"]
        self.requests = Counter(
            "chunkstore_http_requests",
            "Requests answered.",
            [*labels, "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "chunkstore_http_request_seconds",
            "Time from a request to the end of its answer.",
            labels,
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600),
            registry=self.registry,
        )
        self.sent = Counter(
            "chunkstore_http_sent_bytes", "Bytes of bodies sent.", registry=self.registry
        )
        self.received = Counter(
            "chunkstore_http_received_bytes", "Bytes of bodies received.", registry=self.registry
        )

    def watch(self, direction: str, gate: Gate) -> None:
        """Show how many transfers of a gate run and wait."""
        for name, what in (("active", "under way"), ("waiting", "waiting for a place")):
            gauge = Gauge(
                f"chunkstore_{direction}_{name}", f"Transfers {what}.", registry=self.registry
            )
            gauge.set_function(lambda name=name: getattr(gate, name))  # type: ignore[misc]  # bound now


class Counting:
    """Counts what passes through an application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.monotonic()

        async def counted_receive() -> Message:
            message = await receive()
            self._metrics.received.inc(len(message.get("body", b"")))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if scope["method"] != "HEAD":  # to which the server in front sends no body
                self._metrics.sent.inc(len(message.get("body", b"")))
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            route = getattr(scope.get("route"), "path_format", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(method, route).observe(time.monotonic() - started)
