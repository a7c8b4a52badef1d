"""Missing chunks in, written files out: chunks are gathered into batches and fetched by workers.

Each chunk of a batch is fetched once and written to every place that needs it. Several batches are
under way, and each is bounded by bytes, chunks, files and descriptors, so memory does not grow
with the version. Neighbours: `restore` above says what is missing, `reader` gives verified bytes,
`restored_file` and `small_file` take them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final, TypeAlias

from chunkstore.errors import CorruptObjectError, FilesystemError
from chunkstore.format.manifest import PackHint
from chunkstore.fragmentation import STRETCH_CHUNKS, STRETCH_FILES, STRETCH_SIZE
from chunkstore.ids import ChunkKind
from chunkstore.profile import OFF, WAIT, Clock
from chunkstore.reader import Opened, Reader
from chunkstore.restored_file import RestoredFile
from chunkstore.small_file import SmallFile
from chunkstore.spans import Span, Wanted
from chunkstore.target import Folder

_EARLY_SIZE: Final = 32 * 1024 * 1024
"""Raw bytes of a batch that goes off while as many bytes of the target are looked through."""

_BATCHES: Final = 3
"""Batches under way, so that no worker waits while the next one is looked up."""

_WORKERS: Final = 4
"""Spans on their way at the same time, each with up to 5 MiB. With six, and four batches, a pull of
27,188 files peaks at 136 MB instead of 110."""

_AT_WORK: Final = max(2, os.cpu_count() or 2)
"""Workers that decompress, check and write; more only take the interpreter from each other."""

_SMALL_CHUNKS: Final = 32 * 1024
"""Mean bytes of a frame's chunks below which the caller's thread writes them. A small file takes
ten calls that let go of the interpreter, and two threads that make such calls wake each other for
each: 27,188 files written by two workers took 7.1 s of CPU and 5.3 s, so they take 6.2 and 4.7."""

_HANDED: Final = 4
"""Frames that wait for the caller's thread; a worker that has one more waits too."""

_AHEAD: Final = 8
"""Directories of packs that are fetched side by side."""

_MOST_HANDLES: Final = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
"""Descriptors that all batches under way may need; the rest is for other folders and sockets."""

Place: TypeAlias = tuple[RestoredFile | SmallFile, int, int]
"""A file, an offset in it, and the bytes of the chunk that belongs there."""


@dataclass(slots=True)
class _Batch:
    """Missing chunks: each id once, with all the places where it belongs."""

    rows: dict[bytes, int] = field(default_factory=dict)
    places: list[list[Place]] = field(default_factory=list)
    hints: dict[PackHint, None] = field(default_factory=dict)
    last_hints: Sequence[PackHint] = ()
    folders: set[Folder] = field(default_factory=set)  # held until the batch is done
    parts: int = 0  # part files that may be open at the same time
    files: int = 0
    size: int = 0
    looked_through: int = 0
    spans: int = 0  # that are not done

    @property
    def handles(self) -> int:
        return len(self.folders) + self.parts

    @property
    def full(self) -> bool:
        early = self.looked_through >= _EARLY_SIZE
        return (
            self.size >= (_EARLY_SIZE if early else STRETCH_SIZE)
            or len(self.rows) >= STRETCH_CHUNKS
            or self.files >= STRETCH_FILES
            or self.handles >= _MOST_HANDLES // _BATCHES
        )

    def hold(self, folder: Folder) -> None:
        if folder not in self.folders:
            self.folders.add(folder.hold())

    def release(self) -> None:
        while self.folders:
            self.folders.pop().release()


