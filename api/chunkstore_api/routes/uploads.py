"""What comes in: one file into a dataset, or a tar archive as a new version."""

from __future__ import annotations

from typing import IO, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from chunkstore.errors import RefusedError
from chunkstore.values import PushResult
from chunkstore_api.context import WRITE, Context, Served
from chunkstore_api.names import url_part
from chunkstore_api.openapi import BYTES
from chunkstore_api.routes.files import FILE, FilePath, Name, VersionName
from chunkstore_api.schemas import Pushed, pushed
from chunkstore_api.uploads import Received, receive

router = APIRouter(tags=["uploads"])

Message = Annotated[str, Query(description="what to say of the version", max_length=4096)]
Tags = Annotated[list[str], Query(description="names for the version; may be repeated")]
Expect = Annotated[
    str | None, Query(description="the version that must be the latest, `0` for none")
]


def _taking(media_type: str, *, same: str) -> dict[str, Any]:
    """Return what routes that take a body in have in common; `same` says when they give 200."""
    return {
        "dependencies": WRITE,
        "status_code": 201,
        "response_model": Pushed,
        "responses": {200: {"model": Pushed, "description": same}},
        "openapi_extra": {"requestBody": {"required": True, "content": {media_type: BYTES}}},
    }


TAKING_FILE = _taking("application/octet-stream", same="it was there already")
_TAKING_TAR = _taking("application/x-tar", same="nothing differs from the latest version")


@router.put(FILE, operation_id="put_file", **TAKING_FILE)
async def put_file(
    request: Request,
    served: Served,
    name: Name,
    version: VersionName,
    path: FilePath,
    message: Message = "",
    tag: Tags = [],  # noqa: B006  # FastAPI copies it
    expect: Expect = None,
) -> Response:
    """Put a file into the latest version, which gives the next one; the other files stay."""
    if version != "latest":
        raise RefusedError(
            f"version {version!r} does not change", hint="put the file into 'latest'"
        )
    return await take_file(request, served, name, path, message=message, tags=tag, expect=expect)


async def take_file(
    request: Request,
    served: Context,
    dataset: str,
    path: str,
    *,
    message: str = "",
    tags: list[str] | None = None,
    expect: str | None = None,
) -> Response:
    """Put the body of a request at a path of a dataset, and return the answer."""

    def push(stream: IO[bytes]) -> PushResult:
        return served.store.push(
            stream,
            dataset,
            name=path,
            message=message,
            tags=tags or (),
            expect=expect,
            keep=True,
        )

    received = await receive(request, served, push)
    answer = _answer(received, path)
    number = received.result.version
    answer.headers["ETag"] = f'"{received.file_hash.hex()}"'
    answer.headers["Location"] = (
        f"/v1/datasets/{url_part(dataset)}/versions/{number}/files/{url_part(path, slashes=True)}"
    )
    return answer


@router.post("/v1/datasets/{name:dataset}/versions", operation_id="post_version", **_TAKING_TAR)
@router.put(
    "/v1/datasets/{name:dataset}/versions/latest/archive.tar",
    operation_id="put_archive",
    **_TAKING_TAR,
)
async def take_archive(
    request: Request,
    served: Served,
    name: Name,
    message: Message = "",
    tag: Tags = [],  # noqa: B006  # FastAPI copies it
    expect: Expect = None,
) -> Response:
    """Make the next version of what a tar archive holds, and nothing else."""

    def push(stream: IO[bytes]) -> PushResult:
        return served.store.push(stream, name, tar=True, message=message, tags=tag, expect=expect)

    received = await receive(request, served, push)
    answer = _answer(received, None)
    answer.headers["Location"] = f"/v1/datasets/{url_part(name)}/versions/{received.result.version}"
    return answer


def _answer(received: Received, path: str | None) -> Response:
    status = 200 if received.result.unchanged else 201
    document = pushed(received.result, path, received.size, received.file_hash)
    return JSONResponse(document.model_dump(exclude_none=True), status)
