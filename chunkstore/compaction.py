"""Which index segments are merged, so that they stay few and no push rewrites a large index.

Pure. Only *small* segments are merged, the smallest first, and never more bytes at once than
`MOST_MERGED`; what a merge makes is on average twice as long as its longest part, so an entry is
rewritten about as often as lengths can be doubled, whatever the size of the store.
`chunk_index` does the merging.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chunkstore.ids import SegmentId
from chunkstore.limits import MIB

MOST_SEGMENTS: Final = 32
"""More small segments than this are merged by the push that finds them."""

SMALL: Final = 8 * MIB
"""Segments of this length or more, about 190,000 entries, are never merged again."""

MOST_MERGED: Final = 2 * SMALL
"""Bytes that one merge takes in; it was seen to take 83 MB of memory for 16.4 MB, and 0.14 s."""

MOST_AT_ONCE: Final = 64
"""Segments that one merge takes in, each of which may have to be fetched."""

_EACH: Final = 16


def to_merge(lengths: Mapping[SegmentId, int]) -> list[SegmentId]:
    """Return the segments to merge into one, the smallest first; none while there are few.

    At most 16 small ones are left by it, where the bounds of one merge allow that; beyond those
    it goes on while the next is no longer than all that were taken, so that equals are merged.
    """
    small = sorted((length, segment) for segment, length in lengths.items() if length < SMALL)
    if len(small) <= MOST_SEGMENTS:
        return []
    chosen: list[SegmentId] = []
    total, most_left = 0, MOST_SEGMENTS // 2
    for length, segment in small[:MOST_AT_ONCE]:
        enough = len(small) - len(chosen) < most_left
        if total + length > MOST_MERGED or (enough and length > total):
            break
        chosen.append(segment)
        total += length
    return chosen


def is_due(dataset_byte: int, version: int) -> bool:
    """Whether a push too small to list the segments looks after them: each sixteenth of a dataset.

    `dataset_byte` is any byte that differs between datasets, so that those of one version each
    have their turn as well.
    """
    return (dataset_byte + version) % _EACH == 0
