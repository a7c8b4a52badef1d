"""Objects of the store by key, behind rules: what the library's `http` backend speaks to.

Implements the wire of docs/reference/protocol.md. Neighbours: `outgoing` and `incoming`, which have
the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from chunkstore import __version__
from chunkstore.backends.base import CreateOnly, PutMode, ReplaceIf, check_key
from chunkstore.errors import ConditionFailedError, InvalidInputError, RefusedError
from chunkstore.ids import parse_id
from chunkstore.layout import check_name
from chunkstore_api.callers import Caller, caller_of
from chunkstore_api.conditions import ByteRange, wanted_range
from chunkstore_api.context import Context, Served
from chunkstore_api.downloads import Answer, ObjectDownload
from chunkstore_api.keys import LONGEST
from chunkstore_api.openapi import BYTES
from chunkstore_api.outgoing import Part
from chunkstore_api.problems import RequestError
from chunkstore_api.schemas import (
    ChunkIds,
    Keys,
    MissingChunks,
    ObjectDocument,
    ObjectsPage,
    ServerDocument,
    UploadBody,
    UploadDocument,
)
from chunkstore_api.spool import spooled
from chunkstore_api.tokens import Right

router = APIRouter(tags=["objects"])

PROTOCOL: Final = 1

Result = TypeVar("Result")


def _deleter(request: Request) -> Caller:
    caller = caller_of(request)
    caller.require_wide(Right.ADMIN)
    return caller


def _writer(request: Request) -> Caller:
    caller = caller_of(request)
    caller.require(Right.WRITE)
    return caller


Asking = Annotated[Caller, Depends(caller_of)]
Writing = Annotated[Caller, Depends(_writer)]
Deleting = Annotated[Caller, Depends(_deleter)]
Key = Annotated[str, Path(description="the key of an object", examples=["config"])]

OBJECT: Final = "/v1/objects/{key:file}"
_VERSION: Final = re.compile(r'"([\x21\x23-\x7e]+)"')


def _headers_of(*names: str) -> list[dict[str, Any]]:
    """Return what OpenAPI says of headers of requests."""
    return [
        {"name": name, "in": "header", "description": _HEADERS[name], "schema": {"type": "string"}}
        for name in names
    ]


_HEADERS: Final = {
    "If-None-Match": "`*`: no object may have the key",
    "If-Match": "the version that is to be replaced, in quotes",
    "Range": "`bytes=A-B`, `bytes=A-` or `bytes=-N`",
    "Chunkstore-Dataset": "datasets by virtue of which a caller of some reads and sends",
    "Chunkstore-Direct": "`1`: a range of a pack may come from the storage, by 307",
}
_READING: Final = {"parameters": _headers_of("Chunkstore-Dataset")}
_RANGED: Final = {"parameters": _headers_of("Range", "Chunkstore-Dataset", "Chunkstore-Direct")}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": BYTES},
    },
    "parameters": _headers_of("If-None-Match", "If-Match", "Chunkstore-Dataset"),
}
_BYTES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "the object", "content": {"application/octet-stream": BYTES}},
    206: {"description": "the range", "content": {"application/octet-stream": BYTES}},
    307: {"description": "where the storage gives the range"},
}


@router.get("/v1/server")
def describe_server(served: Served, caller: Asking) -> ServerDocument:
    """Say what the caller may, and what the server can."""
    return ServerDocument(
        protocol=PROTOCOL,
        server=f"chunkstore {__version__}",
        right=caller.right.value,
        everywhere=caller.wide,
        datasets=list(caller.token.datasets) if caller.token else ["*"],
        direct=served.settings.direct,
        longest={kind.name.lower(): length for kind, length in LONGEST.items()},
    )


async def _asked(served: Context, function: Callable[[], Result]) -> Result:
    """Call what may ask the storage often, once there is a place for a transfer out."""
    async with served.downloads.place():
        return await served.downloads.run(function)


@router.get("/v1/objects", openapi_extra=_READING)
async def list_objects(
    served: Served,
    caller: Asking,
    prefix: Annotated[str, Query(description="empty, or with a slash at its end")] = "",
    after: Annotated[str, Query(description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="the most that one page has")] = 1000,
) -> ObjectsPage:
    """List objects by key."""
    if prefix and not prefix.endswith("/"):
        raise InvalidInputError(f"not a prefix: {prefix!r}", hint="a prefix ends with a slash")
    for given in (prefix.removesuffix("/"), after):
        if given:
            check_key(given)
    found, following = await _asked(
        served, lambda: served.guarded.outgoing.list(caller, prefix, after, limit)
    )
    return ObjectsPage(
        objects=[
            ObjectDocument(
                key=info.key, length=info.length, version=info.version, modified=info.modified
            )
            for info in found
        ],
        next=following,
    )


@router.head(
    OBJECT,
    operation_id="head_object",
    response_class=Response,
    responses={200: {"description": "it is there", "content": {"application/octet-stream": {}}}},
    openapi_extra=_READING,
)
async def head_object(served: Served, caller: Asking, key: Key) -> Response:
    """Say how long an object is, and its version."""
    check_key(key)
    info = await _asked(served, lambda: served.guarded.outgoing.head(caller, key))
    headers = _describe(info.version)
    headers["Content-Length"] = str(info.length)
    headers["Chunkstore-Modified"] = f"{info.modified:.6f}"
    headers["Last-Modified"] = formatdate(info.modified, usegmt=True)
    return Response(headers=headers, media_type="application/octet-stream")


@router.get(
    OBJECT,
    operation_id="get_object",
    response_class=Response,
    responses=_BYTES,
    openapi_extra=_RANGED,
)
async def get_object(
    request: Request,
    served: Served,
    caller: Asking,
    key: Key,
) -> Response:
    """Send an object, or one range of it."""
    check_key(key)
    wanted = wanted_range(request.headers.get("range"))

    if served.settings.direct and request.headers.get("chunkstore-direct") == "1":
        found = await _asked(
            served, lambda: served.guarded.outgoing.direct_get(caller, key, wanted)
        )
        if found is not None:
            headers = {**_describe(key.rpartition("/")[2]), "Location": found.url}
            return Response(status_code=307, headers=headers)

    def prepare() -> Answer:
        part = served.guarded.outgoing.get(caller, key, wanted)
        return Answer(
            206 if wanted else 200, _headers(part, ranged=wanted is not None), part.blocks
        )

    return ObjectDownload(served.downloads, prepare)


@router.put(
    OBJECT,
    operation_id="put_object",
    status_code=201,
    response_class=Response,
    responses={200: {"description": "replaced, or it was there already"}},
    openapi_extra=_BODY,
)
async def put_object(request: Request, served: Served, caller: Asking, key: Key) -> Response:
    """Store an object of which the server has seen that it is what its kind demands."""
    kind = served.guarded.incoming.check_put(caller, check_key(key))
    mode = _mode(request, key)
    try:
        version, new = await spooled(
            request,
            served,
            LONGEST[kind],
            lambda body: served.guarded.incoming.put(caller, key, mode, body),
        )
    except ConditionFailedError as error:
        raise RequestError(412, error.code, error.message) from error
    return Response(status_code=201 if new else 200, headers=_describe(version))


@router.post("/v1/objects:delete", status_code=204)
def delete_objects(served: Served, caller: Deleting, body: Keys) -> None:
    """Delete objects; those that are not there are fine."""
    for key in body.keys:
        check_key(key)
    served.guarded.incoming.delete(caller, body.keys)


@router.post("/v1/uploads")
def permit_upload(served: Served, caller: Writing, body: UploadBody) -> UploadDocument:
    """Say how a new pack is put straight into the storage, by whoever has this answer."""
    key = check_key(body.key)
    found = None
    if served.settings.direct:
        found = served.guarded.incoming.direct_put(caller, key, body.length, body.sha256)
    if found is None:
        raise RefusedError("this server takes packs itself", hint=f"PUT /v1/objects/{key}")
    return UploadDocument(url=found.url, headers=dict(found.headers), expires=found.expires)


@router.post("/v1/chunks:missing")
async def missing_chunks(served: Served, caller: Writing, body: ChunkIds) -> MissingChunks:
    """Say which chunks a push of a dataset has to send: those that it cannot refer to."""
    joined = b"".join(parse_id(text) for text in body.ids)
    dataset = check_name(body.dataset, "dataset")
    missing = await _asked(served, lambda: served.guarded.outgoing.missing(caller, dataset, joined))
    return MissingChunks(missing=[i for i, lacks in zip(body.ids, missing, strict=True) if lacks])


def _describe(version: str) -> dict[str, str]:
    return {"ETag": f'"{version}"', "Accept-Ranges": "bytes", "Cache-Control": "no-store"}


def _headers(part: Part, *, ranged: bool) -> dict[str, str]:
    headers = _describe(part.version)
    headers["Content-Type"] = "application/octet-stream"
    headers["Content-Length"] = str(part.end - part.start)
    if ranged:
        headers["Content-Range"] = ByteRange(part.start, part.end).content_range(part.total)
    return headers


def _mode(request: Request, key: str) -> PutMode:
    """Return the condition under which an object is to be put.

    Raises:
        RequestError: 428, there is none, or not one of the two.
    """
    fresh, replaced = request.headers.get("if-none-match"), request.headers.get("if-match")
    if fresh is not None and fresh.strip() == "*" and replaced is None:
        return CreateOnly()
    match = _VERSION.fullmatch((replaced or "").strip())
    if match is None or fresh is not None:
        raise RequestError(
            428,
            "precondition_required",
            f"a PUT of {key} says what it relies on",
            hint='send If-None-Match: *, or If-Match: "VERSION"',
        )
    return ReplaceIf(match[1])
