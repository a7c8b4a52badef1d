"""Sampled look-ups in index segments that are not at hand, by ranged reads of the stored objects.

For a writer without a cache beside an index that is too long to fetch. Of the ids that it does not
find, some are looked up: those whose last bytes say so, so that all writers ask for the same. Each
costs one small range a segment; where it is found, its pack's directory is fetched, and that of the
pack stored next, so that the chunks around it are known without a request: data comes in the
order in which it was stored (sparse indexing, Lillibridge et al., FAST 2009). What is not asked for
is stored again. Stands on `objects` and `format.index`; `chunk_index` asks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from chunkstore import layout
from chunkstore.errors import IntegrityError, KeyAbsentError
from chunkstore.format.index import (
    HEADER_LENGTH,
    IndexedPack,
    SegmentHeader,
    check_head,
    decode_head,
    decode_header,
    slot_of,
)
from chunkstore.format.manifest import PackHint
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.lookup import rows_of
from chunkstore.objects import Objects

log = logging.getLogger(__name__)

IntArray: TypeAlias = npt.NDArray[np.int64]

LEAST_RATE: Final = 16
"""At most one id in so many is looked up: in a pack of 512 chunks 32 of them."""

IDS_A_SEGMENT: Final = 4
"""And one in so many for each segment, so that a new chunk costs at most 1/4 request on average."""

_FETCHERS: Final = 8


@dataclass(frozen=True, slots=True)
class _Tables:
    """What is kept of a segment: the fan-out and the packs, 0.3 % of it."""

    segment: SegmentId
    header: SegmentHeader
    fanout: npt.NDArray[np.uint32]
    packs: tuple[PackHint, ...]
    frames_before: IntArray


class Sampling:
    """Segments that are asked by ranges. Thread-safe; requests of one call go side by side."""

    def __init__(self, objects: Objects, segments: Mapping[SegmentId, int]) -> None:
        """Begin with the lengths of those segments, the newest first; asks for nothing yet."""
        self._objects = objects
        self._segments = segments
        wanted = max(LEAST_RATE, IDS_A_SEGMENT * len(segments))
        self.rate = min(1 << 15, 1 << (wanted - 1).bit_length())
        self._lock = threading.Lock()
        self._tables: list[_Tables] | None = None
        self._next: dict[PackId, PackHint] = {}
        self._brought: set[PackId] = set()

    def chosen(self, ids: bytes) -> npt.NDArray[np.bool_]:
        """Return which of n joined ids belong to the sample, (n,)."""
        tails = np.frombuffer(ids, "<u2")[ID_SIZE // 2 - 1 :: ID_SIZE // 2]
        return np.asarray(tails % self.rate == 0)

    def packs_of(self, ids: list[bytes]) -> list[IndexedPack]:
        """Look ids up in every segment; return the packs that hold them, and those after them.

        Raises:
            BackendError: the storage fails.
        """
        with self._lock, ThreadPoolExecutor(_FETCHERS, "chunkstore-sample") as pool:
            if self._tables is None:
                loaded = pool.map(self._load, self._segments.items())
                self._tables = [tables for tables in loaded if tables is not None]
            pairs = [(tables, chunk) for chunk in ids for tables in self._tables]
            hits = [hint for hint in pool.map(self._look_up, pairs) if hint is not None]
            after = [self._next[hint.pack_id] for hint in hits if hint.pack_id in self._next]
            return self._bring(pool, [*hits, *after])

    def after(self, packs: list[PackId]) -> list[IndexedPack]:
        """Return the packs that were stored after these, if they were not returned before."""
        with self._lock:
            wanted = [self._next[pack] for pack in packs if pack in self._next]
            if all(hint.pack_id in self._brought for hint in wanted):
                return []
            with ThreadPoolExecutor(_FETCHERS, "chunkstore-sample") as pool:
                return self._bring(pool, wanted)

    def _bring(self, pool: ThreadPoolExecutor, hints: list[PackHint]) -> list[IndexedPack]:
        fresh = {hint.pack_id: hint for hint in hints if hint.pack_id not in self._brought}
        self._brought.update(fresh)
        found = pool.map(lambda hint: indexed(self._objects, hint), fresh.values())
        return [pack for pack in found if pack is not None]

    def _load(self, named: tuple[SegmentId, int]) -> _Tables | None:
        """Fetch the fan-out and the packs of a segment; None where it is gone or no segment."""
        segment, length = named
        key = layout.segment_key(segment)
        try:
            start = self._objects.segment_range(segment, 0, HEADER_LENGTH)
            header = decode_header(start, length, key)
            more = self._objects.segment_range(segment, HEADER_LENGTH, header.frames_at)
            head = decode_head(start + more, header, key)
            check_head(head, header.entries, key)
        except (KeyAbsentError, IntegrityError) as error:
            log.warning("cannot look chunks up in %s: %s", key, error)
            return None
        joined = head.pack_ids.tobytes()
        ids = [PackId(joined[at : at + ID_SIZE]) for at in range(0, len(joined), ID_SIZE)]
        columns = head.pack_lengths.tolist(), head.pack_directories.tolist()
        packs = tuple(map(PackHint, ids, *columns))
        self._next.update(zip(ids, packs[1:], strict=False))
        frames_before = np.cumsum(head.pack_frames, dtype=np.int64)
        return _Tables(segment, header, head.fanout, packs, frames_before)

    def _look_up(self, pair: tuple[_Tables, bytes]) -> PackHint | None:
        tables, chunk = pair
        header = tables.header
        slot = slot_of(chunk, header.fanout_bits)
        first, end = int(tables.fanout[slot]), int(tables.fanout[slot + 1])
        if first == end:
            return None
        segment, ids_at = tables.segment, header.ids_at
        try:
            ids = self._objects.segment_range(
                segment, ids_at + ID_SIZE * first, ids_at + ID_SIZE * end
            )
            row = next(rows_of(chunk, ids), None)
            if row is None:
                return None
            at = header.rows_at + 4 * (first + row)
            frame = int.from_bytes(self._objects.segment_range(segment, at, at + 4), "little")
        except KeyAbsentError:
            return None  # merged meanwhile: what it had is stored again
        number = int(np.searchsorted(tables.frames_before, frame, "right"))
        return tables.packs[number] if number < len(tables.packs) else None


def indexed(objects: Objects, hint: PackHint) -> IndexedPack | None:
    """Return a pack with its directory, None where it is gone or damaged.

    A hint promises nothing: what that pack had is sent again.
    """
    try:
        directory = objects.read_directory(hint)
    except IntegrityError:
        return None
    return IndexedPack(hint.pack_id, hint.length, hint.directory_offset, directory)
