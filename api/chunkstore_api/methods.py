"""Which methods a path takes: HEAD wherever GET, and the answer to any other.

FastAPI has a route take just the methods that it names, and tells of one route only. Neighbours:
`routes` have a HEAD of their own where a GET would cost more; `app` installs this.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from chunkstore_api import problems


class HeadAsGet:
    """Has HEAD answered as GET; the server in front leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or "HEAD" in _declared(scope):
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            scope["route"] = asked.get("route")  # `metrics` counts by it


def install(app: FastAPI) -> None:
    """Have an application name every method of a path whose method it refuses."""

    async def refuse(request: Request, error: Exception) -> Response:
        methods = _declared(request.scope)
        if "GET" in methods:
            methods.add("HEAD")
        answer = problems.problem_of(error)
        answer.headers["Allow"] = ", ".join(sorted(methods))
        return answer

    app.add_exception_handler(405, refuse)


def _declared(scope: Scope) -> set[str]:
    """Return the methods of all routes that have the path of a request."""
    return _methods(scope["app"].routes, scope)


def _methods(routes: Iterable[BaseRoute], scope: Scope) -> set[str]:
    found: set[str] = set()
    for route in routes:
        router = getattr(route, "original_router", None)  # FastAPI keeps routers whole
        if router is not None:
            found |= _methods(router.routes, scope)
        elif route.matches(scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
