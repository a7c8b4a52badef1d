"""The library's values as JSON documents, with the keys of the command line; and their examples.

Ids are whole, sizes in bytes, times RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field

from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.values import (
    Change,
    DatasetStat,
    KindStat,
    PushResult,
    StoreStat,
    Version,
    VersionStat,
)

_ID = "3f9a0b12cd34e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e"

Id: TypeAlias = Annotated[str, Field(examples=[_ID])]
DatasetName: TypeAlias = Annotated[str, Field(examples=["imagenet"])]
Number: TypeAlias = Annotated[int, Field(examples=[3])]
Size: TypeAlias = Annotated[int, Field(examples=[1048576], description="bytes")]
Time: TypeAlias = Annotated[str, Field(examples=["2026-01-02T03:04:05.678901Z"])]
Path: TypeAlias = Annotated[str, Field(examples=["train/a.bin"])]


class Problem(BaseModel):
    """RFC 9457: what went wrong."""

    type: str = "about:blank"
    title: Annotated[str, Field(examples=["Not Found"])]
    status: Annotated[int, Field(examples=[404])]
    detail: Annotated[str, Field(examples=["no dataset 'imagenet'"])]
    code: Annotated[str, Field(examples=["not_found"])]
    hint: Annotated[str | None, Field(examples=["did you mean 'imagenette'?"])] = None


class Pushed(BaseModel):
    """What an upload became."""

    dataset: DatasetName
    version: Number
    manifest: Id
    unchanged: bool
    path: Path | None = None
    size: Size
    hash: Id
    new_files: int
    new_bytes: Size
    stored_bytes: Size


class VersionDocument(BaseModel):
    """One version."""

    dataset: DatasetName
    version: Number
    manifest: Id
    created: Time
    message: str
    files: int
    size: Size
    new_bytes: Size
    stored_bytes: Size
    tags: Annotated[list[str], Field(examples=[["latest", "v2"]])]


class EntryDocument(BaseModel):
    """One path of a version; `size`, `modified`, `executable` and `hash` of files only."""

    path: Path
    kind: Annotated[str, Field(examples=["file"])]
    size: Size | None = None
    modified: Time | None = None
    executable: bool | None = None
    hash: Id | None = None
    target: str | None = None


class Names(BaseModel):
    """A page of names of datasets."""

    datasets: Annotated[list[str], Field(examples=[["imagenet", "team/run-42"]])]
    next: Annotated[str | None, Field(description="`after` of the next page")] = None


class Versions(BaseModel):
    """A page of versions, the newest first."""

    dataset: DatasetName
    versions: list[VersionDocument]
    next: Annotated[int | None, Field(description="`before` of the next page")] = None


class Entries(BaseModel):
    """A page of what a version has at and below a path, by path."""

    dataset: DatasetName
    version: Number
    manifest: Id
    entries: list[EntryDocument]
    next: Annotated[str | None, Field(description="`after` of the next page")] = None


class ChangeDocument(BaseModel):
    """A path that differs between two versions."""

    path: Path
    change: Annotated[str, Field(examples=["modified"])]
    before: EntryDocument | None = None
    after: EntryDocument | None = None


class Changes(BaseModel):
    """A page of differences, by path."""

    dataset: DatasetName
    before: Number
    after: Number
    changes: list[ChangeDocument]
    next: Annotated[str | None, Field(description="`after` of the next page")] = None


class Kind(BaseModel):
    """Sizes of files of one kind."""

    kind: Annotated[str, Field(examples=[".csv"])]
    files: int
    size: Size
    unique_bytes: Size
    stored_bytes: Size


class DatasetSizes(BaseModel):
    """Sizes of a dataset."""

    dataset: DatasetName
    versions: int
    files: int
    size: Size
    total_size: Size
    unique_bytes: Size
    stored_bytes: Size
    kinds: list[Kind]


class VersionSizes(BaseModel):
    """Sizes of a version."""

    version: VersionDocument
    unique_bytes: Size
    stored_bytes: Size
    kinds: list[Kind]


class StoreSizes(BaseModel):
    """Sizes of the whole store."""

    datasets: int
    versions: int
    total_size: Size
    chunks: int
    unique_bytes: Size
    packs: int
    pack_bytes: Size
    index_segments: int
    index_bytes: Size
    metadata_bytes: Size
    stored_bytes: Size


class TagBody(BaseModel):
    """The version that a tag is to name."""

    version: Annotated[str, Field(examples=["3"], description="number, tag, `latest` or `~N`")]


class Dropped(BaseModel):
    """Versions that were dropped."""

    dataset: DatasetName
    dropped: list[int]


class UndoBody(BaseModel):
    """The dropped versions that are to come back."""

    versions: Annotated[
        list[Number], Field(max_length=1000, description="none means those dropped last, together")
    ] = []


class BroughtBack(BaseModel):
    """Versions that are there again, the oldest first."""

    dataset: DatasetName
    versions: list[VersionDocument]


class ServerDocument(BaseModel):
    """What a caller may, and what the server can."""

    protocol: Annotated[int, Field(examples=[1])]
    server: Annotated[str, Field(examples=["chunkstore 0.1.0"])]
    right: Annotated[str, Field(examples=["write"], description="`read`, `write` or `admin`")]
    everywhere: Annotated[bool, Field(description="whether the caller reaches all datasets")]
    datasets: Annotated[list[str], Field(examples=[["team/*"]], description="patterns of names")]
    direct: Annotated[bool, Field(description="whether packs go past the server, by signed URLs")]
    longest: Annotated[dict[str, int], Field(description="bytes of an object, for each kind")]


class ObjectDocument(BaseModel):
    """An object without its bytes."""

    key: Annotated[str, Field(examples=["refs/imagenet"])]
    length: Size
    version: Annotated[str, Field(description="differs whenever the bytes differ")]
    modified: Annotated[float, Field(description="seconds since 1970, by the storage's clock")]


class ObjectsPage(BaseModel):
    """A page of objects, by key."""

    objects: list[ObjectDocument]
    next: Annotated[str | None, Field(description="`after` of the next page")] = None


class UploadBody(BaseModel):
    """A pack that is to be put straight into the storage."""

    key: Annotated[str, Field(examples=[f"packs/{_ID[:2]}/{_ID}"])]
    length: Annotated[int, Field(examples=[33554432], description="bytes")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=[_ID])]


class UploadDocument(BaseModel):
    """The one request by which it is put."""

    url: str
    headers: Annotated[dict[str, str], Field(description="which the PUT must have")]
    expires: Annotated[int, Field(description="seconds since 1970")]


class ChunkIds(BaseModel):
    """Chunks of files that a push would need."""

    dataset: DatasetName
    ids: Annotated[list[Id], Field(max_length=10_000)]


class MissingChunks(BaseModel):
    """Those of them that have to be sent."""

    missing: list[Id]


class Keys(BaseModel):
    """Keys of objects."""

    keys: Annotated[list[str], Field(max_length=1000, examples=[["gc/condemned/1-x"]])]


class Health(BaseModel):
    """How the server is."""

    status: Annotated[str, Field(examples=["ok"])]


def _time(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds // 1000 / 1_000_000, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def pushed(result: PushResult, path: str | None, size: int, file_hash: bytes) -> Pushed:
    """Return what an upload became; the hash is that of the file or archive."""
    assert result.version is not None
    assert result.manifest_id is not None
    stats = result.stats
    return Pushed(
        dataset=result.dataset,
        version=result.version,
        manifest=result.manifest_id.hex(),
        unchanged=result.unchanged,
        path=path,
        size=size,
        hash=file_hash.hex(),
        new_files=stats.new_files,
        new_bytes=stats.new_bytes,
        stored_bytes=stats.stored_bytes,
    )


def version_document(version: Version) -> VersionDocument:
    """Return all that is known of a version."""
    return VersionDocument(
        dataset=version.dataset,
        version=version.number,
        manifest=version.manifest_id.hex(),
        created=_time(version.created_ns),
        message=version.message,
        files=version.files,
        size=version.size,
        new_bytes=version.new_bytes,
        stored_bytes=version.stored_bytes,
        tags=list(version.tags),
    )


def entry_document(entry: Entry) -> EntryDocument:
    """Return a path of a version."""
    kind = entry.kind.name.lower()
    if entry.kind == EntryKind.LINK:
        return EntryDocument(path=entry.path, kind=kind, target=entry.target)
    if entry.kind == EntryKind.FOLDER:
        return EntryDocument(path=entry.path, kind=kind)
    return EntryDocument(
        path=entry.path,
        kind=kind,
        size=entry.size,
        modified=_time(entry.mtime_ns),
        executable=entry.executable,
        hash=entry.file_hash.hex(),
    )


def change_document(change: Change) -> ChangeDocument:
    """Return a path that differs."""
    return ChangeDocument(
        path=change.path,
        change=change.kind,
        before=entry_document(change.before) if change.before else None,
        after=entry_document(change.after) if change.after else None,
    )


def _kinds(kinds: tuple[KindStat, ...]) -> list[Kind]:
    return [Kind(**_fields(kind)) for kind in kinds]


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def dataset_sizes(stat: DatasetStat) -> DatasetSizes:
    """Return the sizes of a dataset."""
    fields = _fields(stat)
    return DatasetSizes(dataset=fields.pop("name"), **{**fields, "kinds": _kinds(stat.kinds)})


def version_sizes(stat: VersionStat) -> VersionSizes:
    """Return the sizes of a version."""
    return VersionSizes(
        version=version_document(stat.version),
        unique_bytes=stat.unique_bytes,
        stored_bytes=stat.stored_bytes,
        kinds=_kinds(stat.kinds),
    )


def store_sizes(stat: StoreStat) -> StoreSizes:
    """Return the sizes of a store."""
    fields = _fields(stat)
    fields.pop("kinds")
    return StoreSizes(**fields, stored_bytes=stat.stored_bytes)
