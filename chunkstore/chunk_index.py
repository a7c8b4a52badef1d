"""The merged index: is a chunk here, and where. Look-ups come in batches.

What a ChunkIndex knows is the *view* of docs/design/consistency.md: entries of the loaded
segments whose pack was seen to exist with the right length after they were loaded, and is not
condemned. Any part of the truth is a safe view: what it lacks is sent again.

Segments are searched *newest first*: those that this view published, then what the store lists in
the order of its clock. So where a chunk is stored twice, the younger copy is taken. A merge keeps
that order among what it merges, and what it makes counts as new: a preference, not a promise.

Stands on `objects`; neighbours are `segment_cache` and `format.index`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from chunkstore import layout
from chunkstore.compaction import to_merge
from chunkstore.format.gc import IDLE, GcState
from chunkstore.format.index import (
    IndexedPack,
    IndexSegment,
    decode_segment,
    encode_segment,
    merge_segments,
    open_segment,
)
from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import IdArray
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.objects import Objects
from chunkstore.segment_cache import SegmentCache

log = logging.getLogger(__name__)

IntArray: TypeAlias = npt.NDArray[np.int64]
U64Array: TypeAlias = npt.NDArray[np.uint64]

DEFAULT_BUDGET: Final = 512 * 1024 * 1024
"""Bytes of index segments that a writer downloads; above it, it works with a partial view."""

_HEADS_BEFORE_LIST: Final = 3
_RELISTS: Final = 3
_FETCHERS: Final = 8

ABSENT: Final = -1


class Budget(NamedTuple):
    """What loading the index may cost: bytes and requests for segments that are not cached."""

    length: int = DEFAULT_BUDGET
    requests: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Places:
    """Where n chunks lie, as columns; `packs` has numbers for `ChunkIndex.pack`, or ABSENT."""

    packs: IntArray
    frame_offsets: IntArray
    frame_lengths: IntArray
    frame_sizes: IntArray
    frame_codecs: IntArray
    offsets: IntArray
    sizes: IntArray


@dataclass(slots=True)
class _Loaded:
    identifier: SegmentId | None  # None: made of directories of packs
    segment: IndexSegment
    numbers: IntArray  # for each pack of the segment, its number in the whole index
    heads: U64Array | None = None  # see `_heads_of`; of what this view published


class ChunkIndex:
    """A view of the store's chunks. Thread-safe; its look-ups are serialised."""

    def __init__(self, objects: Objects, cache: SegmentCache) -> None:
        self._objects = objects
        self._cache = cache
        self._lock = threading.RLock()
        self._segments: list[_Loaded] = []  # newest first
        self._ids: set[SegmentId] = set()
        self._packs: list[PackHint] = []
        self._numbers: dict[PackId, int] = {}
        self._alive: list[bool | None] = []  # None: not asked yet
        self._condemned: frozenset[PackId] = frozenset()
        self._lengths: dict[SegmentId, int] = {}

    def start(self, state: GcState) -> None:
        """Begin an empty view, to which `add_packs` adds; asks for no segment."""
        with self._lock:
            self._forget(self._objects.read_condemned(state))

    def load(self, state: GcState, budget: Budget | None = None) -> bool:
        """Forget everything and load the segments that the store has now.

        Call it after `state` was read, never before. Segments that are not cached are downloaded
        smallest first while the budget lasts. Returns whether all of them were loaded.

        Raises:
            CorruptObjectError: a segment is damaged.
        """
        budget = budget or Budget()
        with self._lock:
            self._forget(self._objects.read_condemned(state))
            for _ in range(_RELISTS):
                self._lengths = self._objects.list_segments()
                vanished, complete = self._load_listed(budget)
                if not vanished:
                    break
            self._sort()
            self._cache.trim({segment.hex() for segment in self._lengths})
            return complete and not vanished

    def load_for_reading(self) -> None:
        """Load every segment, whatever that costs, for one who looks for a chunk to read.

        Who reads may take a chunk from a condemned pack as long as that is there.
        """
        if not self.load(IDLE, Budget(length=1 << 62)):
            log.warning("the index was replaced again and again while it was being read")

    def _forget(self, condemned: frozenset[PackId]) -> None:
        self._segments.clear()
        self._ids.clear()
        self._packs.clear()
        self._numbers.clear()
        self._alive.clear()
        self._condemned = condemned

    def _load_listed(self, budget: Budget) -> tuple[bool, bool]:
        """Load what is listed; return whether a segment had vanished, and whether all are here."""
        left, requests, complete = budget.length, budget.requests, True
        for segment, length in sorted(self._lengths.items(), key=lambda item: item[1]):
            if segment in self._ids:
                continue
            data = self._cache.get(segment, length)
            if data is None:
                if length > left or requests < 1:
                    complete = False
                    continue
                left, requests = left - length, requests - 1
                data = self._download(segment)
                if data is None:
                    return True, False
            opened = open_segment(data, layout.segment_key(segment))
            self._add(segment, opened, alive=None)
        return False, complete

    def _sort(self) -> None:
        """Bring what was loaded into the order of `_lengths`; what is listed no more comes last."""
        ranks: dict[SegmentId | None, int] = {s: rank for rank, s in enumerate(self._lengths)}
        self._segments.sort(key=lambda item: ranks.get(item.identifier, len(ranks)))

    def _download(self, segment: SegmentId) -> memoryview | None:
        """Fetch, check and cache a segment; None where it is gone.

        The bytes that were fetched are let go on return, before the next segment is fetched:
        with segments of 113 MB a push needed 296 MB when two were held at a time, 190 so.
        """
        fetched = self._objects.get_segment(segment)
        if fetched is None:
            return None
        decode_segment(fetched, layout.segment_key(segment))
        return self._cache.put(segment, fetched)

    def add_packs(self, packs: Sequence[IndexedPack]) -> None:
        """Take packs whose directories were read just now, so that they are known to exist."""
        with self._lock:
            fresh = [pack for pack in packs if pack.pack_id not in self._condemned]
            if fresh:
                segment = decode_segment(encode_segment(fresh), "pack directories")
                self._add(None, segment, alive=True)

    def publish(self, packs: Sequence[IndexedPack]) -> int:
        """Store a segment of packs that are durable, and know their chunks; return its length.

        From now on look-ups prefer these copies.
        """
        data = encode_segment(packs)
        segment = self._objects.put_segment(data)
        heads = _heads_of(open_segment(data, layout.segment_key(segment)).ids)
        view = self._cache.put(segment, data)
        opened = open_segment(view, layout.segment_key(segment))
        with self._lock:
            self._lengths = {segment: len(data)} | self._lengths
            self._add(segment, opened, alive=True, heads=heads)
        return len(data)

    def _add(
        self,
        identifier: SegmentId | None,
        segment: IndexSegment,
        *,
        alive: bool | None,
        heads: U64Array | None = None,
    ) -> None:
        numbers = np.empty(len(segment.pack_lengths), np.int64)
        ids = segment.pack_ids.tobytes()
        for at, (length, directory) in enumerate(
            zip(segment.pack_lengths.tolist(), segment.pack_directories.tolist(), strict=True)
        ):
            pack = PackId(ids[at * ID_SIZE : (at + 1) * ID_SIZE])
            number = self._numbers.get(pack)
            if number is None:
                number = self._numbers[pack] = len(self._packs)
                self._packs.append(PackHint(pack, length, directory))
                self._alive.append(False if pack in self._condemned else alive)
            elif alive and pack not in self._condemned:
                self._alive[number] = True
            numbers[at] = number
        self._segments.insert(0, _Loaded(identifier, segment, numbers, heads))
        if identifier is not None:
            self._ids.add(identifier)

    def pack(self, number: int) -> PackHint:
        """Return the pack with that number; numbers hold until the next `load`."""
        return self._packs[number]

    def find_packs(self, packs: Sequence[PackId]) -> IntArray:
        """Return for each of n packs its number where the view holds it, or ABSENT: (n,).

        A segment lists a pack whole or not at all, so `find` knows every chunk of a pack that is
        held: who knows that all chunks of something lie in such packs need not look them up.
        Costs a dict look-up each, and for packs not met before one HEAD each where they are few,
        one LIST of all packs where they are many. Holds until the next `load`.
        """
        with self._lock:
            numbers = np.array([self._numbers.get(pack, ABSENT) for pack in packs], np.int64)
            known = np.flatnonzero(numbers != ABSENT)
            gone = known[~self._usable(numbers[known], None)]
            numbers[gone] = ABSENT
        return numbers

    def find(self, ids: bytes) -> IntArray:
        """Return for each of n joined ids the number of a pack that holds it, or ABSENT: (n,).

        Of several copies that of the newest segment is taken.
        """
        wanted = np.frombuffer(ids, f"S{ID_SIZE}")
        found = np.full(len(wanted), ABSENT, np.int64)
        with self._lock:
            for loaded in self._segments:
                todo = np.flatnonzero(found == ABSENT)
                if not len(todo):
                    break
                for rows, at in self._hits(loaded, wanted, todo):
                    found[rows] = self._pack_numbers(loaded, at)
        return found

    def locate(self, ids: bytes, *, without: frozenset[PackId] = frozenset()) -> Places:
        """Return where n joined ids lie, leaving out copies in the packs `without`."""
        wanted = np.frombuffer(ids, f"S{ID_SIZE}")
        columns = np.full((7, len(wanted)), ABSENT, np.int64)
        with self._lock:
            barred = {self._numbers[pack] for pack in without if pack in self._numbers}
            for loaded in self._segments:
                todo = np.flatnonzero(columns[0] == ABSENT)
                if not len(todo):
                    break
                segment = loaded.segment
                for rows, at in self._hits(loaded, wanted, todo, barred):
                    frames = segment.frames[at]
                    columns[0][rows] = self._pack_numbers(loaded, at)
                    columns[1][rows] = segment.frame_offsets[frames]
                    columns[2][rows] = segment.frame_lengths[frames]
                    columns[3][rows] = segment.frame_sizes[frames]
                    columns[4][rows] = segment.frame_codecs[frames]
                    columns[5][rows] = segment.offsets[at]
                    columns[6][rows] = segment.sizes[at]
        return Places(*columns)

    @property
    def entries(self) -> int:
        """How many entries are loaded; an id may have several."""
        with self._lock:
            return sum(len(loaded.segment.ids) for loaded in self._segments)

    def measure(self, ids: bytes) -> tuple[IntArray, IntArray, npt.NDArray[np.float64]]:
        """Return what n joined ids take up: entry, size and stored bytes of each, (n,) each.

        The entry is a number below `entries` which is the same whenever the id is asked for, or
        ABSENT. A chunk's stored bytes are the part of its frame's that its size has in the frame.
        """
        wanted = np.frombuffer(ids, f"S{ID_SIZE}")
        numbers = np.full(len(wanted), ABSENT, np.int64)
        sizes, stored = np.zeros(len(wanted), np.int64), np.zeros(len(wanted))
        with self._lock:
            before = 0
            for loaded in self._segments:
                segment = loaded.segment
                todo = np.flatnonzero(numbers == ABSENT)
                for rows, at in self._hits(loaded, wanted, todo):
                    frames = segment.frames[at]
                    numbers[rows] = before + at
                    sizes[rows] = segment.sizes[at]
                    share = segment.frame_lengths[frames] / np.maximum(
                        segment.frame_sizes[frames], 1
                    )
                    stored[rows] = segment.sizes[at] * share
                before += len(segment.ids)
        return numbers, sizes, stored

    def _pack_numbers(self, loaded: _Loaded, at: IntArray) -> IntArray:
        return loaded.numbers[loaded.segment.frame_packs[loaded.segment.frames[at]]]

    def _hits(
        self,
        loaded: _Loaded,
        wanted: npt.NDArray[np.bytes_],
        todo: IntArray,
        barred: set[int] | None = None,
    ) -> list[tuple[IntArray, IntArray]]:
        """Return (rows of `wanted`, entries of the segment) that agree and lie in live packs.

        An id may stand several times, once for each pack that holds it; where the pack of the
        first is gone, the next is tried.
        """
        ids, heads = loaded.segment.ids, loaded.heads
        if not len(ids):
            return []
        if heads is not None:
            sought = _heads_of(wanted[todo])
            nearest = np.minimum(np.searchsorted(heads, sought), len(heads) - 1)
            todo = todo[heads[nearest] == sought]
        at = np.searchsorted(ids, wanted[todo])
        hits: list[tuple[IntArray, IntArray]] = []
        while len(todo):
            inside = at < len(ids)
            todo, at = todo[inside], at[inside]
            same = ids[at] == wanted[todo]
            todo, at = todo[same], at[same]
            usable = self._usable(self._pack_numbers(loaded, at), barred)
            if usable.any():
                hits.append((todo[usable], at[usable]))
            todo, at = todo[~usable], at[~usable] + 1
        return hits

    def _usable(self, packs: IntArray, barred: set[int] | None) -> npt.NDArray[np.bool_]:
        distinct = np.unique(packs).tolist()
        unasked = [number for number in distinct if self._alive[number] is None]
        if len(unasked) > _HEADS_BEFORE_LIST:
            self._list_packs()
        else:
            for number in unasked:
                pack = self._packs[number]
                self._alive[number] = self._objects.pack_length(pack.pack_id) == pack.length
        good = [n for n in distinct if self._alive[n] and n not in (barred or ())]
        return np.isin(packs, good)

    def _list_packs(self) -> None:
        """Settle for every pack whether it exists, by one LIST."""
        seen = {
            number
            for pack, length in self._objects.list_packs()
            if (number := self._numbers.get(pack)) is not None
            and self._packs[number].length == length
        }
        for number, alive in enumerate(self._alive):
            if alive is None:
                self._alive[number] = number in seen

    def totals(self) -> tuple[int, int]:
        """Return (different chunks, their raw bytes) of all that is loaded."""
        with self._lock:
            if not self._segments:
                return 0, 0
            ids = np.concatenate([loaded.segment.ids for loaded in self._segments])
            sizes = np.concatenate([loaded.segment.sizes for loaded in self._segments])
        _, first = np.unique(ids, return_index=True)
        return len(first), int(sizes[first].sum(dtype=np.uint64))

    def compact(self, *, relist: bool = False) -> None:
        """Merge small segments where the store has more than 32 of them.

        First the merged one is stored, then the old ones are deleted, so nothing that is true
        is ever missing. Two writers who do it at once leave doubled entries, which do no harm.
        With `relist` the segments are listed first, for a view that was never loaded. What is
        not loaded is fetched; where another writer has merged it meanwhile, nothing is done.

        Raises:
            CorruptObjectError: a segment is damaged; nothing was merged.
        """
        with self._lock:
            if relist:
                self._lengths = self._objects.list_segments()
            chosen = set(to_merge(self._lengths))
            old = [segment for segment in self._lengths if segment in chosen]  # newest first
            if not old:
                return
            loaded = {item.identifier: item.segment for item in self._segments}
            with ThreadPoolExecutor(_FETCHERS) as pool:
                parts = list(pool.map(lambda s: loaded.get(s) or self._fetch(s), old))
            segments = [part for part in parts if part is not None]
            if len(segments) < len(old):
                return
            data = merge_segments(segments, without=frozenset())
            merged = self._objects.put_segment(data)
            self._cache.put(merged, data)
            self._objects.delete_segments([segment for segment in old if segment != merged])
            for segment in old:
                del self._lengths[segment]
            self._lengths = {merged: len(data)} | self._lengths
            log.info("merged %d index segments into %s", len(old), merged.hex())

    def _fetch(self, segment: SegmentId) -> IndexSegment | None:
        """Return a segment that the view need not have, or None where it is gone."""
        where = layout.segment_key(segment)
        data = self._cache.get(segment, self._lengths[segment])
        if data is not None:
            return open_segment(data, where)
        fetched = self._objects.get_segment(segment)
        return None if fetched is None else decode_segment(fetched, where)


def _heads_of(ids: IdArray) -> U64Array:
    """Return the first eight bytes of n ids as numbers, in the order of the ids: (n,).

    What a segment lacks is told by them. So a push that goes on to look up new chunks does not
    touch the pages of the segments that it published itself: those, 44 bytes a chunk, came to
    40 MB of memory with a million chunks. With four bytes one in 4,000 look-ups among a million
    is mistaken, and each such touches ten runs of pages, which were 15 MB after half of them.
    """
    return np.ascontiguousarray(ids).view(">u8")[:: ID_SIZE // 8].astype(np.uint64)
