"""The moving parts of one push: batches are hashed, looked up, packed and paged, in order.

The caller's thread reads, cuts and hashes, asks the index which chunks are new, and hands those to
the packer; a pool compresses frames, another one uploads packs. What is on its way is bounded, so
memory does not grow with the data. Neighbours: `writer` decides what is pushed and commits;
`slicer`, `packer` and `pager` do the work.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.estimate import CHUNK_OVERHEAD, PACK_OVERHEAD, PAGE_OVERHEAD, FrameEstimate
from chunkstore.events import Action, Item, Notice, Progress, ProgressCallback
from chunkstore.filestate import FileStates, Needed
from chunkstore.format.blob import BlobBuilder
from chunkstore.format.config import Config
from chunkstore.format.manifest import Entry, EntryKind, PackHint
from chunkstore.format.pack import PackClass
from chunkstore.frames import FrameRooms
from chunkstore.hints import Root, needed_by, page_refs
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, FileHash, chunk_id, chunk_ids
from chunkstore.kinds import kind_of
from chunkstore.ledger import Ledger, Totals
from chunkstore.limits import MAX_PACK_CHUNKS
from chunkstore.objects import Objects
from chunkstore.packer import Packer
from chunkstore.pager import Page, Pager
from chunkstore.profile import OFF, Clock
from chunkstore.slicer import Batch, Gone, Piece, Ready, SourceFile, Step, Taken
from chunkstore.stretch import Stretches, read_chunks
from chunkstore.values import PushedKind
from chunkstore.walk import FileState, LeftOut

_INDEX_BYTES: Final = 128 * 1024 * 1024
_INDEX_SECONDS: Final = 15.0
"""Durable packs are put into the index this often, so a push that is killed loses no more."""

_INDEX_CHUNKS: Final = MAX_PACK_CHUNKS // 2
"""So are this many chunks: one that is not yet in the index takes 0.4 KB of memory."""

_FRAMES_AHEAD: Final = 6
"""For each worker: where files are small, the caller's thread needs a lead to keep them busy."""

_PACKS_AHEAD: Final = 2
_UPLOADERS: Final = 2
_PROGRESS_SECONDS: Final = 0.1
_MOST_FAILURES: Final = 500


@dataclass(slots=True)
class _OpenFile:
    blob: BlobBuilder
    kind: str
    places: set[int] = field(default_factory=set)
    new_bytes: int = 0


