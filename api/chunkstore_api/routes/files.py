"""Files of a version: their bytes, ranges of them, and what describes them."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from chunkstore.address import Address
from chunkstore.stream import FileContent
from chunkstore_api import conditions
from chunkstore_api.codings import CODINGS, preferred
from chunkstore_api.context import READ, Context, Served
from chunkstore_api.downloads import Coded, Download
from chunkstore_api.names import content_disposition, media_type
from chunkstore_api.openapi import BYTES
from chunkstore_api.problems import RequestError

router = APIRouter(tags=["files"])

Name = Annotated[str, Path(description="the dataset; `~` for each slash", examples=["imagenet"])]
VersionName = Annotated[str, Path(description="number, tag, `latest`, `~N`", examples=["latest"])]
FilePath = Annotated[str, Path(description="the path in the version", examples=["train/a.bin"])]

FILE = "/v1/datasets/{name:dataset}/versions/{version:version}/files/{path:file}"


SENDING_FILE: Final[dict[str, Any]] = {
    "dependencies": READ,
    "response_class": Response,
    "responses": {
        200: {"description": "the file", "content": {"*/*": BYTES}},
        206: {"description": "the range of it", "content": {"*/*": BYTES}},
        304: {"description": "it still has the tag of If-None-Match"},
    },
}
"""What routes that send a file have in common."""


@router.head(FILE, operation_id="head_file", **SENDING_FILE)
@router.get(FILE, operation_id="get_file", **SENDING_FILE)
def get_file(
    request: Request, served: Served, name: Name, version: VersionName, path: FilePath
) -> Response:
    """Send a file, or one range of it, every byte verified."""
    return send_file(request, served, Address(name, version, path.strip("/")))


def send_file(request: Request, served: Context, where: Address) -> Response:
    """Return the answer that a request for the file at an address gets."""
    content = served.store.file_content(where)
    tag = content.entry.file_hash.hex()
    tags = {tag, *(f"{tag}-{coding}" for coding in CODINGS)}
    asked = request.headers
    headers = _describe(content, tag)
    if "if-match" in asked and not conditions.names_tag(asked["if-match"], tags, weak=False):
        raise RequestError(
            412, "precondition_failed", f"{where} has the ETag {tag}", headers={"ETag": f'"{tag}"'}
        )
    if conditions.names_tag(asked.get("if-none-match"), tags, weak=True):
        return Response(status_code=304, headers=headers)
    part = None
    if request.method == "GET" and conditions.range_still_holds(asked.get("if-range"), tag):
        try:
            part = conditions.parse_range(asked.get("range"), content.size)
        except conditions.UnsatisfiableError:
            raise RequestError(
                416,
                "range_not_satisfiable",
                f"{where} has {content.size} bytes",
                headers={"Content-Range": f"bytes */{content.size}", "ETag": f'"{tag}"'},
            ) from None
    start, end = (part.start, part.end) if part else (0, content.size)
    if part:
        headers["Content-Range"] = part.content_range(content.size)
    headers["Content-Length"] = str(end - start)
    status = 206 if part else 200
    if request.method == "HEAD" or start == end:
        return Response(status_code=status, headers=headers)
    return Download(
        served.downloads,
        lambda: content.blocks(start, end),
        status=status,
        headers=headers,
        coded=None if part else Coded(preferred(asked.get("accept-encoding")), tag),
    )


def _describe(content: FileContent, tag: str) -> dict[str, str]:
    """Return the headers of every answer about a file."""
    digest = base64.b64encode(content.entry.file_hash).decode()
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(content.entry.path),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Content-Type": media_type(content.entry.path),
        "ETag": f'"{tag}"',
        "Repr-Digest": f"blake3=:{digest}:",
        "Unencoded-Digest": f"blake3=:{digest}:",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
