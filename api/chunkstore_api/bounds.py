"""Bounds the bodies of all requests but those of uploads, which are counted as they are stored.

A document is short and comes in time; a path is text. Neighbours: `body` does this for uploads.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import unquote_to_bytes

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chunkstore_api.problems import problem

LONGEST_DOCUMENT: Final = 1 << 20
"""Bytes of a body that is held in memory."""

PATIENCE: Final = 4
"""A whole document comes within so many times the seconds that a client may be idle."""


class Bounds:
    """Cuts off bodies that are too long or too slow to be documents."""

    def __init__(self, app: ASGIApp, *, idle: float) -> None:
        """`idle` is in seconds."""
        self._app = app
        self._time = PATIENCE * idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        taken, ended = 0, False
        end = asyncio.get_running_loop().time() + self._time

        async def bounded() -> Message:
            nonlocal taken, ended
            if ended or scope["state"].get("upload"):
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"no document came in {self._time:g} seconds") from None
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > LONGEST_DOCUMENT:
                raise HTTPException(413, f"a document has at most {LONGEST_DOCUMENT} bytes")
            return message

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not _is_text(scope.get("raw_path", b"")):
            answer = problem(400, "invalid_input", "the path is not UTF-8, percent-encoded")
            await answer(scope, receive, send)
        else:
            scope.setdefault("state", {})
            await self._app(scope, bounded, send)


def lift(request: Request) -> None:
    """Let the body of a request be of any length: whoever reads it counts."""
    request.state.upload = True


def _is_text(path: bytes) -> bool:
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:  # the server in front puts other characters in the place of these
        return False
    return True
