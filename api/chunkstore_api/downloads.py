"""Blocks of bytes that blocking code yields, as the body of an answer.

The first block is made before the status is sent, so that what fails at once is a problem
document; what fails later cuts the connection, so that no client takes a part for the whole. A
client that takes nothing for too long is cut off.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Final, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chunkstore_api.gates import Gate

Block: TypeAlias = bytes | memoryview

BLOCK_SIZE: Final = 1024 * 1024
"""About so many bytes are handed to the network at once."""


class Download(Response):
    """An answer whose body is made while it is sent, in the threads of a gate."""

    def __init__(
        self,
        gate: Gate,
        blocks: Callable[[], Iterator[Block]],
        *,
        idle: float,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`blocks` is called once there is a place; `idle` is in seconds."""
        super().__init__(status_code=status, headers=headers)
        if not any(name.lower() == "content-length" for name in headers or {}):
            del self.headers["content-length"]
        self._gate = gate
        self._blocks = blocks
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until the client is gone."""
        del scope
        async with self._gate.place():
            blocks = joined(self._blocks())
            following = functools.partial(next, blocks, None)
            gone = asyncio.ensure_future(_disconnected(receive))
            try:
                block = await self._gate.run(following)
                head = {"status": self.status_code, "headers": self.raw_headers}
                await send({"type": "http.response.start", **head})
                while block is not None and not gone.done():
                    ahead = asyncio.ensure_future(self._gate.run(following))
                    try:
                        await self._send(send, block)
                    finally:
                        block = await ahead
                await send({"type": "http.response.body", "body": b""})
            finally:
                gone.cancel()
                await self._gate.run(blocks.close)

    async def _send(self, send: Send, block: bytes) -> None:
        async with asyncio.timeout(self._idle):
            await send({"type": "http.response.body", "body": block, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def joined(parts: Iterator[Block]) -> Generator[bytes, None, None]:
    """Join parts to blocks of about 1 MiB, which cost fewer turns of the event loop."""
    pending: list[memoryview] = []
    size = 0
    for part in parts:
        view = memoryview(part)
        pending.append(view)
        size += len(view)
        if size >= BLOCK_SIZE:
            yield b"".join(pending)
            pending, size = [], 0
    if pending:
        yield b"".join(pending)
