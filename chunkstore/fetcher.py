"""Missing chunks in, written files out: chunks are gathered into batches and fetched by workers.

Each chunk of a batch is fetched once and written to every place that needs it. At most two batches
are under way, and a batch is bounded by bytes, chunks, files and descriptors, so memory does
not grow with the version. Neighbours: `restore` above says what is missing, `reader` gives verified
bytes, `restored_file` takes them.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from chunkstore.errors import CorruptObjectError, FilesystemError
from chunkstore.format.manifest import PackHint
from chunkstore.ids import ChunkKind
from chunkstore.profile import OFF, Clock
from chunkstore.reader import Reader, Span, Wanted
from chunkstore.restored_file import RestoredFile
from chunkstore.target import Folder

_BATCH_SIZE: Final = 32 * 1024 * 1024
_BATCH_CHUNKS: Final = 4096
_BATCH_FILES: Final = 2048
_WORKERS: Final = 4
_MOST_HANDLES: Final = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
"""Descriptors that one batch may need; three are under way at most, and folders and sockets."""

Place: TypeAlias = tuple[RestoredFile, int, int]
"""A file, an offset in it, and the bytes of the chunk that belongs there."""


@dataclass(slots=True)
class _Batch:
    """Missing chunks: each id once, with all the places where it belongs."""

    rows: dict[bytes, int] = field(default_factory=dict)
    places: list[list[Place]] = field(default_factory=list)
    hints: dict[PackHint, None] = field(default_factory=dict)
    folders: set[Folder] = field(default_factory=set)
    handles: int = 0  # part files that may be open at the same time
    files: int = 0
    size: int = 0

    @property
    def full(self) -> bool:
        return (
            self.size >= _BATCH_SIZE
            or len(self.rows) >= _BATCH_CHUNKS
            or self.files >= _BATCH_FILES
            or len(self.folders) + self.handles >= _MOST_HANDLES
        )


class Fetcher:
    """Fetches the missing chunks of one pull. Its methods are called by one thread.

    Attributes:
        written: raw bytes that were written; in a dry run, that would be.
        planned: stored bytes that a dry run would fetch.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        dry_run: bool,
        on_progress: Callable[[], object],
        clock: Clock = OFF,
    ) -> None:
        """`on_progress` is called in the caller's thread whenever a span is done."""
        self._reader = reader
        self._clock = clock
        self._plan = clock.timed("plan", reader.plan)
        self._work = clock.timed("write", self._fetch, lambda written, *_more: written)
        self._dry_run = dry_run
        self._on_progress = on_progress
        self._pool = ThreadPoolExecutor(_WORKERS, "chunkstore-pull")
        self._batch = _Batch()
        self._running: deque[list[Future[int]]] = deque()
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
            self._batch.folders.add(file.folder)
        resumed = file.resume()
        self._batch.handles += resumed or file.entry.blob.count > 1
        return resumed

    def want(
        self, file: RestoredFile, identifier: bytes, at: int, size: int, hints: Sequence[PackHint]
    ) -> None:
        """Have a missing chunk of `size` bytes fetched and written at offset `at` of `file`."""
        if self._batch.full:
            self._flush()
        batch = self._batch
        number = batch.rows.setdefault(identifier, len(batch.rows))
        if number == len(batch.places):
            batch.places.append([])
            batch.size += size
        batch.places[number].append((file, at, size))
        batch.hints.update(dict.fromkeys(hints))
        file.expect()

    def finish(self) -> None:
        """Fetch what is still wanted and wait for all of it."""
        self._flush()
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
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if not batch.rows:
            return
        wanted = Wanted(ChunkKind.DATA, b"".join(batch.rows), tuple(batch.hints))
        spans = self._plan(wanted)
        if self._dry_run:
            self._count(batch, spans)
            return
        self._running.append(
            [self._pool.submit(self._work, span, wanted, batch.places) for span in spans]
        )
        while len(self._running) > 1:
            self._settle()

    def _count(self, batch: _Batch, spans: Sequence[Span]) -> None:
        self.planned += sum(frame.length for span in spans for frame in span.frames)
        for places in batch.places:
            for file, _, size in places:
                self.written += size
                file.received()

    def _settle(self) -> None:
        for future in self._running.popleft():
            self._clock.wait(future)
            self._on_progress()

    def _fetch(self, span: Span, wanted: Wanted, places: list[list[Place]]) -> int:
        """Fetch a span, write its chunks wherever they belong, return their bytes; in a worker."""
        written = 0
        for row, data in self._reader.read(span, wanted):
            for file, offset, size in places[row]:
                if len(data) != size:
                    raise CorruptObjectError(
                        f"{file.entry.path}: chunk {wanted.id(row).hex()} has {len(data)} bytes, "
                        f"the manifest says {size}"
                    )
                file.write(data, offset)
                file.received()
                written += size
        with self._lock:
            self.written += written
        return written
