"""Problems of pages as pages: where a browser would be shown a problem document, it gets HTML.

Stands around the application, so that it does not matter who refused a request. What the API
answers stays as it is. Who is not known is given the form to sign in.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chunkstore_api import sessions
from chunkstore_api.problems import MEDIA_TYPE, problem_of
from chunkstore_api.web.rendering import page


class ProblemPages:
    """Gives browsers pages for problem documents."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if (
            scope["type"] != "http"
            or not sessions.is_page(scope["path"])
            or "text/html" not in Headers(scope=scope).get("accept", "")
        ):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        answer = _Answer(scope, receive, send)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            if not answer.started:
                await problem_of(error)(scope, receive, answer.send)
            raise


class _Answer:
    """An answer under way; one that is a problem is held back, and given as a page."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._head: Message | None = None
        self._body = b""
        self.started = False

    async def send(self, message: Message) -> None:
        """Pass a message on, or keep it."""
        if message["type"] == "http.response.start":
            self.started = True
            if Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE:
                self._head = message
                return
        if self._head is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            await self._told(Headers(raw=self._head["headers"]), json.loads(self._body))

    async def _told(self, headers: Headers, problem: dict[str, Any]) -> None:
        kept = {
            name: headers[name]
            for name in ("retry-after", "allow", "www-authenticate")
            if name in headers
        }
        template = "sign_in.html" if problem["status"] == 401 else "problem.html"
        asked = self._scope["raw_path"].decode("latin-1")
        path = asked if self._scope["method"] in ("GET", "HEAD") else "/"
        query = self._scope["query_string"].decode("latin-1")
        answer = page(
            self._scope,
            template,
            status=problem["status"],
            headers=kept,
            problem=problem,
            target=f"{path}?{query}" if query else path,
        )
        await answer(self._scope, self._receive, self._send)