class Ingest:
    """One pass over the source. Use it as a context manager: leaving it stops its threads."""

    def __init__(
        self,
        objects: Objects,
        config: Config,
        index: ChunkIndex,
        states: FileStates,
        *,
        level: int,
        dry_run: bool,
        progress: ProgressCallback,
        whole: Callable[[], tuple[int, int] | None],
        estimate: bool = False,
        clock: Clock = OFF,
    ) -> None:
        """`whole` gives (files, bytes) of the source as soon as known; see `estimated_bytes`."""
        self.totals = Totals()
        self.index = index
        self._states = states
        self._progress = progress
        self._whole = whole
        self._dry_run = dry_run
        workers = self._worker_count = max(2, os.cpu_count() or 2)
        self._workers = ThreadPoolExecutor(workers, "chunkstore-work")
        self._uploaders = ThreadPoolExecutor(_UPLOADERS, "chunkstore-upload")
        self._clock = clock
        self._hash = clock.timed("hash", chunk_ids, lambda _, _kind, chunks: sum(map(len, chunks)))
        self._hash_files = clock.timed("hash", _hash_files, lambda _, batch: batch.size)
        self._find = clock.timed("look up", index.find)
        self._publish = clock.timed("index", index.publish)
        self._take_timed = clock.timed("take in", self._take)
        self._sent_lock = threading.Lock()
        self._ledger = Ledger()
        self._estimates = {
            pack_class: FrameEstimate(config, level, self._workers)
            for pack_class in (PackClass if estimate else ())
        }
        rooms = FrameRooms(config)

        def packer(pack_class: PackClass) -> Packer:
            return Packer(
                objects,
                config,
                pack_class,
                rooms=rooms,
                level=level,
                compressors=self._workers,
                uploaders=self._uploaders,
                frames_ahead=workers * _FRAMES_AHEAD,
                packs_ahead=_PACKS_AHEAD,
                on_sent=self._sent,
                clock=clock,
            )

        self._packers = {pack_class: packer(pack_class) for pack_class in PackClass}
        self._pager = Pager(functools.partial(self._put, ChunkKind.PAGE), self._end_page)
        self._durable = False
        self._pending: dict[ChunkId, int] = {}  # new chunks that are not yet in the index: place
        self._by_place: dict[int, list[ChunkId]] = {}
        read = None if dry_run else functools.partial(read_chunks, objects, index)
        self._stretches = Stretches(index, read, self._put_again, self._pending.get)
        self._file: _OpenFile | None = None
        self._gathered: list[tuple[Entry, set[int]]] = []
        self._unindexed_bytes = self._unindexed_chunks = 0
        self._indexed_at = time.monotonic()
        self._told_at = 0.0
        self.index_bytes = 0

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._uploaders.shutdown(wait=True, cancel_futures=True)

    def emit(self, batch: Batch) -> None:
        """Take in a batch from the slicer."""
        try:
            self._take_timed(batch)
            self._index_durable()
            self._tell()
        except OSError as error:
            raise _TakingError(error) from error

    def run(self, produce: Callable[[], None]) -> None:
        """Take in everything that `produce` emits; nothing is committed."""
        try:
            self._clock.timed("walk", produce)()
        except _TakingError as error:
            raise error.reason from None
        self._stretches.close()
        self._pager.finish()

    @property
    def pager(self) -> Pager:
        """The pages of the new version."""
        return self._pager

    def gathered(self) -> list[tuple[Entry, frozenset[int]]]:
        """Return the entries that came in no order, with the places of their chunks."""
        self._stretches.close()
        return [(entry, frozenset(places)) for entry, places in self._gathered]

    @property
    def stored_bytes(self) -> int:
        """What packs and index segments have added to the store."""
        return sum(packer.stored_bytes for packer in self._packers.values()) + self.index_bytes

    def kinds(self) -> tuple[PushedKind, ...]:
        """Return what is new by kind of file; call it after `finish`, or in a dry run."""
        if self._estimates:
            return self._ledger.kinds(self._estimates[PackClass.DATA].finish())
        return self._ledger.kinds(self._packers[PackClass.DATA].stored_by)

    def notices(self) -> list[Notice]:
        """Return what could be deduplicated better."""
        return self._ledger.notices()

    def estimated_bytes(self) -> int:
        """Return about what a dry run would add to the store, 0 where nobody wants to know."""
        if not self._estimates:
            return 0
        stored = sum(sum(each.finish().values()) for each in self._estimates.values())
        chunks = sum(each.chunks for each in self._estimates.values())
        root = sum(len(page.data or b"") + PAGE_OVERHEAD for page in self._pager.pages)
        return stored + chunks * CHUNK_OVERHEAD + root + (PACK_OVERHEAD if chunks else 0)

    @property
    def untouched(self) -> bool:
        """Whether nothing was sent yet."""
        return all(packer.empty for packer in self._packers.values())

    def finish(self) -> None:
        """Make everything durable that was taken in: packs first, then their index segment."""
        for packer in self._packers.values():  # the last packs of both go up side by side
            packer.close()
        durable = [pack for p in self._packers.values() for pack, _ in p.finish()]
        if durable:
            self.index_bytes += self._publish(durable)
        self._durable = True
        self._tell(force=True)

    def save_durable(self) -> None:
        """Put the packs that are durable into the index: what an interrupted push leaves behind."""
        durable = [pack for p in self._packers.values() for pack, _ in p.rescue()]
        if durable:
            self.index_bytes += self._publish(durable)

    def page_refs(self, before: Sequence[PackHint]) -> Root:
        """Return the pack table and the pages of the root; call it after `finish`.

        `before` is the parent version's table.
        """
        stored_again = self.totals.again_bytes > 0
        return page_refs(self._pager.pages, self._pack_at, before, newest_first=stored_again)

    def needed(self) -> list[Needed | None]:
        """Return of each page in which packs it and what it needs lie, as far as that is settled.

        Call it after `finish`, if there is something to finish, and before the index is reloaded.
        """
        return [needed_by(p, self._pack_at, durable=self._durable) for p in self._pager.pages]

    # places: a pack's number in the index, or below zero a ticket of one of the two packers

    def _pack_at(self, place: int) -> PackHint:
        if place >= 0:
            return self.index.pack(place)
        ticket, pack_class = divmod(-2 - place, 2)
        return self._packers[PackClass(pack_class)].pack_of(ticket)

    def _put(
        self, kind: ChunkKind, identifier: ChunkId, data: bytes | memoryview, label: str = ""
    ) -> int:
        """Pack a chunk unless the store has it; return its place."""
        known = self._pending.get(identifier)
        if known is not None:
            return known
        if kind != ChunkKind.DATA:
            found = int(self.index.find(identifier)[0])
            if found != ABSENT:
                return found
        else:
            self.totals.new_bytes += len(data)
        return self._pack(kind, identifier, data, label)

    def _pack(
        self, kind: ChunkKind, identifier: ChunkId, data: bytes | memoryview, label: str
    ) -> int:
        pack_class = PackClass.DATA if kind == ChunkKind.DATA else PackClass.METADATA
        if self._dry_run:
            if self._estimates:
                self._estimates[pack_class].add(data, label)
            self._pending[identifier] = ABSENT - 1
            return ABSENT - 1
        place = -2 - (self._packers[pack_class].add(kind, identifier, data, label) * 2 + pack_class)
        self._pending[identifier] = place
        self._by_place.setdefault(place, []).append(identifier)
        return place

    def _put_again(
        self, identifier: ChunkId, label: str, data: bytes | None, size: int, stored: float
    ) -> int:
        """Pack a chunk that the store has once more; in a dry run only count it."""
        self.totals.again_bytes += size
        self._ledger.add_chunks(label, 0)
        if data is not None:
            return self._pack(ChunkKind.DATA, identifier, data, label)
        if self._estimates:
            self._estimates[PackClass.DATA].add_again(stored, label)
        return ABSENT - 1

    def _put_list(self, data: bytes) -> ChunkId:
        assert self._file is not None
        identifier = chunk_id(ChunkKind.LIST, data)
        self._file.places.add(self._put(ChunkKind.LIST, identifier, data))
        return identifier

    # batches

    def _take(self, batch: Batch) -> None:
        ids = self._hash_batch(batch)
        places = self._find(b"".join(ids)).tolist() if ids else []
        for step in batch.steps:
            if isinstance(step, Piece):
                self._take_piece(step, batch, ids, places)
            else:
                self._take_step(step)
        if self._stretches.full:
            self._stretches.close()

    def _hash_batch(self, batch: Batch) -> list[ChunkId]:
        """Hash chunks and files, side by side where the workers have not enough to do."""
        if sum(packer.compressing for packer in self._packers.values()) >= self._worker_count:
            self._hash_files(batch)
            return self._hash(ChunkKind.DATA, batch.chunks)
        files = self._workers.submit(self._hash_files, batch)
        ids = self._hash(ChunkKind.DATA, batch.chunks)
        self._clock.wait(files)
        return ids

    def _take_piece(
        self, piece: Piece, batch: Batch, ids: list[ChunkId], places: list[int]
    ) -> None:
        if piece.first or self._file is None:
            kind = self._ledger.label(kind_of(piece.file.path))
            self._file = _OpenFile(BlobBuilder(self._put_list), kind)
        file, start, end = self._file, piece.start, piece.end
        before = self.totals.new_bytes
        for row in range(start, end):
            if places[row] == ABSENT:
                places[row] = self._put(ChunkKind.DATA, ids[row], batch.chunks[row], file.kind)
        if new_bytes := self.totals.new_bytes - before:
            file.new_bytes += new_bytes
            self._ledger.add_chunks(file.kind, new_bytes)
        sizes = [len(chunk) for chunk in batch.chunks[start:end]]
        file.blob.add(ids[start:end], sizes)
        size = sum(sizes)
        self._stretches.chunks(
            ids[start:end], places[start:end], file.places, file.kind, size, new_bytes
        )
        self.totals.read_bytes += size
        if piece.last:
            self._end_file(piece.file, file, batch.chunks[end - 1] if end > start else b"")
            self._file = None

    def _end_file(self, file: SourceFile, content: _OpenFile, end: bytes | memoryview) -> None:
        entry = Entry(
            file.path,
            EntryKind.FILE,
            file.executable,
            file.mtime_ns,
            file.file_hash,
            blob=content.blob.finish(),
        )
        if file.apart:
            self._gathered.append((entry, content.places))
            return
        self._add(entry, file.before, content.places, file.state)
        before = file.before
        if before is None or not entry.same_content(before):
            self._ledger.add_file(content.kind, entry.size)
        if before is not None and before.kind == EntryKind.FILE:
            new, path = content.new_bytes, entry.path
            self._ledger.add_changed(content.kind, path, entry.size, new, end)

    def _take_step(self, step: Step) -> None:
        if isinstance(step, Ready):
            if step.state is not None:
                self.totals.read_bytes += step.entry.size
            changed = step.before is None or not step.entry.same_content(step.before)
            if changed and step.entry.kind == EntryKind.FILE:
                self._ledger.add_file(self._ledger.label(kind_of(step.entry.path)), step.entry.size)
            self._known(step)
        elif isinstance(step, Taken):
            self._take_page(step)
        elif isinstance(step, Gone):
            self._progress(Item(action="removed", path=step.entry.path, size=step.entry.size))
        elif isinstance(step, LeftOut):
            self._leave_out(step)

    def _known(self, step: Ready) -> None:
        entry, places = step.entry, set(step.packs)
        if entry.kind == EntryKind.FILE:
            ids = b"" if entry.blob.depth else entry.blob.ids
            label = self._ledger.label(kind_of(entry.path))
            self._stretches.known(lambda: [(ids, label)], len(ids), places, entry.size)
        self._add(entry, step.before, places, step.state)

    def _take_page(self, step: Taken) -> None:
        known, places = step.page.known, set(step.page.packs)
        self._stretches.known(
            lambda: step.chunks(self._ledger.label), known.entries * ID_SIZE, places, known.size
        )
        self._stretches.then(lambda: self._add_page(step, places), known.entries)
        self.totals.done_files += known.entries
        self.totals.read_bytes += known.size

    def _add_page(self, step: Taken, places: set[int]) -> None:
        page, known = step.page, step.page.known
        moved = places != set(page.packs)
        if not self._pager.between_pages:  # an edit before it has moved where pages end
            for ready in step.entries():
                self._add_to_page(ready.entry, places if moved else ready.packs, ready.state)
            return
        taken = Page(
            known.page_id,
            known.first_path,
            known.entries,
            dict.fromkeys(sorted(places, reverse=True) if moved else page.packs),
            page.ref.inline,
            known.size,
            known.length,
            known.ends,
            page.own,
            step.fetch,
        )
        self._states.keep_page(known)
        self._pager.add_page(taken, page.paths[-1])

    def _add(
        self, entry: Entry, before: Entry | None, places: set[int], state: FileState | None
    ) -> None:
        if before is not None and (entry is before or entry.same_content(before)):
            entry = before  # its mtime too: a fresh check-out or `touch` makes no new pages
        else:
            self.totals.new_files += 1
            action: Action = "added" if before is None else "modified"
            self._progress(Item(action=action, path=entry.path, size=entry.size))
        self.totals.done_files += 1
        self._stretches.then(lambda: self._add_to_page(entry, places, state), 1)

    def _add_to_page(
        self, entry: Entry, places: set[int] | frozenset[int], state: FileState | None
    ) -> None:
        self._states.keep(entry, state)
        self._pager.add(entry, places)

    def _end_page(self, page: Page) -> None:
        self._states.end_page(page.page_id, page.entries, page.size, page.length, page.ends)

    def _leave_out(self, item: LeftOut) -> None:
        totals = self.totals
        kept = totals.failures if item.unreadable else totals.left_out
        if item.unreadable:
            totals.failure_count += 1
        if len(kept) < _MOST_FAILURES:
            kept.append((item.path, item.reason))
        self._progress(Item(action="left out", path=item.path, size=0, reason=item.reason))

    # index and progress

    def _index_durable(self) -> None:
        due = time.monotonic() - self._indexed_at > _INDEX_SECONDS
        few = self._unindexed_bytes < _INDEX_BYTES and self._unindexed_chunks < _INDEX_CHUNKS
        if not due and few:
            return
        durable = []
        for pack_class, packer in self._packers.items():
            for pack, tickets in packer.take_durable():
                durable.append(pack)
                for ticket in tickets:
                    self._forget_pending(-2 - (ticket * 2 + pack_class))
        if durable:
            self.index_bytes += self._publish(durable)
            self._unindexed_bytes = self._unindexed_chunks = 0
            self._indexed_at = time.monotonic()

    def _forget_pending(self, place: int) -> None:
        for identifier in self._by_place.pop(place, ()):
            self._pending.pop(identifier, None)

    def _sent(self, length: int, chunks: int) -> None:
        with self._sent_lock:
            self.totals.sent_bytes += length
            self._unindexed_bytes += length
            self._unindexed_chunks += chunks

    def _tell(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._told_at < _PROGRESS_SECONDS:
            return
        self._told_at = now
        files, size = self._whole() or (None, None)
        self._progress(
            Progress(
                done_bytes=self.totals.read_bytes,
                total_bytes=size,
                moved_bytes=self.totals.sent_bytes,
                done_files=self.totals.done_files,
                total_files=files,
            )
        )


class _TakingError(Exception):
    """What failed is no file that the slicer was reading, as an OSError would mean to it."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


def _hash_files(batch: Batch) -> None:
    """Go on with the hashes of the files of which the batch has pieces."""
    for step in batch.steps:
        if isinstance(step, Piece):
            step.file.hasher.update(step.fresh)
            if step.last:
                step.file.file_hash = FileHash(step.file.hasher.digest())
