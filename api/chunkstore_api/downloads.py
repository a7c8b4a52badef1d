"""Blocks of bytes that blocking code yields, as the body of an answer.

The first block is made before the status is sent, so that what fails at once is a problem
document; what fails later cuts the connection, so that no client takes a part for the whole. A
client that takes nothing for too long is cut off by its `connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chunkstore.errors import ChunkstoreError
from chunkstore_api.codings import encoded, pays
from chunkstore_api.gates import Gate
from chunkstore_api.problems import RequestError

log = logging.getLogger(__name__)

Block: TypeAlias = bytes | memoryview
Following: TypeAlias = Callable[[], bytes | None]

BLOCK_SIZE: Final = 1024 * 1024
"""About so many bytes are handed to the network at once."""


@dataclass(frozen=True, slots=True)
class Coded:
    """The content codings that an answer may have.

    Attributes:
        codings: those that the client takes, best first.
        tag: the ETag of the answer without a coding, None where it has none.
    """

    codings: Sequence[str]
    tag: str | None = None


class Download(Response):
    """An answer whose body is made while it is sent, in the threads of a gate."""

    def __init__(
        self,
        gate: Gate,
        blocks: Callable[[], Iterator[Block]],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        coded: Coded | None = None,
    ) -> None:
        """`blocks` is called once there is a place.

        Where `coded` is given and the first block shrinks, the body is encoded.
        """
        super().__init__(status_code=status, headers=headers)
        if not any(name.lower() == "content-length" for name in headers or {}):
            del self.headers["content-length"]
        self._gate = gate
        self._blocks = blocks
        self._coded = coded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until the client is gone."""
        del scope
        async with self._gate.place():
            blocks = await self._gate.run(self._begin)
            following = functools.partial(next, blocks, None)
            try:
                first = await self._gate.run(following)
                head = {"status": self.status_code, "headers": self.raw_headers}
                await send({"type": "http.response.start", **head})
                await self._send(first, following, receive, send)
            finally:
                await self._gate.run(blocks.close)

    async def _send(
        self, block: bytes | None, following: Following, receive: Receive, send: Send
    ) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            while block is not None and not gone.done():
                ahead = asyncio.ensure_future(self._gate.run(following))
                try:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
                finally:
                    block = await ahead
            await send({"type": "http.response.body", "body": b""})
        except ChunkstoreError as error:  # too late for a problem; the server cuts the connection
            log.error("%s: %s: an answer is cut off", error.code, error.message)  # noqa: TRY400  # the store's fault
        finally:
            gone.cancel()

    def _begin(self) -> Generator[bytes, None, None]:
        """Return the blocks of the body, encoded where that pays; sets the headers for it."""
        blocks = joined(self._blocks())
        if self._coded is None or not self._coded.codings:
            return blocks
        first = next(blocks, b"")
        blocks = _resumed(first, blocks)
        if not pays(first):
            return blocks
        coding = self._coded.codings[0]
        for name in ("content-length", "repr-digest"):  # they are of the file as it is
            if name in self.headers:
                del self.headers[name]
        self.headers["Content-Encoding"] = coding
        if self._coded.tag is not None:
            self.headers["ETag"] = f'"{self._coded.tag}-{coding}"'
        return joined(encoded(blocks, coding))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is known once the storage was asked: status, headers, and blocks."""

    status: int
    headers: Mapping[str, str]
    blocks: Iterator[Block]


class ObjectDownload(Download):
    """A Download of which nothing is known before there is a place for it."""

    def __init__(self, gate: Gate, prepare: Callable[[], Answer]) -> None:
        """`prepare` asks the storage, in a thread of the gate."""
        super().__init__(gate, lambda: iter(()))
        self._prepare = prepare

    def _begin(self) -> Generator[bytes, None, None]:
        answer = self._prepare()
        self.status_code = answer.status
        self.headers.update(answer.headers)
        return joined(answer.blocks)


def _resumed(first: bytes, blocks: Iterator[bytes]) -> Generator[bytes, None, None]:
    yield first
    yield from blocks


async def _disconnected(receive: Receive) -> None:
    with contextlib.suppress(HTTPException, RequestError):  # nobody asked for a body
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
