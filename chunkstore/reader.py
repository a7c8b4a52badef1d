"""Manifests and blobs in, verified bytes out.

Chunks are found by the hints of the manifest, which lead straight to the directories of packs;
where a hint no longer leads to a chunk, the index is asked, and every copy is tried before a chunk
is given up. Whatever leaves this module has the id that was asked for. Implements the read side
of docs/design/consistency.md. Neighbours: `restore` and `stream` above, `directories`,
`chunk_index` and `objects` below.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeAlias

import numpy as np

from chunkstore import layout
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.compression import decompress_frame
from chunkstore.directories import Directories
from chunkstore.errors import CorruptObjectError, IntegrityError, MissingObjectError
from chunkstore.format.blob import Blob, decode_list
from chunkstore.format.document import corrupt
from chunkstore.format.manifest import Entry, Manifest, PackHint, decode_page
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, ManifestId, PackId, chunk_id
from chunkstore.objects import Objects
from chunkstore.profile import OFF, Clock
from chunkstore.recent import Recent
from chunkstore.spans import FrameRead, Span, Wanted, lone_span, spans_of

_FRAME_CACHE: Final = 8 * 1024 * 1024


RawFrame: TypeAlias = tuple[memoryview, tuple[tuple[int, int, int], ...]]
"""Bytes of a raw frame, and (row, offset in it, size) of each verified chunk that is wanted."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Frames of a span on their way to `Reader.verified`.

    Attributes:
        span: where they lie.
        frames: one frame, or all of a span that could not be fetched.
        wanted: what is wanted from them.
        found: the frame, decompressed; the same, verified; or why there is neither.
        keep: whether others may want it soon.
    """

    span: Span
    frames: tuple[FrameRead, ...]
    wanted: Wanted
    found: bytes | memoryview | RawFrame | IntegrityError
    keep: bool = False

    @property
    def mean_chunk(self) -> float:
        """Bytes of a wanted chunk in the mean."""
        wanted = sum(frame.wanted for frame in self.frames)
        return wanted / sum(len(frame.rows) for frame in self.frames)


class Reader:
    """Reads from one store. Thread-safe."""

    def __init__(
        self,
        objects: Objects,
        open_index: Callable[[], ChunkIndex],
        on_fetched: Callable[[int], None] = lambda _: None,
        clock: Clock = OFF,
    ) -> None:
        """`open_index` loads the index, once it is needed; `on_fetched` is told stored bytes."""
        self._read_pack = clock.timed(
            "fetch", objects.read_pack, lambda stored, *_more: len(stored)
        )
        self._decompress = clock.timed("decompress", decompress_frame, lambda raw, *_more: len(raw))
        self._verify = clock.timed("check", self._verified, lambda _, raw, *_more: len(raw))
        self._objects = objects
        self._open_index = open_index
        self._on_fetched = on_fetched
        self._lock = threading.Lock()
        self._index: ChunkIndex | None = None
        self._directories = Directories(objects, on_fetched)
        self._frames: Recent[tuple[PackId, int], bytes] = Recent(_FRAME_CACHE)

    # documents

    def manifest(self, manifest: ManifestId) -> Manifest:
        """Return a manifest, its id verified."""
        return self._objects.get_manifest(manifest)

    def page(self, manifest: Manifest, number: int) -> list[Entry]:
        """Return the entries of one page of a manifest.

        Raises:
            CorruptObjectError, MissingObjectError: the page, or what it lies in.
        """
        ref = manifest.pages[number]
        where = f"page {ref.page_id.hex()}"
        entries = decode_page(self.page_data(manifest, number), where)
        if len(entries) != ref.entries or entries[0].path != ref.first_path:
            corrupt("the page is not the one that the manifest describes", where)
        if number + 1 < len(manifest.pages):
            after = manifest.pages[number + 1].first_path
            if entries[-1].path.encode() >= after.encode():
                corrupt("the page reaches into the next one", where)
        return entries

    def page_data(self, manifest: Manifest, number: int) -> bytes:
        """Return the raw bytes of one page of a manifest.

        Raises:
            CorruptObjectError, MissingObjectError: the page, or what it lies in.
        """
        ref = manifest.pages[number]
        if ref.inline is not None:
            return ref.inline
        hints = [manifest.packs[pack] for pack in ref.packs]
        return self.chunk(Wanted(ChunkKind.PAGE, ref.page_id, hints))

    def children(self, blob: Blob, hints: Sequence[PackHint]) -> Iterator[Blob]:
        """Yield the blobs that the lists of `blob`, of depth 1 or more, hold, in order.

        Raises:
            CorruptObjectError: a list does not have the size or depth that stands above it.
        """
        for row, size in enumerate(blob.size_array().tolist()):
            identifier = blob.ids[row * ID_SIZE : (row + 1) * ID_SIZE]
            data = self.chunk(Wanted(ChunkKind.LIST, identifier, hints))
            where = f"list {identifier.hex()}"
            part = decode_list(data, where)
            if part.size != size or part.depth != blob.depth - 1:
                corrupt("a list has another size or depth than stands above it", where)
            yield part

    def lists(self, blob: Blob, hints: Sequence[PackHint]) -> Iterator[Blob]:
        """Yield the blobs of depth 0 that `blob` consists of, in order."""
        if blob.depth == 0:
            yield blob
            return
        for part in self.children(blob, hints):
            yield from self.lists(part, hints)

    def all_ids(self, blob: Blob, hints: Sequence[PackHint]) -> Iterator[bytes]:
        """Yield all chunk ids of a blob, lists included, some thousands joined at a time."""
        yield blob.ids
        if blob.depth:
            for part in self.children(blob, hints):
                yield from self.all_ids(part, hints)

    def every_id(self, manifest: Manifest) -> Iterator[bytes]:
        """Yield all chunk ids that a version needs, some thousands joined at a time."""
        for number, ref in enumerate(manifest.pages):
            if ref.inline is None:
                yield ref.page_id
            entries = self.page(manifest, number)
            yield b"".join(entry.blob.ids for entry in entries)
            for entry in entries:
                if entry.blob.depth:
                    hints = [manifest.packs[pack] for pack in ref.packs]
                    yield from self.all_ids(entry.blob, hints)

    def chunk(self, wanted: Wanted) -> bytes:
        """Return the bytes of the single chunk in `wanted`, keeping its frame for the next."""
        (span,) = self.plan(wanted)
        ((_, data),) = self.read(span, wanted, keep=True)
        return bytes(data)

    # chunks

    def plan(self, wanted: Wanted, *, ahead: int = 1) -> list[Span]:
        """Return the spans that hold the chunks, in the order of packs and offsets.

        Directories of packs are fetched `ahead` at a time: who wants many chunks will need them.

        Raises:
            MissingObjectError: a chunk that no pack of the store has.
        """
        packs, places = self._directories.locate(wanted, ahead=ahead)
        lost = np.flatnonzero(places.packs == ABSENT)
        if not len(lost):
            return spans_of(packs, places, np.arange(len(places.packs)))
        there = np.flatnonzero(places.packs != ABSENT)
        return spans_of(packs, places, there) + self._plan_by_index(wanted, lost, frozenset())

    def read(
        self, span: Span, wanted: Wanted, *, keep: bool = False
    ) -> Iterator[tuple[int, memoryview]]:
        """Yield (row, verified bytes) of the chunks in a span; see `frames`."""
        for raw, rows in self.frames(span, wanted, keep=keep):
            for row, at, size in rows:
                yield row, raw[at : at + size]

    def frames(self, span: Span, wanted: Wanted, *, keep: bool = False) -> Iterator[RawFrame]:
        """Fetch a span; the iterator decompresses and verifies it, frame by frame.

        Where the span is gone or damaged, other copies of its chunks are tried. Frames of which
        only a part is wanted are kept for a while, with `keep` all are: what comes next often
        lies in the same frame.

        Raises:
            MissingObjectError, CorruptObjectError: no good copy is left.
        """
        opened = self.opened(span, wanted, keep=keep)
        return itertools.chain.from_iterable(map(self.verified, opened))

    def opened(self, span: Span, wanted: Wanted, *, keep: bool = False) -> Iterator[Opened]:
        """Fetch a span; the iterator decompresses it. Its bytes are to be had by `verified` only.

        See `frames`: this is for who has one thread decompress and another one verify.
        """
        frames, kept = list(span.frames), []
        while frames and (found := self._kept(frames[0], span, wanted)) is not None:
            kept.append(Opened(span, (frames[0],), wanted, found))
            del frames[0]
        if not frames:
            return iter(kept)
        if span.lone:
            return iter((self._lone(span, wanted),))
        span = Span(span.pack, tuple(frames))
        try:
            stored = self._fetch(span)
        except IntegrityError as error:
            return itertools.chain(kept, (Opened(span, span.frames, wanted, error),))
        return itertools.chain(kept, self._opened(span, stored, wanted, keep=keep))

    def verified(self, opened: Opened) -> Iterator[RawFrame]:
        """Yield what was opened once its chunks have their ids; see `frames`."""
        found = opened.found
        if isinstance(found, tuple):
            yield found
            return
        if isinstance(found, bytes | memoryview):
            (frame,) = opened.frames
            try:
                verified = self._verify(memoryview(found), frame, opened.span, opened.wanted)
            except CorruptObjectError as error:
                found = error
            else:
                if opened.keep:
                    place = opened.span.pack.pack_id, frame.offset
                    self._frames.put(place, bytes(found), len(found))
                yield verified
                return
        yield from self._read_elsewhere(opened.frames, opened.wanted, opened.span.pack, found)

    def _lone(self, span: Span, wanted: Wanted) -> Opened:
        """Fetch a chunk by its id alone, and verify it."""
        ((row, _, _),) = span.frames[0].rows
        data = self._objects.get_chunk(wanted.kind, wanted.id(row))
        self._on_fetched(len(data))
        frame = FrameRead(0, len(data), len(data), 0, ((row, 0, len(data)),))
        found = self._verified(memoryview(data), frame, span, wanted)
        return Opened(span, (frame,), wanted, found)

    def _opened(
        self, span: Span, stored: memoryview, wanted: Wanted, *, keep: bool
    ) -> Iterator[Opened]:
        for frame in span.frames:
            at = frame.offset - span.start
            found: bytes | memoryview | IntegrityError
            try:
                part, where = stored[at : at + frame.length], _where(span, frame)
                found = self._decompress(frame.codec, part, frame.size, where)
            except CorruptObjectError as error:
                found = error
            yield Opened(span, (frame,), wanted, found, keep or frame.wanted < frame.size)

    def _kept(self, frame: FrameRead, span: Span, wanted: Wanted) -> RawFrame | None:
        """Return a frame that was kept, None where it must be fetched."""
        raw = self._frames.get((span.pack.pack_id, frame.offset))
        if raw is not None:
            with contextlib.suppress(CorruptObjectError):  # read again, then elsewhere
                return self._verified(memoryview(raw), frame, span, wanted)
        return None

    def _fetch(self, span: Span) -> memoryview:
        stored = self._read_pack(span.pack.pack_id, span.start, span.end)
        self._on_fetched(len(stored))
        return memoryview(stored)

    def _verified(self, raw: memoryview, frame: FrameRead, span: Span, wanted: Wanted) -> RawFrame:
        """Return a raw frame once all chunks that are wanted from it have their ids."""
        for row, offset, size in frame.rows:
            if chunk_id(wanted.kind, raw[offset : offset + size]) != wanted.id(row):
                corrupt(f"chunk {wanted.id(row).hex()} does not have its id", _where(span, frame))
        return raw, frame.rows

    def _read_elsewhere(
        self,
        frames: Sequence[FrameRead],
        wanted: Wanted,
        bad: PackHint,
        error: IntegrityError,
    ) -> Iterator[RawFrame]:
        rows = np.array([row for frame in frames for row, _, _ in frame.rows])
        without = wanted.without if isinstance(wanted, _Retried) else frozenset()
        again = _Retried(wanted.kind, wanted.ids, (), without | {bad.pack_id})
        try:
            spans = self._plan_by_index(again, rows, again.without)
        except IntegrityError:  # no other copy, or an index that cannot say where one is
            raise error from None
        for span in spans:
            yield from self.frames(span, again)

    # places

    def _plan_by_index(
        self,
        wanted: Wanted,
        rows: np.ndarray,
        without: frozenset[PackId],
    ) -> list[Span]:
        """Return spans of chunks to which no hint leads.

        Who sees only a part of the index asks for what that lacks by its id.
        """
        ids = b"".join(wanted.id(row) for row in rows.tolist())
        for fresh in (False, True):
            index = self._load_index(fresh=fresh)
            places = index.locate(ids, without=without)
            lost = np.flatnonzero(places.packs == ABSENT)
            if not len(lost) or self._objects.backend.access().narrow:
                there = np.flatnonzero(places.packs != ABSENT)
                numbers = np.unique(places.packs[there])
                packs = [index.pack(number) for number in numbers.tolist()]
                places = replace(places, packs=np.searchsorted(numbers, places.packs))
                lone = [lone_span(wanted, row) for row in rows[lost].tolist()]
                return spans_of(packs, places, there, names=rows) + lone
        self._raise_lost(wanted, wanted.id(int(rows[lost[0]])))

    def _raise_lost(self, wanted: Wanted, lost: ChunkId) -> NoReturn:
        """Say that no pack has a chunk, or that a hinted pack is gone or damaged."""
        for hint in wanted.hints:
            self._objects.read_directory(hint)
        raise MissingObjectError(
            f"missing chunk {lost.hex()}: no pack of the store has it", key=lost.hex()
        )

    def _load_index(self, *, fresh: bool) -> ChunkIndex:
        with self._lock:
            if self._index is None or fresh:
                self._index = self._open_index()
            return self._index


@dataclass(frozen=True, slots=True)
class _Retried(Wanted):
    """Chunks that are read again, without the packs that failed."""

    without: frozenset[PackId]


def _where(span: Span, frame: FrameRead) -> str:
    return f"{layout.pack_key(span.pack.pack_id)} frame at {frame.offset}"
