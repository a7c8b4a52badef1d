"""Manifests and blobs in, verified bytes out.

Chunks are found by the hints of the manifest, which lead straight to the directories of packs;
where a hint no longer leads to a chunk, the index is asked, and every copy is tried before a chunk
is given up. Whatever leaves this module has the id that was asked for. Implements the read side
of docs/design/consistency.md. Neighbours: `restore` and `stream` above, `chunk_index` and
`objects` below.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

import numpy as np

from chunkstore import layout
from chunkstore.chunk_index import ABSENT, ChunkIndex, Places
from chunkstore.compression import decompress_frame
from chunkstore.errors import CorruptObjectError, IntegrityError, MissingObjectError
from chunkstore.format.blob import Blob, decode_list
from chunkstore.format.document import corrupt
from chunkstore.format.manifest import Entry, Manifest, PackHint, decode_page
from chunkstore.format.pack import PackDirectory
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, ManifestId, PackId, chunk_id
from chunkstore.objects import Objects
from chunkstore.profile import OFF, Clock
from chunkstore.recent import Recent

SPAN_LENGTH: Final = 4 * 1024 * 1024
"""Stored bytes that are fetched with one request, where so many lie together."""

_GAP: Final = 64 * 1024
"""Unneeded bytes that are fetched along rather than asking twice: about what a request costs."""

_DIRECTORY_CACHE: Final = 12 * 1024 * 1024
"""About 64 bytes a chunk. Twice as much brought a pull of a million files to 114 MB."""

_FRAME_CACHE: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FrameRead:
    """A frame to be read, and the rows of the chunks that are wanted from it."""

    offset: int
    length: int
    size: int
    codec: int
    rows: tuple[tuple[int, int, int], ...]  # (row, offset in the raw frame, size)

    @property
    def wanted(self) -> int:
        """Bytes of the chunks that are wanted."""
        return sum(size for _, _, size in self.rows)


RawFrame: TypeAlias = tuple[memoryview, tuple[tuple[int, int, int], ...]]
"""Bytes of a raw frame, and (row, offset in it, size) of each verified chunk that is wanted."""


@dataclass(frozen=True, slots=True)
class Span:
    """Frames that lie close together in one pack and are fetched with one request."""

    pack: PackHint
    frames: tuple[FrameRead, ...]

    @property
    def start(self) -> int:
        """Offset of its first byte in the pack."""
        return self.frames[0].offset

    @property
    def end(self) -> int:
        """Offset after its last byte."""
        return self.frames[-1].offset + self.frames[-1].length


@dataclass(frozen=True, slots=True)
class Wanted:
    """Chunks to be read: n joined ids of one kind, and packs in which they may lie."""

    kind: ChunkKind
    ids: bytes
    hints: Sequence[PackHint]

    def id(self, row: int) -> ChunkId:
        """Return the id in that row."""
        return ChunkId(self.ids[row * ID_SIZE : (row + 1) * ID_SIZE])


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
        self._directories: Recent[PackId, tuple[PackDirectory, np.ndarray]] = Recent(
            _DIRECTORY_CACHE
        )
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
        packs, places = self._by_hints(wanted, ahead)
        lost = np.flatnonzero(places.packs == ABSENT)
        if not len(lost):
            return _spans(packs, places, np.arange(len(places.packs)))
        there = np.flatnonzero(places.packs != ABSENT)
        return _spans(packs, places, there) + self._plan_by_index(wanted, lost, frozenset())

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

    def _by_hints(self, wanted: Wanted, ahead: int) -> tuple[list[PackHint], Places]:
        """Return where the chunks lie as far as the directories of the hinted packs say."""
        ids = np.frombuffer(wanted.ids, f"S{ID_SIZE}")
        columns = np.full((7, len(ids)), ABSENT, np.int64)
        packs: list[PackHint] = []
        for number, hint in enumerate(wanted.hints):
            todo = np.flatnonzero(columns[0] == ABSENT)
            if not len(todo):
                break
            opened = self._directories.get(hint.pack_id)
            if opened is None and ahead > 1:
                self._fetch_directories(wanted.hints[number : number + ahead])
            opened = opened or self._directory(hint)
            if opened is None:
                continue
            directory, order = opened
            at = np.searchsorted(directory.ids, ids[todo], sorter=order)
            inside = at < len(order)
            todo, at = todo[inside], order[at[inside]]
            same = directory.ids[at] == ids[todo]
            todo, at = todo[same], at[same]
            frames = directory.chunk_frames[at]
            columns[0][todo] = len(packs)
            columns[1][todo] = directory.frame_offsets[frames]
            columns[2][todo] = directory.frame_lengths[frames]
            columns[3][todo] = directory.frame_sizes[frames]
            columns[4][todo] = directory.frame_codecs[frames]
            columns[5][todo] = directory.chunk_offsets[at]
            columns[6][todo] = directory.sizes[at]
            packs.append(hint)
        return packs, Places(*columns)

    def _fetch_directories(self, hints: Sequence[PackHint]) -> None:
        """Fetch those directories that are not known yet side by side."""
        new = [hint for hint in hints if self._directories.get(hint.pack_id) is None]
        if len(new) > 1:
            with ThreadPoolExecutor(len(new), "chunkstore-directories") as pool:
                list(pool.map(self._directory, new))

    def _directory(self, hint: PackHint) -> tuple[PackDirectory, np.ndarray] | None:
        """Return a pack's directory and the order of its ids; None where it is of no use."""
        found = self._directories.get(hint.pack_id)
        if found is None:
            try:
                directory = self._objects.read_directory(hint)
            except IntegrityError:
                return None  # a hint promises nothing; the index is asked next
            self._on_fetched(hint.length - hint.directory_offset)
            found = (directory, np.argsort(directory.ids, kind="stable"))
            self._directories.put(hint.pack_id, found, len(directory.ids) * 64 + 256)
        return found

    def _plan_by_index(
        self,
        wanted: Wanted,
        rows: np.ndarray,
        without: frozenset[PackId],
    ) -> list[Span]:
        ids = b"".join(wanted.id(row) for row in rows.tolist())
        for fresh in (False, True):
            index = self._load_index(fresh=fresh)
            places = index.locate(ids, without=without)
            lost = np.flatnonzero(places.packs == ABSENT)
            if not len(lost):
                numbers = np.unique(places.packs)
                packs = [index.pack(number) for number in numbers.tolist()]
                columns = (np.searchsorted(numbers, places.packs), *_columns(places)[1:])
                return _spans(packs, Places(*columns), np.arange(len(rows)), names=rows)
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


