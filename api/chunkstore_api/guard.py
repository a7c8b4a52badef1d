"""Keeps web pages of strangers away from a server that serves whoever reaches it.

A browser on the same machine would carry requests of any page here. So a server on a loopback
address answers only to its own names (a foreign name that resolves here is not one of them), and no
request that changes anything may come from a page of another origin.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from chunkstore_api.problems import problem
from chunkstore_api.settings import is_loopback

_SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Refuses requests that no client of this server would make."""

    def __init__(self, app: ASGIApp, *, loopback: bool) -> None:
        self._app = app
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and (reason := self._refusal(scope)):
            await problem(403, "forbidden", reason)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._loopback and host and not is_loopback(name):
            return f"this server is not called {host!r}"
        origin = headers.get("origin")
        if scope["method"] not in _SAFE and origin is not None:
            _, _, theirs = origin.partition("://")
            if theirs != host:
                return f"a page of {origin!r} may change nothing here"
        return None
