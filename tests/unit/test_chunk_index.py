"""Look-ups in the index are those in a dict of its segments, the newest first."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import compaction, layout, lookup, segment_loader
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.format.index import IndexedPack, encode_segment
from chunkstore.ids import PackId
from chunkstore.lookup import CachedSegment
from chunkstore.objects import Objects
from chunkstore.segment_cache import SegmentCache
from chunkstore.testing import strategies
from tests.properties.test_index import many_packs

Place: TypeAlias = tuple[bytes, int, int, int, int, int, int]
"""A pack and the other columns of `Places`."""


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[list[IndexedPack]], set[PackId]]:
    """Segments, the oldest first, and those of their packs that are gone."""
    segments, known = [], set()
    for packs in draw(st.lists(strategies.indexed_packs(), max_size=5)):
        fresh = [pack for pack in packs if pack.pack_id not in known]
        known.update(pack.pack_id for pack in fresh)
        segments.append(fresh)
    return segments, draw(st.sets(st.sampled_from(sorted(known)))) if known else set()


def stored(segments: list[list[IndexedPack]], gone: set[PackId]) -> MemoryBackend:
    """Return a store with those segments, each put a second after the one before."""
    clock = itertools.count()
    backend = MemoryBackend(clock=lambda: float(next(clock)))
    objects = Objects(backend)
    for number, packs in enumerate(segments):
        objects.put_segment(encode_segment(packs, nonce=bytes([number]) * 16))
        for pack in packs:
            if pack.pack_id not in gone:
                backend.put(layout.pack_key(pack.pack_id), [bytes(pack.length)], Overwrite())
    return backend


@contextlib.contextmanager
def searched_in_files() -> Iterator[None]:
    """Search every cached segment in its file, in blocks of two entries."""
    with mock.patch.object(segment_loader, "_HELD", 0), mock.patch.object(lookup, "_BLOCK", 2):
        yield


def opened(backend: MemoryBackend, folder: str | None = None) -> ChunkIndex:
    index = ChunkIndex(Objects(backend), SegmentCache(folder))
    index.load_for_reading()
    return index


def dict_of(segments: list[list[IndexedPack]], gone: set[PackId]) -> dict[bytes, Place]:
    """Return where each chunk lies: its first copy in the newest segment that has a live one."""
    places: dict[bytes, Place] = {}
    for pack in itertools.chain.from_iterable(reversed(segments)):
        if pack.pack_id in gone:
            continue
        d = pack.directory
        ids = d.ids.tobytes()
        for row, frame in enumerate(d.chunk_frames.tolist()):
            columns = (d.frame_offsets, d.frame_lengths, d.frame_sizes, d.frame_codecs)
            place = tuple(int(column[frame]) for column in columns)
            chunk = int(d.chunk_offsets[row]), int(d.sizes[row])
            places.setdefault(ids[row * 32 : row * 32 + 32], (pack.pack_id, *place, *chunk))
    return places


def check(index: ChunkIndex, places: dict[bytes, Place], ids: list[bytes]) -> None:
    """Hold the answers of the index against those of the dict."""
    joined = b"".join(ids)
    numbers = index.find(joined).tolist()
    assert [n if n == ABSENT else index.pack(n).pack_id for n in numbers] == [
        places[i][0] if i in places else ABSENT for i in ids
    ]
    found = index.locate(joined)
    columns = [found.packs, found.frame_offsets, found.frame_lengths, found.frame_sizes]
    columns += [found.frame_codecs, found.offsets, found.sizes]
    for row, identifier in enumerate(ids):
        number, *rest = (int(column[row]) for column in columns)
        if identifier in places:
            assert (index.pack(number).pack_id, *rest) == places[identifier]
        else:
            assert number == ABSENT


def every_id(segments: list[list[IndexedPack]]) -> list[bytes]:
    known = {
        pack.directory.ids.tobytes()[at : at + 32]
        for pack in itertools.chain.from_iterable(segments)
        for at in range(0, len(pack.directory.ids) * 32, 32)
    }
    near = {identifier[:-1] + bytes([identifier[-1] ^ 1]) for identifier in known}
    return [*known, *near - known, bytes(32), b"\xff" * 32, b"absent".ljust(32)]


@given(stores(), st.sampled_from([None, "memory", "files"]))
def test_look_ups_are_those_in_a_dict(
    store: tuple[list[list[IndexedPack]], set[PackId]], cached: str | None
) -> None:
    """Of copies the newest live one is taken; without a cache, in memory and in files of it."""
    segments, gone = store
    backend, places, ids = stored(segments, gone), dict_of(segments, gone), every_id(segments)
    in_files = searched_in_files() if cached == "files" else contextlib.nullcontext()
    with TemporaryDirectory() as folder, in_files:
        for _ in range(2):  # fetched, then cached
            index = opened(backend, folder if cached else None)
            check(index, places, ids)
            packs = [pack.pack_id for part in segments for pack in part] + [PackId(b"?" * 32)]
            held = index.find_packs(packs).tolist()
            assert [number != ABSENT for number in held] == [
                pack not in gone and pack != b"?" * 32 for pack in packs
            ]
            every = {i: p for i, p in dict_of(segments, set()).items() if p}
            assert index.totals() == (len(every), sum(place[6] for place in every.values()))


@given(stores(), st.data())
def test_damage_of_the_cache_changes_no_answer(
    store: tuple[list[list[IndexedPack]], set[PackId]], data: st.DataObject
) -> None:
    """Whatever bytes change in its files, before it is opened or after: each answer is right."""
    segments, gone = store
    backend, places, ids = stored(segments, gone), dict_of(segments, gone), every_id(segments)
    with TemporaryDirectory() as folder, searched_in_files():
        opened(backend, folder)
        early = data.draw(st.booleans())
        index = None if early else opened(backend, folder)
        for path in sorted(Path(folder).iterdir()):
            content = bytearray(path.read_bytes())
            for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
                content[at] ^= data.draw(st.integers(1, 255))
            path.write_bytes(content)  # in place: who has it open reads the change
        check(index or opened(backend, folder), places, ids)


@pytest.mark.parametrize("merged", [False, True])
def test_places_that_are_damaged_come_from_the_store(merged: bool) -> None:
    """Where another writer has merged the segment meanwhile, its chunks are no longer known."""
    packs = many_packs(1000, packs=5)
    backend, places, ids = stored([packs], set()), dict_of([packs], set()), every_id([packs])
    with TemporaryDirectory() as folder, mock.patch.object(segment_loader, "_HELD", 0):
        opened(backend, folder)
        index = opened(backend, folder)
        (segment,) = index._segments
        (path,) = Path(folder).iterdir()
        content = bytearray(path.read_bytes())
        sizes_at = len(encode_segment(packs)) - 4 * segment.segment.entries
        content[sizes_at:-1000] = bytes(len(content[sizes_at:-1000]))
        path.write_bytes(content)  # ids are found, offsets and sizes are not
        if merged:
            backend.delete([layout.segment_key(segment.identifier)])
        joined = b"".join(ids)
        found, measured = index.locate(joined), index.measure(joined)
        assert (found.packs != ABSENT).any() == (measured[0] != ABSENT).any() == (not merged)
        check(index, {} if merged else places, ids)


@given(stores())
def test_a_merge_changes_no_answer(store: tuple[list[list[IndexedPack]], set[PackId]]) -> None:
    """Merged as many segments as there are, each chunk is found where it was found before."""
    segments, gone = store
    backend, places, ids = stored(segments, gone), dict_of(segments, gone), every_id(segments)
    index = opened(backend)
    most, compaction.MOST_SEGMENTS = compaction.MOST_SEGMENTS, 1
    try:
        index.compact()
    finally:
        compaction.MOST_SEGMENTS = most
    assert len(Objects(backend).list_segments()) <= 1
    check(index, places, ids)
    check(opened(backend), places, ids)


@pytest.mark.parametrize("entries", [1000, 70_000])
def test_many_entries_are_found_in_a_file(entries: int) -> None:
    """A segment of many blocks and steps: all that is there, and nothing else, is found."""
    packs = many_packs(entries, packs=5)
    backend, places = stored([packs], set()), dict_of([packs], set())
    ids = every_id([packs])
    absent = [bytes(reversed(i)) for i in ids[:2000]]
    with TemporaryDirectory() as folder, mock.patch.object(segment_loader, "_HELD", 0):
        index = opened(backend, folder)
        assert isinstance(index._segments[0].segment, CachedSegment)
        check(index, places, ids[-1000:] + absent)
        assert index.totals() == (len(places), 7 * len(places))


@given(strategies.indexed_packs(), strategies.indexed_packs())
def test_what_was_published_is_preferred(old: list[IndexedPack], new: list[IndexedPack]) -> None:
    """A copy that this view stored itself is taken before any that was there."""
    known = {pack.pack_id for pack in old}
    new = [pack for pack in new if pack.pack_id not in known]
    backend = stored([old], set())
    index = opened(backend)
    if new:
        index.publish(new)
    check(index, dict_of([old, new], set()), every_id([old, new]))
    assert np.array_equal(index.find(b""), np.zeros(0, np.int64))
