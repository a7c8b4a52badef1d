"""Merging in tiers: few short segments, no long one rewritten, each entry rewritten seldom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chunkstore.compaction import (
    MOST_AT_ONCE,
    MOST_MERGED,
    MOST_SEGMENTS,
    SMALL,
    is_due,
    to_merge,
)
from chunkstore.ids import SegmentId

lengths = st.lists(st.integers(40, 4 * SMALL) | st.integers(40, 5000), max_size=150)


def named(values: list[int]) -> dict[SegmentId, int]:
    return {SegmentId(number.to_bytes(32, "big")): value for number, value in enumerate(values)}


@given(lengths)
def test_a_merge_is_bounded_and_takes_the_smallest(values: list[int]) -> None:
    """At most 64 segments and 16 MiB, none that is long; at least two where there are too many."""
    segments = named(values)
    chosen = to_merge(segments)
    assert len(chosen) == len(set(chosen)) <= MOST_AT_ONCE
    taken = sorted(segments[segment] for segment in chosen)
    assert taken == sorted(values)[: len(chosen)]
    assert sum(taken) <= MOST_MERGED
    assert all(length < SMALL for length in taken)
    too_many = sum(value < SMALL for value in values) > MOST_SEGMENTS
    assert (len(chosen) >= 2) == too_many


@given(st.lists(st.integers(40, 100_000), min_size=200, max_size=600))
def test_pushes_keep_the_short_segments_few_and_rewrite_little(pushes: list[int]) -> None:
    """With a look at the segments after each 16 pushes they stay below 49, at doubling cost."""
    segments: dict[SegmentId, int] = {}
    written = 0
    for number, length in enumerate(pushes):
        segments[SegmentId(number.to_bytes(32, "big"))] = length
        if number % 16 == 0 and (chosen := to_merge(segments)):
            merged = sum(segments.pop(segment) for segment in chosen)
            segments[SegmentId((1 << 40 | number).to_bytes(32, "big"))] = merged
            written += merged
        short = sum(value < SMALL for value in segments.values())
        assert short <= MOST_SEGMENTS + 16
    assert sum(segments.values()) == sum(pushes)
    assert written <= sum(pushes) * len(pushes).bit_length()


@given(st.integers(0, 255), st.integers(1, 1 << 40))
def test_one_of_sixteen_versions_is_due(first: int, version: int) -> None:
    """Whatever the dataset."""
    assert sum(is_due(first, version + more) for more in range(16)) == 1
