"""How fast one client may ask, and how much at once: requests a second, and requests under way.

A client is a token where there are tokens, and a link that a token made is that token; else an
address. Requests that no token or link lets in are counted by address too, but apart, so that they
take nothing from links. Each process counts alone.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chunkstore_api.problems import problem

CLIENTS: Final = 10_000
"""How many clients are kept in mind; who asked longest ago is forgotten first."""


class Rates:
    """What each client has left."""

    def __init__(self, rate: float) -> None:
        """`rate` in requests a second."""
        self._rate = rate
        self._burst = max(1.0, rate)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are kept in mind."""
        return len(self._left)

    def wait(self, client: str, now: float) -> float:
        """Count a request at a time; return the seconds that it comes too early, 0 for none."""
        left, then = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        missing = max(0.0, 1.0 - left)
        self._left[client] = (left if missing else left - 1.0, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return missing / self._rate

    def refusal(self, client: str) -> Response | None:
        """Count a request now; return the answer to one that comes too early."""
        seconds = self.wait(client, time.monotonic())
        if not seconds:
            return None
        return problem(
            429,
            "too_many_requests",
            "requests come faster than the server takes them from one client",
            "wait for the seconds of Retry-After",
            {"Retry-After": str(math.ceil(seconds))},
        )


class Crowd:
    """Refuses what one token asks for while it has too many requests under way."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        client = _who(scope)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._under_way[client] >= self._most:
            await problem(
                429,
                "too_many_requests",
                f"{self._most} requests of one token are under way",
                "wait for one of them to end",
                {"Retry-After": "1"},
            )(scope, receive, send)
            return
        self._under_way[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]


class Throttle:
    """Refuses what comes too fast."""

    def __init__(self, app: ASGIApp, *, rates: Rates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and (answer := self._rates.refusal(_who(scope))):
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _who(scope: Scope) -> str:
    token = scope.get("state", {}).get("token")
    return f"token {token.id}" if token is not None and token.id else address_of(scope)


def address_of(scope: Scope) -> str:
    """Return who is behind a request without a token."""
    client = scope.get("client")
    return f"address {client[0] if client else ''}"