class Fetcher:
    """Fetches the missing chunks of one pull. Its methods are called by one thread.

    Attributes:
        written: raw bytes that were written; in a dry run, that would be.
        planned: stored bytes that a dry run would fetch.
    """

    def __init__(
        self,
        reader: Reader,
        packs: Sequence[PackHint],
        *,
        dry_run: bool,
        on_progress: Callable[[], object],
        clock: Clock = OFF,
    ) -> None:
        """`packs` has all that may be hinted at, those to be tried first in front.

        `on_progress` is called in the caller's thread whenever a span is done.
        """
        self._numbers = {hint: number for number, hint in enumerate(packs)}
        self._reader = reader
        self._clock = clock
        self._plan = clock.timed("plan", reader.plan)
        self._work = clock.timed("write", self._fetch, lambda written, *_more: written)
        self._write = clock.timed("write", self._write_frames, lambda written, *_more: written)
        self._events: SimpleQueue[_Handed | _Ended] = SimpleQueue()  # from workers to the caller
        self._next_event = clock.timed(WAIT, self._events.get)
        self._room = threading.Semaphore(_HANDED)
        self._closed = False
        self._dry_run = dry_run
        self._on_progress = on_progress
        self._pool = ThreadPoolExecutor(_WORKERS, "chunkstore-pull")
        self._turn = threading.Semaphore(_AT_WORK)
        self._batch = _Batch()
        self._running: deque[_Batch] = deque()
        self._open: set[RestoredFile] = set()
        self._lock = threading.Lock()
        self.written = 0
        self.planned = 0

    def begin(self, file: RestoredFile) -> bool:
        """Take a file whose chunks will be wanted; `completed` or `drop_parts` lets it go.

        Returns whether an earlier pull left a part of it behind.
        """
        if self._batch.full:
            self._flush()
        with self._lock:
            self._open.add(file)
        self._batch.files += 1
        if file.folder is not None:
            self._batch.hold(file.folder)
        resumed = file.resume()
        self._batch.parts += resumed or file.entry.blob.count > 1
        return resumed

    def looked_through(self, size: int) -> None:
        """Count bytes of the target that were read, so that something is fetched meanwhile."""
        self._batch.looked_through += size

    def want(
        self, file: RestoredFile, identifier: bytes, at: int, size: int, hints: Sequence[PackHint]
    ) -> None:
        """Have a chunk of `size` bytes that `file` expects fetched and written at offset `at`."""
        if self._batch.full:
            self._flush()
        self._want((file, at, size), identifier, hints)

    def want_small(self, file: SmallFile, hints: Sequence[PackHint]) -> None:
        """Have a file of one chunk fetched and written."""
        if self._batch.full:
            self._flush()
        while not self._events.empty():
            self._take(self._next_event())
        self._batch.files += 1
        self._batch.hold(file.folder)
        entry = file.entry
        self._want((file, 0, entry.size), entry.blob.ids, hints)

    def _want(self, place: Place, identifier: bytes, hints: Sequence[PackHint]) -> None:
        batch = self._batch
        number = batch.rows.setdefault(identifier, len(batch.rows))
        if number == len(batch.places):
            batch.places.append([])
            batch.size += place[2]
        batch.places[number].append(place)
        if hints is not batch.last_hints:  # all entries of a page have the same
            batch.hints.update(dict.fromkeys(hints))
            batch.last_hints = hints

    def finish(self) -> None:
        """Fetch what is still wanted and wait for all of it."""
        self._flush(last=True)
        while self._running:
            self._settle()

    def completed(self, file: RestoredFile) -> None:
        """Take note that a file is complete; may be called in any thread."""
        with self._lock:
            self._open.discard(file)

    def drop_parts(self, *, remove: bool) -> None:
        """Stop, and close the files that are not complete; with `remove` delete their parts."""
        self.close()
        for file in list(self._open):
            with contextlib.suppress(FilesystemError):  # the first failure is the one to tell
                file.abandon(remove=remove)

    def close(self) -> None:
        """End the workers."""
        self._closed = True
        self._room.release(_HANDED + _WORKERS)  # for those that wait for the caller
        self._pool.shutdown(wait=True, cancel_futures=True)
        for batch in (self._batch, *self._running):
            batch.release()

    def _flush(self, *, last: bool = False) -> None:
        batch, self._batch = self._batch, _Batch()
        self._running.append(batch)  # first of all, so that its folders are let go of
        if batch.rows:
            others = len(self._numbers)  # where hints lead nowhere the index names other packs
            hints = sorted(batch.hints, key=lambda hint: self._numbers.get(hint, others))
            wanted = Wanted(ChunkKind.DATA, b"".join(batch.rows), hints)
            few = 1 + len(batch.rows) // 64  # these may well lie in one pack
            spans = self._plan(wanted, ahead=min(_AHEAD, few))
            if not last:
                spans = self._put_back(batch, wanted, spans)
            if self._dry_run:
                self._count(batch, spans)
            else:
                batch.spans = len(spans)
                for span in spans:
                    future = self._pool.submit(self._work, span, wanted, batch.places)
                    future.add_done_callback(lambda done: self._events.put(_Ended(batch, done)))
        room = _MOST_HANDLES - _MOST_HANDLES // _BATCHES
        while len(self._running) >= _BATCHES or sum(b.handles for b in self._running) > room:
            self._settle()

    def _put_back(self, batch: _Batch, wanted: Wanted, spans: list[Span]) -> list[Span]:
        """Leave a last frame that is wanted in part to the next batch, which will want the rest.

        Else both would fetch it: 2.6 % of all bytes of a large version with frames of 1 MiB.
        """
        newest = len(batch.rows) - 1
        for number, (*before, frame) in enumerate(span.frames for span in spans):
            if newest not in (row for row, _, _ in frame.rows):
                continue
            part = frame.wanted < frame.size
            if part and len(frame.rows) * 2 <= len(batch.rows):
                pack = spans[number].pack
                spans[number : number + 1] = [Span(pack, tuple(before))] if before else []
                for row, _, _ in frame.rows:
                    places, batch.places[row] = batch.places[row], []
                    self._want_again(places, wanted.id(row), pack)
            break
        return spans

    def _want_again(self, places: list[Place], identifier: bytes, pack: PackHint) -> None:
        for place in places:
            folder = place[0].folder
            if folder is not None:
                self._batch.hold(folder)
            self._want(place, identifier, [pack])

    def _count(self, batch: _Batch, spans: Sequence[Span]) -> None:
        self.planned += sum(frame.length for span in spans for frame in span.frames)
        for places in batch.places:
            for file, _, size in places:
                self.written += size
                file.write(b"", 0, 1)

    def _settle(self) -> None:
        """Wait for the oldest batch; meanwhile write what is handed over."""
        while self._running[0].spans:
            self._take(self._next_event())
        self._running.popleft().release()

    def _take(self, event: _Handed | _Ended) -> None:
        if isinstance(event, _Handed):
            self._room.release()
            self._add(self._write(event.opened, event.places))
        else:
            event.batch.spans -= 1
            self._add(event.span.result())
            self._on_progress()

    def _add(self, written: int) -> None:
        self.written += written

    def _fetch(self, span: Span, wanted: Wanted, places: list[list[Place]]) -> int:
        """Fetch a span, write its chunks wherever they belong, return their bytes; in a worker.

        Frames of small chunks are left to the caller's thread.
        """
        frames = self._reader.opened(span, wanted)
        written = 0
        with self._turn:
            for opened in frames:
                if opened.mean_chunk >= _SMALL_CHUNKS:
                    written += self._write_frames(opened, places)
                    continue
                self._room.acquire()
                if self._closed:
                    break
                self._events.put(_Handed(opened, places))
        return written

    def _write_frames(self, opened: Opened, places: list[list[Place]]) -> int:
        """Verify frames and write their chunks; return the bytes that were written."""
        written = 0
        for raw, rows in self._reader.verified(opened):
            for file, offset, start, end, chunks in _runs(rows, opened.wanted, places):
                file.write(raw[start:end], offset, chunks)
                written += end - start
        return written


