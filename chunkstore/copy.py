"""Versions of one store become versions of another: only what it lacks goes over, all checked.

A pack most of which is wanted is taken over as it is, which costs no compression; other chunks are
packed anew. It keeps its name, to which hints of manifests lead, in a store that was never
collected: there no name was ever deleted, and a name that was deleted must never come back. So it
is with manifests: copied byte for byte, so that both stores name a version by the same id; with a
nonce of their own in a store that was collected, where a version is known by all else. The commit
is that of a push (W0 to W7 of docs/design/consistency.md). Neighbours: `intake` takes chunks in;
`store` offers it.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore.address import parse_address
from chunkstore.chunk_index import ABSENT, ALL, ChunkIndex
from chunkstore.errors import (
    BackendError,
    ChunkstoreError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    MissingObjectError,
    UnsupportedFormatError,
)
from chunkstore.events import Notice, Progress, ProgressCallback
from chunkstore.findings import CopiedVersion, CopyResult
from chunkstore.format.blob import Blob
from chunkstore.format.gc import IDLE
from chunkstore.format.manifest import Manifest, PackHint, encode_manifest
from chunkstore.format.ref import Ref, VersionRecord
from chunkstore.id_runs import IdSet
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, ManifestId, PackId, content_hash
from chunkstore.intake import Intake, Naming
from chunkstore.place import Place
from chunkstore.refs import Refs, resolve
from chunkstore.spans import Wanted

log = logging.getLogger(__name__)

_WHOLE: Final = 0.8
"""Of which share of its bytes must be wanted for a pack to be copied as it is."""

_ATTEMPTS: Final = 5
_DAMAGED: Final = (IntegrityError, UnsupportedFormatError)
_BATCH: Final = 512
"""Chunks that are read at once."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Versions of a dataset that are copied to a dataset of the other store.

    Attributes:
        ref: the dataset.
        records: the versions, ascending.
        target: the name of the dataset there.
        move_tags: whether tags that lie elsewhere there are moved.
    """

    ref: Ref
    records: Sequence[VersionRecord]
    target: str
    move_tags: bool


def choose(ref: Ref, addresses: Sequence[str], target: str) -> Chosen:
    """Return the versions of a dataset that some addresses of it mean.

    Raises:
        InvalidInputError: an address with a path.
        NotFoundError: one names a version that is not there.
    """
    numbers: set[int] = set()
    whole = False
    for address in addresses:
        where = parse_address(address)
        if where.path:
            raise InvalidInputError(
                f"only whole versions are copied, not {address!r}",
                hint="pull the path, and push it into the other store",
            )
        if "@" in address:
            numbers.add(resolve(ref, where.version).number)
        else:
            whole = True
    records = [record for record in ref.versions if whole or record.number in numbers]
    return Chosen(ref, records, target, move_tags=whole)


@dataclass(slots=True)
class _Counts:
    new_bytes: int = 0
    total_bytes: int = 0
    done_bytes: int = 0
    versions: int = 0
    failed: list[tuple[str, int, str]] = field(default_factory=list)


class Copying:
    """One run of `copy`."""

    def __init__(
        self, source: Place, target: Place, *, dry_run: bool, progress: ProgressCallback
    ) -> None:
        self._source = source
        self._target = target
        self._dry_run = dry_run
        self._progress = progress
        self._reader = source.reader()
        self._refs = Refs(target.objects)
        self._state = IDLE
        self._index = ChunkIndex(target.objects, target.cache)
        self._counts = _Counts()
        self._pages: set[bytes] = set()
        self._named: set[PackId] = set()
        self._would_bring = IdSet(target.folder)
        self._intake: Intake | None = None
        self._sent = self._expected = 0

    def run(self, chosen: Sequence[Chosen]) -> CopyResult:
        """Copy.

        Raises:
            ConflictError: others were first again and again.
            BackendError: one of the storages failed; what went over stays, and the next run goes
                on from there.
        """
        started = time.monotonic()
        self._target.config.check_writable()
        if self._source.config.chunker != self._target.config.chunker:
            text = "the two stores cut files differently: later pushes share nothing with this copy"
            self._progress(Notice(message=text))
        self._load()
        self._expected = sum(len(each.records) for each in chosen)
        copied: list[CopiedVersion] = []
        with self._would_bring:
            for each in chosen:
                for record in each.records:
                    try:
                        copied.append(self._version(each, record))
                    except _DAMAGED as error:
                        self._fail(each.ref.dataset, record.number, error)
                    self._counts.versions += 1
                    self._tell()
        if not self._dry_run:
            self._compact()
        return CopyResult(
            versions=tuple(copied),
            failed=tuple(self._counts.failed),
            new_bytes=self._counts.new_bytes,
            sent_bytes=self._sent,
            seconds=time.monotonic() - started,
        )

    def _fail(self, dataset: str, number: int, error: ChunkstoreError) -> None:
        self._counts.failed.append((dataset, number, error.message))
        self._progress(Notice(message=f"{dataset}@{number} is not copied: {error.message}"))

    def _compact(self) -> None:
        try:
            self._index.compact()
        except (BackendError, IntegrityError) as error:  # as after a push: it can wait
            log.warning("the index was not compacted: %s", error)

    def _load(self) -> None:
        """W0; once more where a collection ended in between, and its list went."""
        while True:
            self._state = self._target.objects.read_gc_state()
            self._pages.clear()
            try:
                self._index.load(self._state, ALL)
            except MissingObjectError:
                if self._target.objects.read_gc_state() == self._state:
                    raise
            else:
                return

    def _absent(self, ids: bytes) -> npt.NDArray[np.bool_]:
        """Return which of the joined ids the view lacks.

        Packs that came under their old names count for nothing once a collection has begun.
        """
        if self._state == IDLE or not self._named:
            packs = self._index.find(ids)
        else:
            packs = self._index.locate(ids, without=frozenset(self._named)).packs
        absent: npt.NDArray[np.bool_] = packs == ABSENT
        return absent

    def _tell(self) -> None:
        counts, sent = self._counts, self._sent + (self._intake.sent_bytes if self._intake else 0)
        self._progress(
            Progress(
                done_bytes=counts.done_bytes,
                total_bytes=counts.total_bytes,
                moved_bytes=sent,
                done_files=counts.versions,
                total_files=self._expected,
            )
        )

    # one version

    def _version(self, chosen: Chosen, record: VersionRecord) -> CopiedVersion:
        manifest = self._reader.manifest(record.manifest_id)
        if manifest.dataset != chosen.target:
            manifest = dataclasses.replace(manifest, dataset=chosen.target)
        named = ManifestId(content_hash([encode_manifest(manifest)]))
        for _ in range(_ATTEMPTS):
            before = self._sent
            stored = self._refs.get(chosen.target)
            versions = stored.ref.versions if stored else ()
            there = self._known(versions, named, record, manifest)
            if there is None:
                self._bring(manifest)
            if self._dry_run:
                return _copied(chosen, record, there, None if there else named)
            done = there
            if there is None:
                if stored is None:
                    self._refs.create_empty(chosen.target)
                try:
                    done = self._commit(chosen, record, manifest, versions, before)
                except _OvertakenError:
                    self._load()
                    continue
            assert done is not None
            self._set_tags(chosen, record, done)
            return _copied(chosen, record, done, None if there else done.manifest_id)
        raise ConflictError(
            f"what {chosen.target!r} needs was removed meanwhile by a collection or 'rm'",
            hint="run the same command again",
        )

    def _known(
        self,
        versions: Sequence[VersionRecord],
        named: ManifestId,
        record: VersionRecord,
        manifest: Manifest,
    ) -> VersionRecord | None:
        """Return the version of the target that is this one, whatever its manifest's nonce."""
        for known in versions:
            if known.manifest_id == named:
                return known
        for known in versions:
            if _alike(known, record):
                try:
                    other = self._target.objects.get_manifest(known.manifest_id)
                except _DAMAGED:
                    continue  # it is, there
                if dataclasses.replace(other, nonce=manifest.nonce) == manifest:
                    return known
        return None

    def _commit(
        self,
        chosen: Chosen,
        record: VersionRecord,
        manifest: Manifest,
        known: Sequence[VersionRecord],
        before: int,
    ) -> VersionRecord:
        """W3 to W7; the version keeps its number where that is free.

        It is none of those that are `known`; `before` is what had been sent before it.
        """
        mine: list[ManifestId] = []
        others = {version.manifest_id for version in known}

        def edit(ref: Ref) -> Ref:
            if any(version.manifest_id in mine for version in ref.versions):
                return ref
            if any(_alike(v, record) and v.manifest_id not in others for v in ref.versions):
                raise _OvertakenError  # another copy may have brought it
            number = max(record.number, ref.next_number)
            new = record._replace(
                number=number, manifest_id=mine[-1], stored_bytes=self._sent - before
            )
            return dataclasses.replace(ref, versions=(*ref.versions, new), next_number=number + 1)

        def guard() -> int:
            return self._guard(manifest, lambda: mine.append(self._put_manifest(manifest)))

        mine.append(self._put_manifest(manifest))
        try:
            ref = self._refs.swap(chosen.target, edit, guard, create=True)
        except MissingObjectError as error:  # a server has looked for more than the view has
            raise _OvertakenError from error
        return next(r for r in reversed(ref.versions) if r.manifest_id in mine)

    def _put_manifest(self, manifest: Manifest) -> ManifestId:
        """W3: store the manifest, under a name that no collection can be about to delete."""
        if self._state != IDLE:
            manifest = dataclasses.replace(manifest, nonce=secrets.token_bytes(16))
        identifier, length = self._target.objects.put_manifest(manifest)
        self._sent += length
        return identifier

    def _guard(self, manifest: Manifest, renew: Callable[[], object]) -> int:
        """W5 and W6: where a collection began meanwhile, every chunk must be in the new view."""
        while (state := self._target.objects.read_gc_state()) != self._state:
            self._state = state
            renew()
            self._index.load(state, ALL)
            for ids in self._reader.every_id(manifest):
                if self._absent(ids).any():
                    raise _OvertakenError
        return state.generation

    def _set_tags(self, chosen: Chosen, record: VersionRecord, there: VersionRecord) -> None:
        names = [name for name, number in chosen.ref.tags if number == record.number]

        def edit(ref: Ref) -> Ref:
            tags = dict(ref.tags)
            for name in names:
                if chosen.move_tags or name not in tags:
                    tags[name] = there.number
            known = {other.number for other in ref.versions}
            if there.number not in known:
                return ref  # dropped by another writer
            return dataclasses.replace(ref, tags=tuple(sorted(tags.items())))

        stored = self._refs.get(chosen.target)
        if stored is not None and edit(stored.ref) != stored.ref:
            self._refs.swap(chosen.target, edit, known=stored)

    # its chunks

    def _bring(self, manifest: Manifest) -> None:
        """Copy what the target lacks of a version, and have it in the index there."""
        with IdSet(self._target.folder) as lacking:
            size = self._lacking(manifest, lacking)
            self._counts.total_bytes += size
            self._counts.new_bytes += size
            self._tell()
            if self._dry_run:
                self._would_bring.update(lacking)
            elif lacking.added:
                self._take_in(manifest, lacking)
        self._pages.update(page.page_id for page in manifest.pages)

    def _take_in(self, manifest: Manifest, lacking: IdSet) -> None:
        intake = Intake(self._target.objects, self._target.config, self._index)
        self._intake = intake
        try:
            with intake:
                self._bring_packs(manifest, lacking)
                self._bring_chunks(manifest, lacking)
                intake.finish()
        finally:  # what came before a version turned out to be damaged was sent too
            self._sent += intake.sent_bytes
            self._intake = None
            self._counts.done_bytes = self._counts.total_bytes

    def _lacking(self, manifest: Manifest, lacking: IdSet) -> int:
        """Find the chunks that the target lacks; return the bytes of files that they stand for."""
        total = 0
        for kind, ids, sizes, _ in self._needs(manifest):
            absent = self._absent(ids)
            if absent.any():
                rows = np.flatnonzero(absent)
                found = np.frombuffer(ids, f"S{ID_SIZE}")[rows]
                _, first = np.unique(found, return_index=True)
                different = found[first].tobytes()
                fresh = ~(lacking.contains(different) | self._would_bring.contains(different))
                lacking.add(found[first][fresh].tobytes())
                if kind == ChunkKind.DATA:
                    total += int(sizes[rows[first][fresh]].sum())
        return total

    def _needs(
        self, manifest: Manifest
    ) -> Iterator[tuple[ChunkKind, bytes, np.ndarray, list[PackHint]]]:
        """Yield all chunks of a version: kind, joined ids, sizes, packs in which they may lie.

        Pages that an earlier version brought are left out.
        """
        for number, page in enumerate(manifest.pages):
            if page.page_id in self._pages:
                continue
            hints = [manifest.packs[pack] for pack in page.packs]
            if page.inline is None:
                yield ChunkKind.PAGE, page.page_id, np.zeros(1, np.int64), hints
            flat: list[Blob] = []
            for entry in self._reader.page(manifest, number):
                if entry.blob.depth:
                    yield from self._blob(entry.blob, hints)
                else:
                    flat.append(entry.blob)
            if flat:
                sizes = np.concatenate([blob.size_array() for blob in flat])
                ids = b"".join(blob.ids for blob in flat)
                if ids:
                    yield ChunkKind.DATA, ids, sizes.astype(np.int64), hints

    def _blob(
        self, blob: Blob, hints: list[PackHint]
    ) -> Iterator[tuple[ChunkKind, bytes, np.ndarray, list[PackHint]]]:
        kind = ChunkKind.LIST if blob.depth else ChunkKind.DATA
        yield kind, blob.ids, blob.size_array().astype(np.int64), hints
        if blob.depth:
            for part in self._reader.children(blob, hints):
                yield from self._blob(part, hints)

    def _bring_packs(self, manifest: Manifest, lacking: IdSet) -> None:
        """Copy packs as they are of which most is lacking."""
        assert self._intake is not None
        packs = self._worthwhile(manifest, lacking)
        naming: Naming = "same" if self._state == IDLE else "new"
        for pack, indexed in self._intake.take_packs(self._source.objects, packs, naming):
            if indexed is not None:
                self._named |= {pack} if naming == "same" else set()
                self._counts.done_bytes += int(indexed.directory.sizes.sum())
                self._counts.done_bytes = min(self._counts.done_bytes, self._counts.total_bytes)
            self._tell()
        self._intake.publish()

    def _worthwhile(self, manifest: Manifest, lacking: IdSet) -> Iterator[tuple[PackId, int]]:
        for hint in manifest.packs:
            try:
                directory = self._source.objects.read_directory(hint)
            except _DAMAGED:
                continue  # a hint promises nothing
            ids = directory.ids.tobytes()
            wanted = lacking.contains(ids)
            if not wanted.any():
                continue
            wanted &= self._absent(ids)  # an earlier pack may have brought some
            sizes = directory.sizes.astype(np.int64)
            if int(sizes[wanted].sum()) >= _WHOLE * int(sizes.sum()):
                yield hint.pack_id, hint.length

    def _bring_chunks(self, manifest: Manifest, lacking: IdSet) -> None:
        """Copy what is still lacking, chunk by chunk."""
        assert self._intake is not None
        for kind, ids, _, hints in self._needs(manifest):
            rows = np.flatnonzero(lacking.contains(ids))
            if not len(rows):
                continue
            each = np.unique(np.frombuffer(ids, f"S{ID_SIZE}")[rows])
            each = each[self._absent(each.tobytes())]
            for start in range(0, len(each), _BATCH):
                self._bring_batch(Wanted(kind, each[start : start + _BATCH].tobytes(), hints))

    def _bring_batch(self, wanted: Wanted) -> None:
        assert self._intake is not None
        for span in self._reader.plan(wanted):
            for row, data in self._reader.read(span, wanted):
                self._intake.take_chunk(wanted.kind, ChunkId(wanted.id(row)), data)
                if wanted.kind == ChunkKind.DATA:
                    self._counts.done_bytes += len(data)
        self._counts.done_bytes = min(self._counts.done_bytes, self._counts.total_bytes)
        self._tell()


class _OvertakenError(Exception):
    """What a version needs was removed while it was copied, or another copy brought it."""


def _alike(one: VersionRecord, other: VersionRecord) -> bool:
    """Whether two versions may be the same, by all that refs say of what was pushed."""
    return one[2:-1] == other[2:-1]  # not by number, manifest and stored bytes


def _copied(
    chosen: Chosen, record: VersionRecord, there: VersionRecord | None, new: ManifestId | None
) -> CopiedVersion:
    """Say what became of a version; `new` is its id where it was not there before."""
    identifier = new or (there.manifest_id if there else None)
    assert identifier is not None
    return CopiedVersion(
        source_dataset=chosen.ref.dataset,
        source_version=record.number,
        dataset=chosen.target,
        version=there.number if there else None,
        manifest_id=identifier,
        new=new is not None,
    )
