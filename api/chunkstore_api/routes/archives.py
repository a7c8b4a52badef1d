"""A version, or a folder of it, as one tar or zip stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from chunkstore.address import Address
from chunkstore.format.manifest import Entry
from chunkstore.stream import FileContent
from chunkstore.tar_writer import tar_blocks
from chunkstore_api.codings import preferred
from chunkstore_api.context import READ, Served
from chunkstore_api.downloads import Coded, Download
from chunkstore_api.names import content_disposition
from chunkstore_api.openapi import BYTES
from chunkstore_api.problems import RequestError
from chunkstore_api.routes.files import Name, VersionName
from chunkstore_api.zips import zip_blocks

router = APIRouter(tags=["archives"])

Contents = Iterator[tuple[Entry, FileContent | None]]
Kind = Annotated[Literal["tar", "zip"], Path(description="`tar` or `zip`")]
Below = Annotated[str, Query(description="a folder or file of the version; all of it without")]
ARCHIVE = "/v1/datasets/{name:dataset}/versions/{version:version}/archive.{kind}"
_TYPES = {"tar": "application/x-tar", "zip": "application/zip"}


_SENDING: dict[str, Any] = {
    "dependencies": READ,
    "response_class": Response,
    "responses": {
        200: {"description": "the archive", "content": dict.fromkeys(_TYPES.values(), BYTES)}
    },
}


@router.head(ARCHIVE, operation_id="head_archive", **_SENDING)
@router.get(ARCHIVE, operation_id="get_archive", **_SENDING)
def get_archive(
    request: Request,
    served: Served,
    name: Name,
    version: VersionName,
    kind: Kind,
    path: Below = "",
) -> Response:
    """Send a version or a folder of it as an archive, every byte verified, nothing staged."""
    found = served.store.version(Address(name, version))
    where = Address(name, str(found.number), path.strip("/"))
    contents = served.store.contents(where)
    first = list(itertools.islice(contents, 1))  # what is not there is a 404
    if kind == "zip" and found.files > served.settings.limits.members:
        raise RequestError(
            413, "too_large", f"a zip of {found.files} files takes memory", hint="fetch a tar"
        )
    base = f"{name.rsplit('/', 1)[-1]}-{found.number}"
    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(f"{base}.{kind}"),
        "Content-Type": _TYPES[kind],
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if request.method == "HEAD":
        described = Response(headers=headers)
        del described.headers["content-length"]  # that of nothing
        return described
    make = tar_blocks if kind == "tar" else zip_blocks
    return Download(
        served.downloads,
        lambda: make(itertools.chain(first, contents)),
        headers=headers,
        coded=Coded(preferred(request.headers.get("accept-encoding"))),
    )
