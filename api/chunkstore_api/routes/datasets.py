"""Datasets, versions and tags: what there is, what differs, what it takes; naming and dropping."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from chunkstore.address import Address
from chunkstore.values import Version
from chunkstore_api.context import ADMIN, READ, WRITE, Served, may_see
from chunkstore_api.pages import changes_page, entries_page
from chunkstore_api.routes.files import Name, VersionName
from chunkstore_api.schemas import (
    BroughtBack,
    Changes,
    DatasetSizes,
    Dropped,
    Entries,
    Names,
    StoreSizes,
    TagBody,
    UndoBody,
    VersionDocument,
    Versions,
    VersionSizes,
    dataset_sizes,
    store_sizes,
    version_document,
    version_sizes,
)

router = APIRouter(tags=["datasets"])

DATASET = "/v1/datasets/{name:dataset}"
VERSION = DATASET + "/versions/{version:version}"
Limit = Annotated[int, Query(ge=1, le=1000, description="the most that one page has")]
AfterPath = Annotated[str, Query(description="the last path of the page before")]
TagName = Annotated[str, Path(description="`~` for each slash", examples=["prod"])]
BeforeNumber = Annotated[int | None, Query(description="the last number of the page before")]
BeforeName = Annotated[str, Path(description="number, tag, `latest`, `~N`", examples=["1"])]


# The longer a path, the earlier it stands: a dataset's name may have slashes and takes the rest.


@router.get(VERSION + "/stat", dependencies=READ)
def stat_version(served: Served, name: Name, version: VersionName) -> VersionSizes:
    """Give the sizes of a version; goes through its files and loads the whole index."""
    return version_sizes(served.store.version_stat(Address(name, version)))


@router.get(VERSION + "/entries", dependencies=READ)
def list_entries(
    served: Served,
    name: Name,
    version: VersionName,
    path: Annotated[str, Query(description="only what is at and below this path")] = "",
    after: AfterPath = "",
    limit: Limit = 1000,
) -> Entries:
    """List files, links and empty folders of a version, by path."""
    return entries_page(served.store, Address(name, version, path.strip("/")), limit, after)


@router.get(VERSION + "/diff/{before:version}", dependencies=READ)
def diff(
    served: Served,
    name: Name,
    version: VersionName,
    before: BeforeName,
    after: AfterPath = "",
    limit: Limit = 1000,
) -> Changes:
    """List what differs from another version of the dataset, by path."""
    return changes_page(served.store, Address(name, before), Address(name, version), limit, after)


@router.get(VERSION, dependencies=READ)
def get_version(served: Served, name: Name, version: VersionName) -> VersionDocument:
    """Describe a version."""
    return version_document(served.store.version(Address(name, version)))


@router.delete(VERSION, dependencies=ADMIN)
def drop_version(served: Served, name: Name, version: VersionName) -> Dropped:
    """Drop a version and its tags; `undo` brings them back until a collection reclaims them."""
    number = served.store.version(Address(name, version)).number
    dropped = served.store.remove(name, [number])
    return Dropped(dataset=name, dropped=[each.number for each in dropped])


@router.get(DATASET + "/stat", dependencies=READ)
def stat_dataset(served: Served, name: Name) -> DatasetSizes:
    """Give the sizes of a dataset; goes through all its versions."""
    return dataset_sizes(served.store.dataset_stat(Address(name)))


@router.get(DATASET + "/tags", dependencies=READ)
def list_tags(served: Served, name: Name) -> dict[str, int]:
    """Give the version that each tag names, `latest` among them."""
    found = served.store.dataset(name)
    return {tag: version.number for version in found.versions for tag in version.tags}


@router.put(DATASET + "/tags/{tag:version}", dependencies=WRITE)
def set_tag(served: Served, name: Name, tag: TagName, body: TagBody) -> VersionDocument:
    """Have a tag name a version, wherever it was before."""
    return version_document(served.store.tag(Address(name, body.version), tag))


@router.delete(DATASET + "/tags/{tag:version}", dependencies=WRITE, status_code=204)
def delete_tag(served: Served, name: Name, tag: TagName) -> None:
    """Take a tag away; the version stays."""
    served.store.untag(name, tag)


@router.get(DATASET + "/versions", dependencies=READ)
def list_versions(
    served: Served,
    name: Name,
    before: BeforeNumber = None,
    limit: Limit = 100,
) -> Versions:
    """List the versions of a dataset, the newest first."""
    return _page(name, served.store.dataset(name).versions, before, limit)


@router.get(DATASET + "/dropped", dependencies=READ)
def list_dropped(
    served: Served,
    name: Name,
    before: BeforeNumber = None,
    limit: Limit = 100,
) -> Versions:
    """List the versions that `undo` can bring back, the newest first, with the tags they had."""
    return _page(name, served.store.dropped(name), before, limit)


@router.post(DATASET + "/undo", dependencies=ADMIN)
def undo(served: Served, name: Name, body: UndoBody) -> BroughtBack:
    """Bring dropped versions back, with those of their tags that no other version has by now."""
    back = served.store.undo(name, body.versions)
    return BroughtBack(dataset=name, versions=[version_document(version) for version in back])


def _page(name: str, versions: Sequence[Version], before: int | None, limit: int) -> Versions:
    """Return a page of versions, which come with ascending numbers."""
    found = [v for v in reversed(versions) if before is None or v.number < before]
    return Versions(
        dataset=name,
        versions=[version_document(version) for version in found[:limit]],
        next=found[limit - 1].number if len(found) > limit else None,
    )


@router.get(DATASET, dependencies=READ)
def get_dataset(served: Served, name: Name) -> VersionDocument:
    """Describe the newest version of a dataset."""
    return version_document(served.store.version(Address(name)))


@router.get("/v1/stat", dependencies=READ)
def stat(served: Served) -> StoreSizes:
    """Give the sizes of the whole store; loads the whole index."""
    return store_sizes(served.store.stat())


@router.get("/v1/datasets")  # whoever may see none gets none
def list_datasets(
    request: Request,
    served: Served,
    prefix: Annotated[str, Query(description="only names that begin so")] = "",
    after: Annotated[str, Query(description="the last name of the page before")] = "",
    limit: Limit = 1000,
) -> Names:
    """List the names of the datasets that are there for whoever asks."""
    names = [name for name in served.store.datasets(prefix) if may_see(request, name)]
    names = names[bisect.bisect_right(names, after) if after else 0 :]
    return Names(datasets=names[:limit], next=names[limit - 1] if len(names) > limit else None)