@dataclass(frozen=True, slots=True)
class _Handed:
    """A frame that a worker leaves to the caller's thread."""

    opened: Opened
    places: list[list[Place]]


@dataclass(frozen=True, slots=True)
class _Ended:
    """A span that a worker is done with, after all that it handed over."""

    batch: _Batch
    span: Future[int]


def _runs(
    rows: Sequence[tuple[int, int, int]], wanted: Wanted, places: list[list[Place]]
) -> Iterator[tuple[RestoredFile | SmallFile, int, int, int, int]]:
    """Yield (file, offset in it, start and end in the frame, chunks), neighbours joined.

    Chunks that lie side by side in the frame and in the file are written and hashed as one: 16
    times fewer calls for a large file.
    """
    run: RestoredFile | SmallFile | None = None
    offset = start = end = chunks = 0
    for row, at, length in rows:
        for file, place, size in places[row]:
            if length != size:
                raise CorruptObjectError(
                    f"{file.entry.path}: chunk {wanted.id(row).hex()} has {length} bytes, "
                    f"the manifest says {size}"
                )
            if file is run and at == end and place - offset == end - start:
                end += size
                chunks += 1
                continue
            if run is not None:
                yield run, offset, start, end, chunks
            run, offset, start, end, chunks = file, place, at, at + size, 1
    if run is not None:
        yield run, offset, start, end, chunks
