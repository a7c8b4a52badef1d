"""The merged index: is a chunk here, and where. Look-ups come in batches.

What a ChunkIndex knows is the *view* of docs/design/consistency.md: entries of the loaded
segments whose pack was seen to exist with the right length after they were loaded, and is not
condemned. Any part of the truth is a safe view: what it lacks is sent again.

Segments are searched *newest first*: those that this view published, then what the store lists in
the order of its clock. So where a chunk is stored twice, the younger copy is taken. A merge keeps
that order among what it merges, and what it makes counts as new: a preference, not a promise.

Stands on `segment_loader`, which brings the segments, and `pack_table`; neighbour: `view`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, TypeVar

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
)
from chunkstore.format.manifest import PackHint
from chunkstore.id_runs import ranges
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.lookup import (
    DamagedSegmentError,
    EntryColumns,
    Matches,
    Searched,
    SegmentInMemory,
)
from chunkstore.objects import Objects
from chunkstore.pack_table import ABSENT, PackTable
from chunkstore.sampling import Sampling
from chunkstore.segment_cache import SegmentCache
from chunkstore.segment_loader import SegmentLoader

__all__ = ["ABSENT", "Budget", "ChunkIndex", "Places"]

log = logging.getLogger(__name__)

IntArray: TypeAlias = npt.NDArray[np.int64]

DEFAULT_BUDGET: Final = 512 * 1024 * 1024
"""Bytes of index segments that a writer downloads; above it, it works with a partial view."""

_SHARE: Final = 8
_RELISTS: Final = 3
_FETCHERS: Final = 4
"""Segments that are fetched at once: of a long one a piece each is in memory."""

_SUMMED_AT_ONCE: Final = 500_000

T = TypeVar("T")


class Budget(NamedTuple):
    """What loading the index may cost: bytes and requests for segments that are not cached.

    Where it is `sampled` and they are longer, an eighth of the bytes is spent on the shortest, and
    `find` looks some ids up in the others by ranged reads.
    """

    length: int = DEFAULT_BUDGET
    requests: int = 1 << 30
    sampled: bool = False


ALL: Final = Budget(length=1 << 62)
"""All of it, whatever that costs."""


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
    segment: Searched
    base: int  # the number of its first pack in the whole index


class ChunkIndex:
    """A view of the store's chunks. Thread-safe; its look-ups are serialised."""

    def __init__(self, objects: Objects, cache: SegmentCache) -> None:
        self._objects = objects
        self._cache = cache
        self._loader = SegmentLoader(objects, cache)
        self._lock = threading.RLock()
        self._segments: list[_Loaded] = []  # newest first
        self._ids: set[SegmentId] = set()
        self._packs = PackTable(objects)
        self._sampling: Sampling | None = None
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
        if not self.load(IDLE, ALL):
            log.warning("the index was replaced again and again while it was being read")

    def _forget(self, condemned: frozenset[PackId]) -> None:
        self._segments.clear()
        self._ids.clear()
        self._packs = PackTable(self._objects, condemned)
        self._sampling = None
        self._loader.forget()

    def _load_listed(self, budget: Budget) -> tuple[bool, bool]:
        """Load what is listed; return whether a segment had vanished, and whether all are here."""
        absent: list[SegmentId] = []
        cached = 0
        for segment, length in sorted(self._lengths.items(), key=lambda item: item[1]):
            if segment in self._ids:
                continue
            opened = self._loader.cached(segment, length)
            if opened is None:
                absent.append(segment)
            else:
                cached += length
                self._add(segment, opened, alive=False)
        # More than the cache keeps would be fetched again by the next push, and the next.
        left, requests = budget.length, budget.requests
        if budget.length < ALL.length:
            left = min(left, self._cache.bound - cached)
        sampled = budget.sampled and sum(self._lengths[segment] for segment in absent) > left
        left = left // _SHARE if sampled else left
        wanted: list[SegmentId] = []
        for segment in absent:
            length = self._lengths[segment]
            if length <= left and requests > 0:
                wanted.append(segment)
                left, requests = left - length, requests - 1
        with ThreadPoolExecutor(_FETCHERS, "chunkstore-index") as pool:
            fetched = list(pool.map(lambda s: self._loader.fetched(s, self._lengths[s]), wanted))
        for segment, found in zip(wanted, fetched, strict=True):
            if found is not None:
                self._add(segment, found, alive=False)
        if sampled:
            others = {s: n for s, n in self._lengths.items() if s in absent and s not in wanted}
            self._sampling = Sampling(self._objects, others)
        return None in fetched, len(wanted) == len(absent)

    def _ask(self, loaded: _Loaded, question: Callable[[Searched], T]) -> T:
        try:
            return question(loaded.segment)
        except DamagedSegmentError:
            assert loaded.identifier is not None
            loaded.segment = self._loader.mended(loaded.identifier)
            return question(loaded.segment)

    def _places(self, loaded: _Loaded, hits: Matches) -> EntryColumns | None:
        """Return where those entries lie, or None where their segment is gone."""
        return self._ask(loaded, lambda s: s.places(hits.at) if s.entries else None)

    def _sort(self) -> None:
        """Bring what was loaded into the order of `_lengths`; what is listed no more comes last."""
        ranks: dict[SegmentId | None, int] = {s: rank for rank, s in enumerate(self._lengths)}
        self._segments.sort(key=lambda item: ranks.get(item.identifier, len(ranks)))

    def add_packs(self, packs: Sequence[IndexedPack]) -> None:
        """Take packs whose directories were read just now, so that they are known to exist."""
        if packs:
            segment = decode_segment(encode_segment(packs), "pack directories")
            with self._lock:
                self._add(None, SegmentInMemory(segment), alive=True)

    def publish(self, packs: Sequence[IndexedPack]) -> int:
        """Store a segment of packs that are durable, and know their chunks; return its length.

        From now on look-ups prefer these copies.
        """
        data = encode_segment(packs)
        segment = self._objects.put_segment(data)
        kept = self._loader.keep(segment, data)
        with self._lock:
            self._lengths = {segment: len(data)} | self._lengths
            self._add(segment, kept, alive=True)
        return len(data)

    def _add(self, identifier: SegmentId | None, segment: Searched, *, alive: bool) -> None:
        columns = (segment.pack_ids, segment.pack_lengths, segment.pack_directories)
        base = self._packs.add(*columns, alive=alive)
        self._segments.insert(0, _Loaded(identifier, segment, base))
        if identifier is not None:
            self._ids.add(identifier)

    @property
    def pack_count(self) -> int:
        """How many packs have numbers, whether they exist or not."""
        return len(self._packs)

    def pack(self, number: int) -> PackHint:
        """Return the pack with that number; numbers hold until the next `load`."""
        return self._packs.hint(number)

    def find_packs(self, packs: Sequence[PackId]) -> IntArray:
        """Return for each of n packs its number where the view holds it, or ABSENT: (n,).

        A segment lists a pack whole or not at all, so `find` knows every chunk of a pack that is
        held: who knows that all chunks of something lie in such packs need not look them up.
        Costs a search among all packs each, and for packs not met before one HEAD each where they
        are few, one LIST of all packs where they are many. Holds until the next `load`.
        """
        with self._lock:
            numbers = self._packs.numbers(packs)
            known = np.flatnonzero(numbers != ABSENT)
            numbers[known[~self._packs.exist(numbers[known])]] = ABSENT
        return numbers

    def find(self, ids: bytes) -> IntArray:
        """Return for each of n joined ids the number of a pack that holds it, or ABSENT: (n,).

        Of several copies that of the newest segment is taken. Where segments are sampled, what
        is not found may cost requests; see `Budget`.
        """
        found = self._find(ids)
        if self._sampling is not None and ids:
            more = self._sampled(self._sampling, ids, found)
            if more:
                self.add_packs(more)
                lacking = found == ABSENT
                left = np.frombuffer(ids, f"S{ID_SIZE}")[lacking].tobytes()
                found[lacking] = self._find(left)
        return found

    def _sampled(self, sampling: Sampling, ids: bytes, found: IntArray) -> list[IndexedPack]:
        """Return packs that hold ids of the sample, and those that were stored after them."""
        rows = np.flatnonzero(sampling.chosen(ids))
        here = {int(number) for number in found[rows] if number != ABSENT}
        packs = sampling.after([self.pack(number).pack_id for number in here])
        lacking = rows[found[rows] == ABSENT].tolist()
        wanted = {ids[row * ID_SIZE : row * ID_SIZE + ID_SIZE] for row in lacking}
        return [*packs, *(sampling.packs_of(list(wanted)) if wanted else ())]

    def _find(self, ids: bytes) -> IntArray:
        found = np.full(len(ids) // ID_SIZE, ABSENT, np.int64)
        with self._lock:
            for _, hits, numbers in self._hits(ids):
                found[hits.rows] = numbers
        return found

    def locate(self, ids: bytes, *, without: frozenset[PackId] = frozenset()) -> Places:
        """Return where n joined ids lie, leaving out copies in the packs `without`."""
        columns = np.full((7, len(ids) // ID_SIZE), ABSENT, np.int64)
        with self._lock:
            for loaded, hits, numbers in self._hits(ids, self._packs.all_numbers(without)):
                places = self._places(loaded, hits)
                if places is None:
                    continue
                columns[0][hits.rows] = numbers
                for column, values in zip(columns[1:], places, strict=True):
                    column[hits.rows] = values
        return Places(*columns)

    @property
    def entries(self) -> int:
        """How many entries are loaded; an id may have several."""
        with self._lock:
            return sum(loaded.segment.entries for loaded in self._segments)

    def measure(self, ids: bytes) -> tuple[IntArray, IntArray, npt.NDArray[np.float64]]:
        """Return what n joined ids take up: entry, size and stored bytes of each, (n,) each.

        The entry is a number below `entries` which is the same whenever the id is asked for, or
        ABSENT. A chunk's stored bytes are the part of its frame's that its size has in the frame.
        """
        count = len(ids) // ID_SIZE
        entries = np.full(count, ABSENT, np.int64)
        sizes, stored = np.zeros(count, np.int64), np.zeros(count)
        with self._lock:
            before: dict[int, int] = {}
            total = 0
            for loaded in self._segments:
                before[loaded.base] = total
                total += loaded.segment.entries
            for loaded, hits, _ in self._hits(ids):
                places = self._places(loaded, hits)
                if places is None:
                    continue
                entries[hits.rows] = before[loaded.base] + hits.at
                sizes[hits.rows] = places.sizes
                share = places.frame_lengths / np.maximum(places.frame_sizes, 1)
                stored[hits.rows] = places.sizes * share
        return entries, sizes, stored

    def _hits(
        self, ids: bytes, barred: IntArray | None = None
    ) -> Iterator[tuple[_Loaded, Matches, IntArray]]:
        """Yield for each segment, newest first, which ids it is the first to have in a live pack.

        With each goes the number of its pack. An id may stand several times in a segment, once
        for each pack that holds it; where the pack of the first is gone, the next is taken.
        """
        todo = np.arange(len(ids) // ID_SIZE)
        left = ids
        for loaded in list(self._segments):
            if not len(todo):
                return
            found = self._ask(loaded, lambda s: s.matches(left))  # noqa: B023  # asked at once
            if not len(found.rows):
                continue
            numbers = found.packs + loaded.base
            good = self._packs.exist(numbers)
            if barred is not None and len(barred):
                good &= ~np.isin(numbers, barred)
            rows, first = np.unique(found.rows[good], return_index=True)
            if not len(rows):
                continue
            first = np.flatnonzero(good)[first]
            yield loaded, Matches(todo[rows], found.at[first], found.packs[first]), numbers[first]
            keep = np.ones(len(todo), bool)
            keep[rows] = False
            todo = todo[keep]
            left = np.frombuffer(left, f"S{ID_SIZE}")[keep].tobytes()

    def totals(self) -> tuple[int, int]:
        """Return (different chunks, their raw bytes) of all that is loaded.

        Goes through it by ranges of ids, so the memory that it takes is bounded.
        """
        chunks = size = 0
        with self._lock:
            for first, end in ranges(self.entries, _SUMMED_AT_ONCE):
                found = [
                    self._ask(loaded, lambda s: s.rows_between(first, end))  # noqa: B023
                    for loaded in self._segments
                ]
                if found:
                    ids, rows = np.unique(np.concatenate([f[0] for f in found]), return_index=True)
                    chunks += len(ids)
                    sizes = np.concatenate([f[1] for f in found])[rows]
                    size += int(sizes.sum(dtype=np.uint64))
        return chunks, size

    def compact(self, *, relist: bool = False) -> None:
        """Merge small segments where the store has more than 32 of them.

        First the merged one is stored, then the old ones are deleted, so nothing that is true
        is ever missing. Two writers who do it at once leave doubled entries, which do no harm.
        With `relist` the segments are listed first, for a view that was never loaded. What is
        not loaded is fetched; where another writer has merged it meanwhile, nothing is done, nor
        where this one may delete nothing.

        Raises:
            CorruptObjectError: a segment is damaged; nothing was merged.
        """
        with self._lock:
            if relist:
                self._lengths = self._objects.list_segments()
            chosen = set(to_merge(self._lengths))
            old = [segment for segment in self._lengths if segment in chosen]  # newest first
            if not old or not self._objects.backend.access().deletes:
                return
            loaded = {
                item.identifier: item.segment.segment
                for item in self._segments
                if isinstance(item.segment, SegmentInMemory)
            }

            def columns(segment: SegmentId) -> IndexSegment | None:
                return loaded.get(segment) or self._loader.whole(segment, self._lengths[segment])

            with ThreadPoolExecutor(_FETCHERS) as pool:
                parts = list(pool.map(columns, old))
            segments = [part for part in parts if part is not None]
            if len(segments) < len(old):
                return
            data = merge_segments(segments, without=frozenset())
            merged = self._objects.put_segment(data)
            self._cache.keep(merged, data, layout.segment_key(merged))
            self._objects.delete_segments(old)
            for segment in old:
                del self._lengths[segment]
            self._lengths = {merged: len(data)} | self._lengths
            log.info("merged %d index segments into %s", len(old), merged.hex())
