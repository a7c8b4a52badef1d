"""The body of a request in a temporary file, to be looked at before anything is done with it.

Neighbours: `body` gives the bytes, `uploads` takes bodies that become versions.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import mmap
import tempfile
from collections.abc import Callable
from typing import IO, Final, TypeVar

from blake3 import blake3
from fastapi import Request

from chunkstore_api.body import Body
from chunkstore_api.bounds import lift
from chunkstore_api.context import Context
from chunkstore_api.digests import too_large
from chunkstore_api.incoming import Spooled
from chunkstore_api.problems import RequestError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_BLOCK: Final = 1024 * 1024


async def spooled(
    request: Request, served: Context, longest: int, work: Callable[[Spooled], Result]
) -> Result:
    """Have `work` look at the body of a request in a thread, once there is a place for it.

    Raises:
        RequestError: the body is not what the request says, too long, too slow or cut off.
        ChunkstoreError: what `work` raises.
    """
    asked = request.headers
    stated = asked.get("content-length", "")
    if stated.isdecimal() and int(stated) > longest:
        raise too_large(longest)
    for name in ("content-encoding", "content-range"):
        if name in asked:
            raise RequestError(400, "invalid_input", f"an object is sent without {name}")
    lift(request)
    async with served.uploads.place():
        body = Body(served.settings.limits.idle)
        filling = asyncio.create_task(body.fill(request.receive))
        try:
            return await served.uploads.run(functools.partial(_take, body, longest, work))
        finally:
            filling.cancel()
            body.end(RequestError(503, "busy", "the server ends"))


def _take(body: Body, longest: int, work: Callable[[Spooled], Result]) -> Result:
    with _temporary() as file:
        hasher = blake3()
        length = 0
        while block := body.read(_BLOCK):
            length += len(block)
            if length > longest:
                raise too_large(longest)
            hasher.update(block)
            _write(file, block)
        if not length:
            return work(Spooled(memoryview(b""), hasher.digest()))
        # Not closed by hand: an exception on its way may still hold a view of it.
        mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
        return work(Spooled(memoryview(mapped), hasher.digest()))


def _temporary() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix="chunkstore-", buffering=0)
    except OSError as error:
        raise _no_room(error) from error


def _write(file: IO[bytes], block: bytes) -> None:
    try:
        left = memoryview(block)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> RequestError:
    log.error("cannot keep a body in %s: %s", tempfile.gettempdir(), error)
    return RequestError(
        503,
        "unavailable",
        "the server has no room for the body",
        hint="try again, or tell who runs it",
        headers={"Retry-After": "60"},
    )
