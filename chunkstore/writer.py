"""Push: a folder, file or stream becomes the next version of a dataset.

Implements the writer's steps W0 to W7 of docs/design/consistency.md. The compare-and-swap of
the ref is the only commit point: until then nothing that was sent is reachable, and what was
sent is found by the next push. Neighbours: `ingest` moves the bytes, `refs` commits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from chunkstore.archive import in_order
from chunkstore.caches import Caches
from chunkstore.census import Census
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.chunker import Chunker, slow_chunker
from chunkstore.entries import entries_below
from chunkstore.errors import (
    BackendError,
    ConflictError,
    InvalidInputError,
    MissingObjectError,
    UnreadableFilesError,
)
from chunkstore.events import Notice, ProgressCallback
from chunkstore.filestate import FileStates, Needed
from chunkstore.filters import EVERYTHING, PathFilter
from chunkstore.format.config import SINGLE_WRITER, Config
from chunkstore.format.manifest import Entry, Manifest, PackHint, fit_manifest
from chunkstore.format.ref import Ref, VersionRecord, empty_ref
from chunkstore.ids import ManifestId
from chunkstore.ingest import Ingest
from chunkstore.layout import check_name
from chunkstore.limits import MAX_MESSAGE_LENGTH
from chunkstore.objects import Objects
from chunkstore.parent import ParentVersion
from chunkstore.profile import OFF, Clock
from chunkstore.reader import Reader
from chunkstore.refs import Refs, check_expected, check_tag, resolve, with_tag
from chunkstore.slicer import Slicer
from chunkstore.source import Source
from chunkstore.takeover import TakeOver
from chunkstore.unlisted import Unlisted
from chunkstore.values import PushResult, PushStats
from chunkstore.view import View

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 5
_MOVES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """What the caller of a push may choose; see `Store.push`."""

    message: str = ""
    tags: Sequence[str] = ()
    expect: str | None = None
    keep: bool = False
    against: str | None = None
    paths: PathFilter = EVERYTHING
    dry_run: bool = False
    skip_unreadable: bool = False
    allow_same: bool = False
    level: int = 3
    clock: Clock = OFF

    def __post_init__(self) -> None:
        if len(self.message.encode()) > MAX_MESSAGE_LENGTH:
            raise InvalidInputError(
                f"the message is longer than {MAX_MESSAGE_LENGTH} bytes",
                hint="say it in fewer words, or put it into a file of the version",
            )
        for tag in self.tags:
            check_tag(tag)
        if not 1 <= self.level <= 19:
            raise InvalidInputError(f"compression level {self.level}", hint="from 1 to 19")


def push(
    objects: Objects,
    config: Config,
    caches: Caches,
    source: Source,
    dataset: str,
    options: PushOptions,
    progress: ProgressCallback,
) -> PushResult:
    """Push `source` and return what was committed; see `Store.push`."""
    check_name(dataset, "dataset")
    config.check_writable()
    chosen = source.chosen(options.paths, objects.backend.url)
    options = dataclasses.replace(options, paths=chosen)
    _warn(config, progress)
    if options.keep and source.file is None:
        raise InvalidInputError("only a single file or a stream is put beside other files")
    attempts = moves = 0
    while attempts < _ATTEMPTS:
        attempt = _Push(objects, config, caches, source, dataset, options, progress)
        try:
            result = attempt.run()
        except _ParentMovedError as moved:
            moves += 1
            if moves == _MOVES:
                raise ConflictError(
                    f"dataset {dataset!r} was changed by others {moves} times in a row",
                    hint="run the same command again",
                ) from None
            source = source.as_stored(moved.entry)
            continue
        except MissingObjectError:
            if not attempt.overtaken():
                raise
            result = None
        attempts += 1
        if result is not None:
            return result
        if not source.repeatable:
            break
        log.info("what the push to %s needs was removed meanwhile; pushing again", dataset)
    raise ConflictError(
        f"what the push to {dataset!r} needs was removed meanwhile by a collection or 'rm'",
        hint="run the same command again",
    )


def _warn(config: Config, progress: ProgressCallback) -> None:
    slow = slow_chunker(config.chunker.name)
    if slow:
        progress(Notice(message="pushing is slow", hint=slow))
    if SINGLE_WRITER in config.write_features:
        progress(
            Notice(
                message="this storage ignores conditional writes: one writer at a time",
                hint="make sure that nobody else pushes, tags or removes meanwhile",
            )
        )


class _Push:
    """One attempt to push: W0 to W7 once."""

    def __init__(
        self,
        objects: Objects,
        config: Config,
        caches: Caches,
        source: Source,
        dataset: str,
        options: PushOptions,
        progress: ProgressCallback,
    ) -> None:
        self._objects = objects
        self._config = config
        self._caches = caches
        self._source = source
        self._dataset = dataset
        self._options = options
        self._progress = progress
        self._refs = Refs(objects)
        self._started = time.monotonic()
        with ThreadPoolExecutor(1, "chunkstore-start") as pool:
            stored = pool.submit(self._refs.get, dataset)
            self._state = objects.read_gc_state()  # W0: before anything of the index
        self._stored = stored.result()
        self._view = View(objects, caches.segments, caches.index_budget)
        self._reader = Reader(objects, self._whole_index)
        self._parent: Manifest | None = None
        self._parent_record: VersionRecord | None = None
        self._needed: list[Needed | None] = []

    def _find_parent(self) -> None:
        against, expect = self._options.against, self._options.expect
        ref = self._stored.ref if self._stored else None
        if expect is not None:
            check_expected(ref or empty_ref(self._dataset), expect)
        if ref is None or not ref.versions:
            return
        self._parent_record = resolve(ref, against) if against else ref.versions[-1]
        self._parent = self._reader.manifest(self._parent_record.manifest_id)

    def _whole_index(self) -> ChunkIndex:
        index = ChunkIndex(self._objects, self._caches.segments)
        index.load_for_reading()
        return index

    def overtaken(self) -> bool:
        """Whether a collection may have removed what is missing, so that it is no damage.

        One began or ended since W0, or ended between the ref, which is read beside it, and W0: then
        the version was dropped before, and the ref is another one.
        """
        if self._objects.read_gc_state() != self._state:
            return True
        stored, before = self._refs.get(self._dataset), self._stored
        return (stored and stored.version) != (before and before.version)

    def _load_view(self) -> None:
        self._view.load(
            self._state,
            self._parent_packs,
            lambda bound: self._source.size_below(bound, self._options.paths),
            keep=self._options.keep
            and (self._parent is not None or self._source.stored is not None),
        )

    @property
    def _parent_packs(self) -> Sequence[PackHint]:
        return self._parent.packs if self._parent else ()

    def run(self) -> PushResult | None:
        """Push; None where what the version needs was removed meanwhile."""
        clock = self._options.clock
        self._find_parent()
        clock.timed("index", self._load_view)()
        states = FileStates(self._caches.states_of(self._source.location))
        paths, noted = self._options.paths, self._caches.unlisted_of(self._dataset)
        with (
            Census(lambda: self._source.walk(paths)) as census,
            contextlib.closing(Unlisted(noted, self._state.generation)) as unlisted,
            Ingest(
                self._objects,
                self._config,
                self._view.index,
                states,
                unlisted,
                level=self._options.level,
                dry_run=self._options.dry_run,
                progress=self._progress,
                whole=lambda: census.totals,
                estimate=self._options.dry_run and self._options.against is None,
                clock=self._options.clock,
            ) as ingest,
        ):
            try:
                ingest.run(lambda: self._slice(ingest, states))
                self._check_failures(ingest)
                result = clock.timed("commit", self._conclude)(ingest)
                if result is None:
                    states.discard()
                else:
                    states.finish(self._needed)
            except BaseException:
                states.discard()
                with contextlib.suppress(BackendError):  # the first failure is the one to tell
                    ingest.save_durable()
                raise
            return result

    def _slice(self, ingest: Ingest, states: FileStates) -> None:
        parent = ParentVersion(self._parent, self._reader, self._view.index)
        chunker, clock = Chunker(self._config.chunker), self._options.clock
        take_over = TakeOver(self._parent, self._view.index, states)
        slicer = Slicer(chunker, parent, states, take_over, ingest.emit, clock)
        if not self._source.archive:
            self._source.slice(slicer, self._options.paths, keep=self._options.keep)
            return
        others = self._source.gather(slicer)
        slicer.place(in_order(ingest.gathered(), others))

    def _check_failures(self, ingest: Ingest) -> None:
        totals = ingest.totals
        if totals.failure_count and not (self._options.skip_unreadable or self._options.dry_run):
            raise UnreadableFilesError(
                totals.failures,
                count=totals.failure_count,
                hint="nothing was committed; mend them, exclude them, or push without them by "
                "--skip-unreadable",
            )

    def _conclude(self, ingest: Ingest) -> PushResult | None:
        pages = [page.page_id for page in ingest.pager.pages]
        same = self._parent is not None and pages == [p.page_id for p in self._parent.pages]
        try:
            if same and self._parent_record and not self._options.allow_same:
                result = self._unchanged(ingest, self._parent_record)
                self._needed = ingest.needed()
                return result
            if self._options.dry_run:
                self._needed = ingest.needed()
                return self._result(ingest, None, ingest.estimated_bytes(), unchanged=False)
            ingest.finish()
            self._stored = self._stored or self._refs.create_empty(self._dataset)
            manifest = self._manifest(ingest)
            self._needed = ingest.needed()  # the commit may load the view anew
            identifier, length = self._objects.put_manifest(manifest)
            record = self._commit(manifest, identifier, ingest.stored_bytes + length)
        except _OvertakenError:
            return None
        self._view.compact(self._dataset, record.number)
        return self._result(ingest, record, length, unchanged=False)

    def _unchanged(self, ingest: Ingest, record: VersionRecord) -> PushResult:
        """Keep what the store had lost, and tag the version that is there already.

        A chunk that a partial view lacks may well be stored, so it is dropped unless it is on
        its way; one that a complete view lacks is lost, and this very push brings it back.
        """

        def edit(ref: Ref) -> Ref:
            if record not in ref.versions:  # dropped by another writer since it was read
                raise _OvertakenError
            return self._tagged(ref, record.number)

        if not self._options.dry_run:
            if not ingest.untouched or (self._view.complete and ingest.totals.new_bytes):
                ingest.finish()
            if self._options.tags:
                self._refs.swap(self._dataset, edit, known=self._stored)
        return self._result(ingest, record, 0, unchanged=True)

    def _manifest(self, ingest: Ingest) -> Manifest:
        packs, pages = ingest.page_refs(self._parent_packs)
        return fit_manifest(
            Manifest(
                dataset=self._dataset,
                created_ns=time.time_ns(),
                message=self._options.message,
                parent=self._parent_record.manifest_id if self._parent_record else None,
                nonce=secrets.token_bytes(16),
                files=ingest.pager.files,
                size=ingest.pager.size,
                new_bytes=ingest.totals.new_bytes,
                packs=packs,
                pages=pages,
            )
        )

    def _commit(self, manifest: Manifest, identifier: ManifestId, stored: int) -> VersionRecord:
        """W4 to W7. The ref that was read at the start serves first: it is only the older."""
        mine = [identifier]  # the last one is to be committed

        def guard() -> int:
            return self._guard(manifest, lambda: mine.append(self._renewed(manifest)))

        def edit(ref: Ref) -> Ref:
            if any(record.manifest_id in mine for record in ref.versions):
                return ref  # won before; so many others came after that the nonce is gone
            if self._options.expect is not None:
                check_expected(ref, self._options.expect)
            latest = ref.versions[-1] if ref.versions else None
            if self._options.keep and latest != self._parent_record:
                raise _ParentMovedError(self._entry_of(manifest))
            record = VersionRecord(
                ref.next_number,
                mine[-1],
                manifest.created_ns,
                manifest.message,
                manifest.files,
                manifest.size,
                manifest.new_bytes,
                stored,
            )
            versions = (*ref.versions, record)
            changed = dataclasses.replace(ref, versions=versions, next_number=record.number + 1)
            return self._tagged(changed, record.number)

        ref = self._refs.swap(
            self._dataset,
            edit,
            guard,
            known=self._stored,
            create=True,
        )
        return next(r for r in reversed(ref.versions) if r.manifest_id in mine)

    def _renewed(self, manifest: Manifest) -> ManifestId:
        """Store the manifest under another name: a collection may be about to delete the first."""
        renewed = dataclasses.replace(manifest, nonce=secrets.token_bytes(16))
        return self._objects.put_manifest(renewed)[0]

    def _entry_of(self, manifest: Manifest) -> Entry:
        """Return the entry of the single file in a manifest that was stored."""
        assert self._source.file is not None
        path = self._source.file.path
        return next(entry for entry, _ in entries_below(self._reader, manifest, path))

    def _tagged(self, ref: Ref, number: int) -> Ref:
        for tag in self._options.tags:
            ref = with_tag(ref, tag, number)
        return ref

    def _guard(self, manifest: Manifest, renew: Callable[[], object]) -> int:
        """W5 and W6: where a collection began meanwhile, every chunk must be in the new view.

        Raises:
            _OvertakenError: one is not.
        """
        while (state := self._objects.read_gc_state()) != self._state:
            self._state = state
            renew()
            self._view.load_large(self._state, self._parent_packs)
            for ids in self._reader.every_id(manifest):
                if (self._view.index.find(ids) == ABSENT).any():
                    raise _OvertakenError
        return state.generation

    def _result(
        self, ingest: Ingest, record: VersionRecord | None, more_bytes: int, *, unchanged: bool
    ) -> PushResult:
        totals = ingest.totals
        grown = 0 if self._options.dry_run else ingest.index_bytes + more_bytes
        if not unchanged:
            for notice in ingest.notices():
                self._progress(notice)
        return PushResult(
            dataset=self._dataset,
            version=record.number if record else None,
            manifest_id=record.manifest_id if record else None,
            unchanged=unchanged,
            stats=PushStats(
                files=ingest.pager.files,
                size=ingest.pager.size,
                new_files=totals.new_files,
                new_bytes=totals.new_bytes,
                again_bytes=totals.again_bytes,
                stored_bytes=ingest.stored_bytes + more_bytes,
                sent_bytes=totals.sent_bytes + grown,
                seconds=time.monotonic() - self._started,
                kinds=ingest.kinds(),
            ),
            left_out=(*totals.failures, *totals.left_out),
            unreadable=totals.failure_count,
        )


class _ParentMovedError(Exception):
    """The version into which a file was put is no longer the latest; the file is stored."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.path)
        self.entry = entry


class _OvertakenError(Exception):
    """What the push relied on was removed meanwhile: a chunk, or the version to be tagged."""
