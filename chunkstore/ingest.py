"""The moving parts of one push: batches are hashed, looked up, packed and paged, in order.

The caller's thread reads, cuts and hashes, asks the index which chunks are new, and hands those to
the packer; a pool compresses frames, another one uploads packs. What is on its way is bounded, so
memory does not grow with the data. Neighbours: `writer` decides what is pushed and commits;
`slicer`, `packer` and `pager` do the work.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.chunk_writer import ChunkWriter
from chunkstore.estimate import PAGE_OVERHEAD
from chunkstore.events import Action, Item, Notice, Progress, ProgressCallback
from chunkstore.filestate import FileStates, Needed
from chunkstore.format.blob import BlobBuilder
from chunkstore.format.config import Config
from chunkstore.format.manifest import Entry, EntryKind, PackHint
from chunkstore.hints import Root, needed_by, page_refs
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, FileHash, chunk_id, chunk_ids
from chunkstore.kinds import kind_of
from chunkstore.ledger import Ledger, Totals
from chunkstore.objects import Objects
from chunkstore.pager import Page, Pager
from chunkstore.profile import OFF, Clock
from chunkstore.steps import Batch, Gone, Piece, Ready, SourceFile, Step, Taken
from chunkstore.stretch import Stretches, read_chunks
from chunkstore.unlisted import Unlisted
from chunkstore.values import PushedKind
from chunkstore.walk import FileState, LeftOut

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
        unlisted: Unlisted,
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
        self._estimate = estimate
        workers = max(2, os.cpu_count() or 2)
        self._workers = ThreadPoolExecutor(workers, "chunkstore-work")
        self._clock = clock
        self._hash = clock.timed("hash", chunk_ids, lambda _, _kind, chunks: sum(map(len, chunks)))
        self._hash_files = clock.timed("hash", _hash_files, lambda _, batch: batch.size)
        self._find = clock.timed("look up", index.find)
        self._take_timed = clock.timed("take in", self._take)
        self._ledger = Ledger()
        self._chunks = ChunkWriter(
            objects,
            config,
            index,
            self.totals,
            level=level,
            dry_run=dry_run,
            estimate=estimate,
            workers=self._workers,
            worker_count=workers,
            unlisted=unlisted,
            clock=clock,
        )
        self._pager = Pager(functools.partial(self._chunks.put, ChunkKind.PAGE), self._end_page)
        self._durable = False
        read = None if dry_run else functools.partial(read_chunks, objects, index)
        self._stretches = Stretches(index, read, self._put_again, self._chunks.on_its_way)
        self._file: _OpenFile | None = None
        self._gathered: list[tuple[Entry, set[int]]] = []
        self._told_at = 0.0

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._chunks.close()

    def emit(self, batch: Batch) -> None:
        """Take in a batch from the slicer."""
        try:
            self._take_timed(batch)
            self._chunks.publish_due()
            self._tell()
        except OSError as error:
            raise _TakingError(error) from error

    def run(self, produce: Callable[[], None]) -> None:
        """Take in everything that `produce` emits; nothing is committed."""
        self._chunks.adopt()
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
        return self._chunks.stored_bytes

    @property
    def index_bytes(self) -> int:
        """What index segments have added to the store."""
        return self._chunks.index_bytes

    @property
    def untouched(self) -> bool:
        """Whether nothing was sent yet."""
        return self._chunks.untouched

    def kinds(self) -> tuple[PushedKind, ...]:
        """Return what is new by kind of file; call it after `finish`, or in a dry run."""
        return self._ledger.kinds(self._chunks.stored_by())

    def notices(self) -> list[Notice]:
        """Return what could be deduplicated better."""
        return self._ledger.notices()

    def estimated_bytes(self) -> int:
        """Return about what a dry run would add to the store, 0 where nobody wants to know."""
        if not self._estimate:
            return 0
        root = sum(len(page.data or b"") + PAGE_OVERHEAD for page in self._pager.pages)
        return self._chunks.estimated_bytes() + root

    def finish(self) -> None:
        """Make everything durable that was taken in: packs first, then their index segment."""
        self._chunks.finish()
        self._durable = True
        self._tell(force=True)

    def save_durable(self) -> None:
        """Put the packs that are durable into the index: what an interrupted push leaves behind."""
        self._chunks.rescue()

    def page_refs(self, before: Sequence[PackHint]) -> Root:
        """Return the pack table and the pages of the root; call it after `finish`.

        `before` is the parent version's table.
        """
        stored_again = self.totals.again_bytes > 0
        return page_refs(self._pager.pages, self._chunks.pack_at, before, newest_first=stored_again)

    def needed(self) -> list[Needed | None]:
        """Return of each page in which packs it and what it needs lie, as far as that is settled.

        Call it after `finish`, if there is something to finish, and before the index is reloaded.
        """
        return [
            needed_by(p, self._chunks.pack_at, durable=self._durable) for p in self._pager.pages
        ]

    def _put_again(
        self, identifier: ChunkId, label: str, data: bytes | None, size: int, stored: float
    ) -> int:
        self._ledger.add_chunks(label, 0)
        return self._chunks.put_again(identifier, label, data, size, stored)

    def _put_list(self, data: bytes) -> ChunkId:
        assert self._file is not None
        identifier = chunk_id(ChunkKind.LIST, data)
        self._file.places.add(self._chunks.put(ChunkKind.LIST, identifier, data))
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
        if self._chunks.busy:
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
        before, put = self.totals.new_bytes, self._chunks.put
        for row in range(start, end):
            if places[row] == ABSENT:
                places[row] = put(ChunkKind.DATA, ids[row], batch.chunks[row], file.kind)
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
