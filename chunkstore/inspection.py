"""What only looks at a store: differences, sizes, the findings of `doctor`.

Neighbour: `store`, which offers these to callers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeAlias

from chunkstore import layout
from chunkstore.entries import page_of
from chunkstore.errors import NotFoundError
from chunkstore.events import Event, Item, ProgressCallback
from chunkstore.format.manifest import Entry, Manifest
from chunkstore.format.ref import DroppedVersion, Ref, VersionRecord
from chunkstore.objects import Objects, StoredRef
from chunkstore.reader import Reader
from chunkstore.refs import Refs, near, resolve
from chunkstore.savings import Savings
from chunkstore.values import (
    Change,
    DatasetStat,
    PushResult,
    StatusResult,
    StoreStat,
    Version,
    VersionStat,
)

Counter: TypeAlias = Callable[[int], None]
Edit: TypeAlias = Callable[[Ref], Ref]


class StatusWatch:
    """Collects what a dry push says of each path, passing everything on."""

    def __init__(self, progress: ProgressCallback) -> None:
        self._progress = progress
        self._changes: list[tuple[str, str, int]] = []

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Item) and event.action != "left out":
            self._changes.append((event.action, event.path, event.size))
        self._progress(event)

    def result(self, stored: StoredRef | None, against: str, push: PushResult) -> StatusResult:
        """Return the status of what `push` would have done to the version `against`."""
        version = None
        if stored is not None and stored.ref.versions:
            version = version_of(stored.ref, resolve(stored.ref, against))
        changes = sorted(self._changes, key=lambda change: change[1].encode())
        return StatusResult(
            version=version, changes=tuple(changes), stats=push.stats, left_out=push.left_out
        )


def diff(reader: Reader, before: Manifest, after: Manifest, *, start: str = "") -> Iterator[Change]:
    """Yield what differs, by path, from `start` on. Pages that both have are not even read."""
    shared: set[bytes] = {page.page_id for page in before.pages}
    shared &= {page.page_id for page in after.pages}
    old = _entries_outside(reader, before, shared, start)
    new = _entries_outside(reader, after, shared, start)
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.path.encode() < right.path.encode()):
            assert left is not None
            yield Change(path=left.path, before=left, after=None)
            left = next(old, None)
        elif left is None or right.path.encode() < left.path.encode():
            yield Change(path=right.path, before=None, after=right)
            right = next(new, None)
        else:
            if not left.same_content(right):
                yield Change(path=left.path, before=left, after=right)
            left, right = next(old, None), next(new, None)


def _entries_outside(
    reader: Reader, manifest: Manifest, shared: set[bytes], start: str
) -> Iterator[Entry]:
    bound = start.encode("utf-8", "surrogatepass")
    for number in range(page_of(manifest, start), len(manifest.pages)):
        if manifest.pages[number].page_id not in shared:
            for entry in reader.page(manifest, number):
                if entry.path.encode() >= bound:
                    yield entry


def version_of(ref: Ref, record: VersionRecord) -> Version:
    """Return the value that callers get of a version."""
    latest = ("latest",) if record == ref.versions[-1] else ()
    tags = tuple(name for name, number in ref.tags if number == record.number)
    return _version(ref.dataset, record, latest + tags)


def dropped_version_of(dataset: str, dropped: DroppedVersion) -> Version:
    """Return the value that callers get of a dropped version, with the tags it had."""
    return _version(dataset, dropped.record, dropped.tags)


def _version(dataset: str, record: VersionRecord, tags: tuple[str, ...]) -> Version:
    return Version(
        dataset=dataset,
        number=record.number,
        manifest_id=record.manifest_id,
        created_ns=record.created_ns,
        message=record.message,
        files=record.files,
        size=record.size,
        new_bytes=record.new_bytes,
        stored_bytes=record.stored_bytes,
        tags=tags,
    )


def without_tag(ref: Ref, name: str) -> Ref:
    """Return `ref` without a tag.

    Raises:
        NotFoundError: it has no such tag.
    """
    tags = dict(ref.tags)
    if tags.pop(name, None) is None:
        hint = near(name, tags) or f"tags: {', '.join(tags) or 'none'}"
        raise NotFoundError(f"dataset {ref.dataset!r} has no tag {name!r}", hint=hint)
    return dataclasses.replace(ref, tags=tuple(sorted(tags.items())))


def store_stat(objects: Objects, refs: Refs, savings: Savings, *, by_kind: bool) -> StoreStat:
    """Return the sizes of the whole store, with `by_kind` those of all versions by kind too."""
    names = refs.names()
    versions, total = 0, 0
    for name in names:
        stored = refs.get(name)
        for record in stored.ref.versions if stored else ():
            versions += 1
            total += record.size
            if by_kind:
                savings.add(objects.get_manifest(record.manifest_id))
    packs = [length for _, length in objects.list_packs()]
    segments = objects.list_segments()
    metadata = sum(
        info.length
        for prefix in (layout.MANIFESTS, layout.REFS)
        for info in objects.backend.list(prefix)
    )
    chunks, unique = savings.index.totals()
    return StoreStat(
        datasets=len(names),
        versions=versions,
        total_size=total,
        chunks=chunks,
        unique_bytes=unique,
        packs=len(packs),
        pack_bytes=sum(packs),
        index_segments=len(segments),
        index_bytes=sum(segments.values()),
        metadata_bytes=metadata,
        kinds=savings.kinds(),
    )


def dataset_stat(ref: Ref, objects: Objects, savings: Savings) -> DatasetStat:
    """Return the sizes of one dataset."""
    for record in ref.versions:
        savings.add(objects.get_manifest(record.manifest_id))
    kinds = savings.kinds()
    latest = ref.versions[-1]
    return DatasetStat(
        name=ref.dataset,
        versions=len(ref.versions),
        files=latest.files,
        size=latest.size,
        total_size=sum(record.size for record in ref.versions),
        unique_bytes=sum(kind.unique_bytes for kind in kinds),
        stored_bytes=sum(kind.stored_bytes for kind in kinds),
        kinds=kinds,
    )


def version_stat(
    ref: Ref, record: VersionRecord, objects: Objects, savings: Savings
) -> VersionStat:
    """Return the sizes of one version."""
    savings.add(objects.get_manifest(record.manifest_id))
    kinds = savings.kinds()
    return VersionStat(
        version=version_of(ref, record),
        unique_bytes=sum(kind.unique_bytes for kind in kinds),
        stored_bytes=sum(kind.stored_bytes for kind in kinds),
        kinds=kinds,
    )
