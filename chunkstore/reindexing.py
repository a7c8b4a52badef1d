"""The index without packs that go: segments are replaced first, then deleted; small ones merged.

Step G7 of docs/design/consistency.md. What is written is bounded, about 16 MiB a segment, and so is
what is held: a long segment is split by its packs, each of which stays whole. Neighbours:
`index_files` has the segments, `format.index` merges, `gc` asks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from chunkstore.compaction import MOST_MERGED, MOST_SEGMENTS, SMALL
from chunkstore.format.index import merge_segments
from chunkstore.id_runs import Mask, id_list
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.index_files import IndexFiles, SegmentFile
from chunkstore.objects import Objects


@dataclass(slots=True)
class _Batch:
    """What goes into one new segment: segments, and their packs that are left out."""

    segments: list[SegmentFile] = field(default_factory=list)
    without: set[PackId] = field(default_factory=set)
    length: int = 0
    packs: int = 0


def rewrite(objects: Objects, index: IndexFiles, gone: Collection[PackId]) -> int:
    """Replace the segments that list packs which are `gone`, or which exist no more.

    Returns how many segments went. New ones are stored before the old ones are deleted, so no
    entry of a pack that stays is ever missing. Small segments are merged where there are many.
    """
    leaving = np.array(sorted(gone), f"S{ID_SIZE}")
    stale = {s.identifier: _left_out(s, leaving) for s in index.segments}
    chosen = [s for s in index.segments if stale[s.identifier].any()]
    chosen += _small_ones(index.segments, chosen)
    chosen = [s for s in index.segments if s in chosen]  # newest first
    for batch in _batches(chosen, stale):
        parts = [index.mapped(segment) for segment in batch.segments]
        objects.put_segment(merge_segments(parts, without=frozenset(batch.without)))
    old = [segment.identifier for segment in chosen]
    for start in range(0, len(old), 1000):
        objects.delete_segments(old[start : start + 1000])
    return len(old)


def _left_out(segment: SegmentFile, leaving: np.ndarray) -> Mask:
    left_out: Mask = segment.gone | np.isin(segment.pack_ids, leaving)
    return left_out


def _small_ones(segments: list[SegmentFile], chosen: list[SegmentFile]) -> list[SegmentFile]:
    """Return the small segments where these are many, but for those that are chosen already."""
    small = [s for s in segments if s.length < SMALL and s not in chosen]
    return small if len(small) > MOST_SEGMENTS else []


def _batches(chosen: list[SegmentFile], stale: dict[SegmentId, Mask]) -> Iterator[_Batch]:
    """Yield what goes together, each about as long as one merge may be; none without packs."""
    batch = _Batch()
    for segment in chosen:
        staying = np.flatnonzero(~stale[segment.identifier])
        share = segment.length / max(1, len(segment.pack_ids))
        parts = max(1, round(share * len(staying) / MOST_MERGED))
        for part in np.array_split(staying, parts) if len(staying) else ():
            length = int(share * len(part))
            full = batch.length + length > MOST_MERGED or segment in batch.segments
            if batch.packs and full:
                yield batch
                batch = _Batch()
            out = np.ones(len(segment.pack_ids), bool)
            out[part] = False
            batch.segments.append(segment)
            batch.without.update(PackId(pack) for pack in id_list(segment.pack_ids[out]))
            batch.length += length
            batch.packs += len(part)
    if batch.packs:
        yield batch
