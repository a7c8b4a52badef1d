"""A request's body becomes a version: taken in, decoded, checked, pushed, told.

What the digests and the framing of the body say is known before the push commits; where they do
not hold, reading the body raises, and so nothing is visible of it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, cast

from fastapi import Request

from chunkstore.values import PushResult
from chunkstore_api.body import Body
from chunkstore_api.bounds import lift
from chunkstore_api.codings import decoded
from chunkstore_api.context import Context
from chunkstore_api.digests import Checked, Measured, parse_digests, too_large
from chunkstore_api.problems import RequestError


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a body.

    Attributes:
        result: of the push.
        size: bytes of the body, decoded.
        file_hash: their BLAKE3-256.
    """

    result: PushResult
    size: int
    file_hash: bytes


async def receive(
    request: Request, served: Context, push: Callable[[IO[bytes]], PushResult]
) -> Received:
    """Have `push` read the body of a request in a thread, once there is a place for it.

    Raises:
        RequestError: the body is not what the request says, too long, too slow or cut off.
        ChunkstoreError: what the push raises.
    """
    limits = served.settings.limits
    asked = request.headers
    if int(asked.get("content-length", "0")) > limits.upload_size:
        raise too_large(limits.upload_size)
    if "content-range" in asked:
        raise RequestError(
            400, "invalid_input", "a part of a file cannot be put", hint="send the whole file"
        )
    lift(request)
    async with served.uploads.place():
        body = Body(limits.idle)
        measured = _measured(request, body, limits.upload_size)
        filling = asyncio.create_task(body.fill(request.receive))
        try:
            stream = cast("IO[bytes]", measured)  # a push calls nothing but read
            result = await served.uploads.run(functools.partial(push, stream))
        finally:
            filling.cancel()
            body.end(RequestError(503, "busy", "the server ends"))
    return Received(result, measured.size, measured.file_hash)


def _measured(request: Request, body: Body, bound: int) -> Measured:
    asked = request.headers
    sent = parse_digests("Content-Digest", asked.get("content-digest"))
    whole = parse_digests("Repr-Digest", asked.get("repr-digest"))
    plain = parse_digests("Unencoded-Digest", asked.get("unencoded-digest"))
    checked = Checked(Checked(body, "Content-Digest", sent), "Repr-Digest", whole)
    content = decoded(checked, asked.get("content-encoding"))
    return Measured(content, "Unencoded-Digest", plain, bound)
