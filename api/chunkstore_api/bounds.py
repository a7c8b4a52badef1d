"""Bounds the bodies of all requests but those of uploads, which are counted as they are stored."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_DOCUMENT: Final = 1 << 20
"""Bytes of a body that is held in memory."""


class Bounds:
    """Cuts off bodies that are too long to be documents."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LONGEST_DOCUMENT and not scope["state"].get("upload"):
                raise HTTPException(413, f"a document has at most {LONGEST_DOCUMENT} bytes")
            return message

        if scope["type"] == "http":
            scope.setdefault("state", {})
        await self._app(scope, bounded if scope["type"] == "http" else receive, send)


def lift(request: Request) -> None:
    """Let the body of a request be of any length: whoever reads it counts."""
    request.state.upload = True
