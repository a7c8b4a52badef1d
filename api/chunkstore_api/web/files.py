"""Pages of what a version has: its folders, its files with previews, and their downloads."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from chunkstore.address import Address
from chunkstore.format.manifest import EntryKind
from chunkstore.values import Version
from chunkstore_api.context import READ, Context, Served
from chunkstore_api.names import url_part
from chunkstore_api.parquet import first_rows
from chunkstore_api.routes.archives import Below, Kind, get_archive
from chunkstore_api.routes.files import FilePath, Name, VersionName, send_file
from chunkstore_api.web.previews import HEAD, looks_like_parquet, preview_of, preview_of_rows
from chunkstore_api.web.rendering import page, server_of
from chunkstore_api.web.texts import curl_command, pull_command
from chunkstore_api.web.urls import VERSION, Urls

router = APIRouter(include_in_schema=False)

SHOWN: Final = 300
"""Rows of a page."""

_SENDING: Final[dict[str, Any]] = {"methods": ["GET", "HEAD"], "dependencies": READ}
"""Of routes whose HEAD reads nothing."""
Begin = Annotated[str, Query(max_length=4097, description="the name that the page begins with")]
Shown = Annotated[str, Query(max_length=10, description="`text` for a table as text")]


@router.get(VERSION + "/files/{path:file}", dependencies=READ)
def file_page(
    request: Request,
    served: Served,
    name: Name,
    version: VersionName,
    path: FilePath,
    shown: Shown = "",
) -> Response:
    """Show a file or link: what it is, its first bytes, how to get it."""
    found, where = _pinned(served, name, version, path)
    entry, content = next(served.store.contents(where))
    urls = Urls(request.scope["raw_path"])
    if entry.path != where.path:
        return RedirectResponse(urls.folder(name, found.number, where.path), 303)
    preview = None
    if content is not None:
        head = content.read(0, min(content.size, HEAD))
        preview = preview_of(entry.path, head, content.size, shown)
        if preview.kind == "bytes" and looks_like_parquet(head):
            rows = first_rows(content)
            preview = preview if rows is None else preview_of_rows(rows)
    api = f"{server_of(request)}/v1/datasets/{url_part(name)}/versions/{found.number}/files"
    fetch = curl_command(
        f"{api}/{url_part(entry.path, slashes=True)}", token=served.tokens is not None
    )
    return page(
        request.scope,
        "file.html",
        version=found,
        path=entry.path,
        entry=entry,
        preview=preview,
        head=HEAD,
        commands=[
            pull_command(server_of(request), name, found.number, entry.path),
            *([fetch] if content else []),
        ],
    )


@router.api_route(VERSION + "/download/{path:file}", **_SENDING)
def download(
    request: Request, served: Served, name: Name, version: VersionName, path: FilePath
) -> Response:
    """Send a file, as the API does; a browser saves it, or shows it as an image of a page."""
    return _only_here(send_file(request, served, Address(name, version, path.strip("/"))))


@router.api_route(VERSION + "/archive.{kind}", **_SENDING)
def archive(
    request: Request,
    served: Served,
    name: Name,
    version: VersionName,
    kind: Kind,
    path: Below = "",
) -> Response:
    """Send a version or a folder of it, as the API does."""
    return _only_here(get_archive(request, served, name, version, kind, path))


@router.get(VERSION + "/folders/{path:file}", dependencies=READ)
def folder_page(
    request: Request,
    served: Served,
    name: Name,
    version: VersionName,
    path: FilePath,
    begin: Begin = "",
) -> Response:
    """Show what stands in a folder of a version."""
    return _folder(request, *_pinned(served, name, version, path), begin=begin, served=served)


@router.get(VERSION, dependencies=READ)
def version_page(
    request: Request, served: Served, name: Name, version: VersionName, begin: Begin = ""
) -> Response:
    """Show what a version is, and what stands at its top."""
    return _folder(request, *_pinned(served, name, version, ""), begin=begin, served=served)


def _folder(
    request: Request, version: Version, where: Address, *, begin: str, served: Context
) -> Response:
    name, number, path = version.dataset, version.number, where.path
    below = f"{path}/" if path else ""
    start = f"{below}{begin}" if begin else ""
    items = list(itertools.islice(served.store.folder(where, start=start), SHOWN + 1))
    if path and items and items[0].path == path:
        return RedirectResponse(Urls(request.scope["raw_path"]).file(name, number, path), 303)
    return page(
        request.scope,
        "folder.html",
        version=version,
        path=path,
        below=below,
        items=items[:SHOWN],
        begin=begin,
        following=items[SHOWN].path[len(below) :] if len(items) > SHOWN else None,
        previous=None if path else _previous(served, version),
        kinds=EntryKind,
        commands=[pull_command(server_of(request), name, number, path)],
    )


def _pinned(served: Context, name: str, version: str, path: str) -> tuple[Version, Address]:
    """Return a version, and an address that stays the same when `latest` moves on."""
    found = served.store.version(Address(name, version))
    return found, Address(name, str(found.number), path.strip("/"))


def _previous(served: Context, version: Version) -> int | None:
    """Return the number of the version before, None where there is none."""
    versions = served.store.dataset(version.dataset).versions
    return max((each.number for each in versions if each.number < version.number), default=None)


def _only_here(answer: Response) -> Response:
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return answer
