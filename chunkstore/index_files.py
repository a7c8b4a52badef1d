"""The whole index in one temporary file, read by ranges of ids, beside the packs that exist.

For who goes through all of it, such as the collector: entries of every segment come range by range
in the order of ids, each with the number of its pack in a table of all packs of the store. Only
tables of packs and frames are in memory: about 60 bytes a pack and 4 a frame. `chunk_index` is for
who looks some chunks up. Neighbours: `objects` below, `planning` and `reindexing` above.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore import layout
from chunkstore.errors import ConflictError, KeyAbsentError
from chunkstore.format.index import (
    HEADER_LENGTH,
    ROWS_AT_ONCE,
    IndexSegment,
    SegmentHeader,
    check_rows,
    check_tables,
    decode_head,
    decode_header,
    open_segment,
)
from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import IdArray, U32Array
from chunkstore.id_runs import (
    Mask,
    as_ids,
    contained,
    in_range,
    ranges,
)
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.objects import Objects
from chunkstore.temporary import read_exactly, temporary_file, write_all

IntArray = npt.NDArray[np.int64]

ABSENT: Final = -1

_ROWS: Final = 1 << 18
"""Entries that are looked at side by side: about 60 MB with what is made of them."""

_RELISTS: Final = 20


@dataclass(frozen=True, slots=True)
class StoredPacks:
    """The P packs that a LIST has shown, by id; what the index says of them where it does.

    Attributes:
        ids: `S32` (P,), ascending.
        lengths: stored bytes (P,).
        modified: seconds since the epoch by the storage's clock (P,).
        condemned: whether a collector may delete it (P,).
        ranks: which pack's copy of a chunk is taken, the least: first those that are not condemned,
            then the newest (P,).
        indexed: whether a segment lists it, with its true length (P,).
        directories: offset of the directory of those that are indexed (P,).
    """

    ids: IdArray
    lengths: IntArray
    modified: npt.NDArray[np.float64]
    condemned: Mask
    ranks: IntArray
    indexed: Mask
    directories: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def id(self, number: int) -> PackId:
        """Return the id of the pack with that number."""
        return PackId(self.ids[number : number + 1].tobytes())

    def hint(self, number: int) -> PackHint:
        """Return where the directory of an indexed pack is."""
        return PackHint(self.id(number), int(self.lengths[number]), int(self.directories[number]))


@dataclass(frozen=True, slots=True)
class Rows:
    """Entries of one range, by id; of one id the copy that is taken first stands first.

    That is the one in the pack of the least rank. Which that is does not depend on the segments, so
    that a collection which rewrites these comes to the same result when it is run again.

    Attributes:
        ids: `S32` (n,).
        packs: number of the pack in StoredPacks (n,).
        sizes: raw bytes of the chunk (n,).
    """

    ids: IdArray
    packs: IntArray
    sizes: U32Array

    def first_copies(self) -> Mask:
        """Return which rows are the first of their id."""
        first = np.ones(len(self.ids), bool)
        first[1:] = self.ids[1:] != self.ids[:-1]
        return first


@dataclass(slots=True, eq=False)
class SegmentFile:
    """One segment in the file.

    Attributes:
        identifier: its id.
        length: its stored bytes.
        at: where it begins in the file.
        header: its counts.
        fanout: entries before each slot.
        pack_ids, pack_lengths, pack_directories: its packs.
        frame_packs: the number of each frame's pack in the segment.
        numbers: of each of its packs the number in StoredPacks, ABSENT where it is not to be used.
        gone: which of its packs no LIST has shown.
    """

    identifier: SegmentId
    length: int
    at: int
    header: SegmentHeader
    fanout: U32Array
    pack_ids: IdArray
    pack_lengths: U32Array
    pack_directories: U32Array
    frame_packs: U32Array
    numbers: IntArray
    gone: Mask

    def bounds(self, first: int, end: int) -> tuple[int, int]:
        """Return between which rows all entries of a range stand, and perhaps a few others."""
        shift = 64 - self.header.fanout_bits
        low, high = first >> shift, ((end - 1) >> shift) + 1
        return int(self.fanout[low]), int(self.fanout[high])


class IndexFiles:
    """All segments of a store, and its packs. Not thread-safe; `close` it."""

    def __init__(self, objects: Objects, folder: str | None) -> None:
        """Begin with nothing; the file lies in `folder`, None for that of temporary files."""
        self._objects = objects
        self._file = temporary_file(folder)
        self._end = 0
        self._kept: dict[SegmentId, SegmentFile] = {}
        self.segments: list[SegmentFile] = []
        """Newest first."""
        self.packs = _no_packs()

    def __enter__(self) -> IndexFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back. Calling it twice is fine."""
        self._file.close()

    @property
    def entries(self) -> int:
        """How many entries there are; a chunk may have several."""
        return sum(segment.header.entries for segment in self.segments)

    def load(self, condemned: Collection[PackId]) -> None:
        """Bring this up to what the store has now: first the segments, then LIST packs/.

        In that order, as W0 has it: a pack that a segment names was durable before the segment,
        so one that the later LIST lacks was deleted. Segments that are here are not fetched again.

        Raises:
            ConflictError: others replaced segments again and again while they were read.
            CorruptObjectError: a segment is damaged.
        """
        for _ in range(_RELISTS):
            listed = self._objects.list_segments()
            found = [self._kept.get(s) or self._fetch(s, n) for s, n in listed.items()]
            self.segments = [segment for segment in found if segment is not None]
            self._kept = {segment.identifier: segment for segment in self.segments}
            if len(self.segments) == len(listed):
                break
        else:
            raise ConflictError(
                "the index was replaced again and again while it was being read",
                hint="run the same command again",
            )
        self.packs = self._list_packs(condemned)
        self._number_packs()

    def rows(self, first: int, end: int) -> Rows:
        """Return the entries of a range that are in packs which exist."""
        ids: list[IdArray] = [as_ids(b"")]
        packs: list[IntArray] = [np.zeros(0, np.int64)]
        sizes: list[U32Array] = [np.zeros(0, "<u4")]
        for segment in self.segments:
            low, high = segment.bounds(first, end)
            if low < high:
                found = self._entries(segment, low, high)
                keep = (found[1] != ABSENT) & in_range(found[0], first, end)
                ids.append(found[0][keep])
                packs.append(found[1][keep])
                sizes.append(found[2][keep])
        joined, numbers = np.concatenate(ids), np.concatenate(packs)
        order = np.argsort(joined, kind="stable")  # quick: what is joined is sorted already
        rows = Rows(joined[order], numbers[order], np.concatenate(sizes)[order])
        firsts = rows.first_copies()
        if firsts.all():
            return rows
        order = np.lexsort((self.packs.ranks[rows.packs], np.cumsum(firsts)))
        return Rows(rows.ids, rows.packs[order], rows.sizes[order])

    def ranges(self, others: int = 0) -> Iterator[tuple[int, int]]:
        """Yield ranges that cover all ids; of these, and of `others`, each has a bounded part."""
        return ranges(max(self.entries, others), _ROWS)

    def mapped(self, segment: SegmentFile) -> IndexSegment:
        """Return all columns of a segment, over a mapping of the file."""
        return open_segment(memoryview(self._map(segment.at, segment.length)), _where(segment))

    # helpers

    def _fetch(self, identifier: SegmentId, length: int) -> SegmentFile | None:
        """Fetch and check a segment; None where it is gone."""
        start = self._end
        self._file.seek(start)
        try:
            for piece in self._objects.segment_pieces(identifier, length):
                write_all(self._file, piece)
        except KeyAbsentError:
            return None
        granularity = mmap.ALLOCATIONGRANULARITY  # the next one must begin where it can be mapped
        self._end = (start + length + granularity - 1) // granularity * granularity
        return self._opened(identifier, length, start)

    def _opened(self, identifier: SegmentId, length: int, at: int) -> SegmentFile:
        mapping, where = self._map(at, length), layout.segment_key(identifier)
        columns = open_segment(memoryview(mapping), where)
        check_tables(columns, where)
        for row in range(0, len(columns.ids), ROWS_AT_ONCE):
            check_rows(columns, row, row + ROWS_AT_ONCE, where)
            mapping.madvise(mmap.MADV_DONTNEED)
        header = decode_header(bytes(mapping[:HEADER_LENGTH]), length, where)
        head = decode_head(mapping[: header.frames_at], header, where)
        unknown = np.full(header.packs, ABSENT, np.int64)
        return SegmentFile(
            identifier,
            length,
            at,
            header,
            head.fanout.copy(),
            head.pack_ids.copy(),
            head.pack_lengths.copy(),
            head.pack_directories.copy(),
            columns.frame_packs,
            unknown,
            np.zeros(header.packs, bool),
        )

    def _map(self, at: int, length: int) -> mmap.mmap:
        return mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ, offset=at)

    def _entries(
        self, segment: SegmentFile, low: int, high: int
    ) -> tuple[IdArray, IntArray, U32Array]:
        """Return ids, packs and sizes of the entries in these rows."""
        rows_at, entries = segment.at + segment.header.rows_at, segment.header.entries
        count = high - low
        ids = self._read(count * ID_SIZE, segment.at + segment.header.ids_at + low * ID_SIZE)
        frames = np.frombuffer(self._read(4 * count, rows_at + 4 * low), "<u4")
        sizes = self._read(4 * count, rows_at + 4 * (2 * entries + low))
        packs = segment.numbers[segment.frame_packs[frames]]
        return as_ids(ids), packs, np.frombuffer(sizes, "<u4")

    def _read(self, length: int, offset: int) -> bytes:
        return read_exactly(self._file, length, offset)

    def _list_packs(self, condemned: Collection[PackId]) -> StoredPacks:
        ids, lengths, modified = bytearray(), array("q"), array("d")
        for pack in self._objects.stored_packs():
            ids += pack.pack_id
            lengths.append(pack.length)
            modified.append(pack.modified)
        joined, times = as_ids(bytes(ids)), np.array(modified, np.float64)
        leaving = np.isin(joined, np.array(sorted(condemned), f"S{ID_SIZE}"))
        ranks = np.empty(len(joined), np.int64)
        ranks[np.lexsort((-times, leaving))] = np.arange(len(joined))
        return StoredPacks(
            ids=joined,
            lengths=np.array(lengths, np.int64),
            modified=times,
            condemned=leaving,
            ranks=ranks,
            indexed=np.zeros(len(joined), bool),
            directories=np.zeros(len(joined), np.int64),
        )

    def _number_packs(self) -> None:
        """Find each segment's packs among those that are listed.

        Of segments that list the same pack the newest speaks for it: its chunks count once.
        """
        packs = self.packs
        for segment in self.segments:
            listed = contained(segment.pack_ids, packs.ids)
            inside = np.where(listed, np.searchsorted(packs.ids, segment.pack_ids), 0)
            segment.gone = ~listed
            usable = listed.copy()
            rows = np.flatnonzero(listed)
            numbers = inside[rows]
            same = packs.lengths[numbers] == segment.pack_lengths[rows]
            usable[rows] = same & ~packs.indexed[numbers] & _first_of_each(numbers)
            segment.numbers = np.where(usable, inside, ABSENT)
            chosen = segment.numbers[usable]
            packs.indexed[chosen] = True
            packs.directories[chosen] = segment.pack_directories[usable]


def _first_of_each(numbers: IntArray) -> Mask:
    first = np.zeros(len(numbers), bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first


def _no_packs() -> StoredPacks:
    none = np.zeros(0, np.int64)
    nothing = np.zeros(0, bool)
    return StoredPacks(as_ids(b""), none, np.zeros(0), nothing, none, nothing, none)


def _where(segment: SegmentFile) -> str:
    return layout.segment_key(segment.identifier)