def _columns(places: Places) -> tuple[np.ndarray, ...]:
    return (
        places.packs,
        places.frame_offsets,
        places.frame_lengths,
        places.frame_sizes,
        places.frame_codecs,
        places.offsets,
        places.sizes,
    )


def _spans(
    packs: Sequence[PackHint],
    places: Places,
    rows: np.ndarray,
    names: np.ndarray | None = None,
) -> list[Span]:
    """Group `rows` of `places` by frame, and neighbouring frames by span.

    `names` has the caller's row number for each row, where that is another one.
    """
    order = rows[np.lexsort((places.offsets[rows], places.frame_offsets[rows], places.packs[rows]))]
    columns = np.stack([column[order] for column in _columns(places)]).T.tolist()
    labels = (order if names is None else names[order]).tolist()
    spans: list[Span] = []
    frames: list[FrameRead] = []
    wanted: list[tuple[int, int, int]] = []
    for number, (pack, offset, length, size, codec, at, chunk) in enumerate(columns):
        wanted.append((labels[number], at, chunk))
        following = columns[number + 1][:2] if number + 1 < len(columns) else [ABSENT, ABSENT]
        if following == [pack, offset]:
            continue
        frames.append(FrameRead(offset, length, size, codec, tuple(wanted)))
        wanted = []
        end = offset + length
        near = following[0] == pack and following[1] - end <= _GAP
        if not near or end - frames[0].offset >= SPAN_LENGTH:
            spans.append(Span(packs[pack], tuple(frames)))
            frames = []
    return spans
