"""The body of a request as a file: the event loop fills it, blocking code reads it.

At most 4 MiB lie in between; a client that is faster is not read any further, one that gives
nothing for too long is cut off. A body that does not end as its framing says raises where the
reader would have found its end, so nothing of it is committed.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections import deque
from typing import Final

from starlette.types import Receive

from chunkstore_api.problems import RequestError

_AHEAD: Final = 4 * 1024 * 1024


class Body(io.RawIOBase):
    """Bytes of one request, read once by one thread."""

    def __init__(self, idle: float) -> None:
        """Make it in the event loop that is to `fill` it; `idle` is in seconds."""
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._parts: deque[bytes] = deque()
        self._length = 0
        self._ended = False
        self._error: RequestError | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._room.set()

    async def fill(self, receive: Receive) -> None:
        """Take what the client sends until it ends, and keep it for the reader."""
        error: RequestError | None = RequestError(500, "bug", "the body cannot be read")
        try:
            more = True
            while more:
                async with asyncio.timeout(self._idle):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestError(400, "truncated", "the client went away in the middle")
                more = message.get("more_body", False)
                self._put(message.get("body", b""))
                await self._room.wait()
            error = None
        except TimeoutError:
            error = RequestError(408, "timeout", f"nothing came for {self._idle:g} seconds")
        except RequestError as found:
            error = found
        finally:
            self.end(error)  # whatever happened: the reader waits for it

    def _put(self, data: bytes) -> None:
        with self._changed:
            if data:
                self._parts.append(data)
                self._length += len(data)
                self._changed.notify()
            if self._length >= _AHEAD:
                self._room.clear()

    def end(self, error: RequestError | None) -> None:
        """Let the reader find the end, or an error there, once it has read what is kept."""
        with self._changed:
            if not self._ended:
                self._ended = True
                self._error = error
                self._changed.notify()

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            RequestError: the body does not end, or nothing came for too long.
        """
        found: list[bytes] = []
        with self._changed:
            while not self._parts and not self._ended:
                self._changed.wait()
            if not self._parts and self._error is not None:
                raise self._error
            left = size if size >= 0 else self._length
            was_full = self._length >= _AHEAD
            while self._parts and left:
                part = self._parts.popleft()
                if len(part) > left:
                    self._parts.appendleft(part[left:])
                    part = part[:left]
                found.append(part)
                left -= len(part)
                self._length -= len(part)
            if was_full and self._length < _AHEAD:  # to wake the loop is a system call
                self._loop.call_soon_threadsafe(self._room.set)
        return b"".join(found)
