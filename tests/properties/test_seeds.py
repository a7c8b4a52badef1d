"""What an older file has of a newer one: only true bytes, all at their place, and moved ones."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.chunker import Chunker
from chunkstore.format.blob import Blob, make_blob
from chunkstore.format.config import ChunkerSpec
from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.ids import ChunkKind, FileHash, chunk_ids
from chunkstore.seeds import Run, SeedFile, ids_of
from chunkstore.testing.trees import random_bytes

CHUNKER = Chunker(ChunkerSpec(min_size=1024, avg_size=2048, max_size=8192))
SIZE = 150_000
MIB = 1024 * 1024
LIST = 20  # chunks of a blob: a file is several blobs


@dataclass(frozen=True)
class Edit:
    """`removed` bytes at `at` give way to `put` new ones."""

    at: int
    removed: int
    put: int


edits = st.builds(Edit, st.integers(0, SIZE), st.integers(0, 9000), st.integers(0, 9000))


def edited(data: bytes, changes: list[Edit]) -> bytes:
    """Return the data with these changes, one after the other."""
    for number, change in enumerate(changes):
        put = random_bytes(change.put, 100 + number)
        data = data[: change.at] + put + data[change.at + change.removed :]
    return data


def blobs_of(data: bytes) -> list[tuple[Blob, int]]:
    """Return the data as blobs of depth 0, with the offset of each."""
    sizes = CHUNKER.cut(memoryview(data), final=True)
    ends = list(itertools.accumulate(sizes, initial=0))
    ids = chunk_ids(ChunkKind.DATA, [data[a:b] for a, b in itertools.pairwise(ends)])
    return [
        (make_blob(0, b"".join(ids[at : at + LIST]), sizes[at : at + LIST]), ends[at])
        for at in range(0, len(sizes), LIST)
    ]


@contextmanager
def seed_of(data: bytes, new: bytes) -> Iterator[SeedFile]:
    """Write an older file and open it as a seed of the new one."""
    blob = make_blob(0, bytes(32), [len(new)])
    entry = Entry("a", EntryKind.FILE, file_hash=FileHash(blake3(new).digest()), blob=blob)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield SeedFile(file.fileno(), CHUNKER, entry)


def take(runs: Iterator[Run], blob: Blob, base: int, missing: np.ndarray, new: bytes) -> int:
    """Check runs and cross them off; return their bytes."""
    taken = 0
    offsets = blob.offsets(base).tolist()
    for run in runs:
        assert run.start < run.end
        assert missing[run.start : run.end].all(), "asked for, and once"
        assert run.offset == offsets[run.start]
        assert run.data == new[run.offset : run.offset + len(run.data)], "the bytes of its place"
        assert len(run.data) == int(blob.size_array()[run.start : run.end].sum())
        missing[run.start : run.end] = False
        taken += len(run.data)
    return taken


def cut(seed: SeedFile, lacking: list[tuple[Blob, int, np.ndarray]]) -> None:
    """Have the seed cut for all that is lacking."""
    seed.cut(np.concatenate([ids_of(blob)[missing] for blob, _, missing in lacking]))


@given(st.lists(edits, max_size=4), st.booleans())
def test_an_older_file_serves_what_it_has(changes: list[Edit], shorter: bool) -> None:
    """All that is at its place is found, then what moved; what is found has the right bytes."""
    old = random_bytes(SIZE, 1)
    new = edited(old, changes)
    if shorter:
        old = old[: SIZE // 2]
    lacking, left = [], 0
    with seed_of(old, new) as seed:
        assert seed.is_same() == (old == new)
        for blob, base in blobs_of(new):
            missing = np.ones(blob.count, np.bool_)
            take(seed.in_place(blob, base, missing), blob, base, missing, new)
            for row, at in enumerate(blob.offsets(base).tolist()):
                size = int(blob.size_array()[row])
                there = old[at : at + size] == new[at : at + size]
                assert missing[row] != (there and len(old) == len(new))
            lacking.append((blob, base, missing))
        cut(seed, lacking)
        for blob, base, missing in lacking:
            take(seed.moved(blob, base, missing), blob, base, missing, new)
            left += int(blob.size_array()[missing].sum())
    put = sum(change.put for change in changes)
    if not shorter:  # each end of an edit costs the chunk it is in, and some until cuts agree again
        assert left <= put + len(changes) * 12 * 8192


@given(st.integers(1, 5000))
def test_a_shifted_file_is_found(shift: int) -> None:
    """Bytes put in at the front cost what is around them, not the file."""
    old = random_bytes(SIZE, 2)
    new = random_bytes(shift, 3) + old
    taken = 0
    with seed_of(old, new) as seed:
        lacking = [(*each, np.ones(each[0].count, np.bool_)) for each in blobs_of(new)]
        for lack in lacking:
            assert not list(seed.in_place(*lack))
        cut(seed, lacking)
        for blob, base, missing in lacking:
            taken += take(seed.moved(blob, base, missing), blob, base, missing, new)
    assert taken > SIZE - 5 * 8192


@given(st.integers(20_000, 40_000), st.integers(0, 20_000), st.integers(20_000, 40_000))
def test_parts_that_changed_places_are_found(first: int, between: int, last: int) -> None:
    """What lies between parts at their place is searched, and found in pieces from anywhere."""
    x, y = random_bytes(first, 5), random_bytes(first, 6)
    middle, rest = random_bytes(between, 7), random_bytes(last, 8)
    old, new = rest + x + middle + y + rest, rest + y + middle + x + rest
    taken = 0
    with seed_of(old, new) as seed:
        lacking = [(*each, np.ones(each[0].count, np.bool_)) for each in blobs_of(new)]
        for blob, base, missing in lacking:
            taken += take(seed.in_place(blob, base, missing), blob, base, missing, new)
        assert taken >= 2 * last - 3 * 8192
        cut(seed, lacking)
        for blob, base, missing in lacking:
            taken += take(seed.moved(blob, base, missing), blob, base, missing, new)
    assert taken > len(new) - 8 * 8192


@given(st.randoms(use_true_random=False))
def test_chunks_in_any_order_are_found(chance: random.Random) -> None:
    """Chunks that are neighbours in the one file and not in the other are read each for itself."""
    new = random_bytes(SIZE, 9)
    ends = list(itertools.accumulate(CHUNKER.cut(memoryview(new), final=True), initial=0))
    pieces = [new[start:end] for start, end in itertools.pairwise(ends)]
    chance.shuffle(pieces)
    taken = 0
    with seed_of(b"".join(pieces), new) as seed:
        lacking = [(*each, np.ones(each[0].count, np.bool_)) for each in blobs_of(new)]
        for blob, base, missing in lacking:
            taken += take(seed.in_place(blob, base, missing), blob, base, missing, new)
        cut(seed, lacking)
        for blob, base, missing in lacking:
            taken += take(seed.moved(blob, base, missing), blob, base, missing, new)
    assert taken > SIZE - 4 * 8192  # the last chunk of the file is cut by its end alone


@given(st.data())
def test_only_what_is_missing_is_asked_for(data: st.DataObject) -> None:
    """A row that is there already is not found again."""
    old = random_bytes(SIZE, 4)
    ((blob, base), *_) = blobs_of(old)
    rows = data.draw(st.lists(st.booleans(), min_size=blob.count, max_size=blob.count))
    missing = np.array(rows, np.bool_)
    expected = int(blob.size_array()[missing].sum())
    with seed_of(old, old) as seed:
        assert take(seed.in_place(blob, base, missing), blob, base, missing, old) == expected
    assert not missing.any()


@pytest.mark.parametrize("at", [0, 3, 11, 22])
def test_what_moved_in_a_large_file_is_found(at: int) -> None:
    """18 MiB in one piece, wherever they were and are."""
    kept, other = random_bytes(18 * MIB, 11), random_bytes(40 * MIB, 12)
    old = other[: at * MIB] + kept + other[at * MIB :]
    new = random_bytes(7 * MIB + 5, 13) + kept + random_bytes(1000, 14)
    taken = 0
    with seed_of(old, new) as seed:
        lacking = [(*each, np.ones(each[0].count, np.bool_)) for each in blobs_of(new)]
        cut(seed, lacking)
        for blob, base, missing in lacking:
            taken += take(seed.moved(blob, base, missing), blob, base, missing, new)
    assert taken > 18 * MIB - 8 * 8192


def test_a_large_file_that_is_quite_different_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of it is read, no more."""
    read = 0
    preadv = os.preadv

    def counted(handle: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        length = preadv(handle, buffers, offset)
        read += length
        return length

    monkeypatch.setattr(os, "preadv", counted)
    old, new = random_bytes(64 * MIB, 15), random_bytes(63 * MIB, 16)
    with seed_of(old, new) as seed:
        cut(seed, [(*each, np.ones(each[0].count, np.bool_)) for each in blobs_of(new)])
        assert read == len(old) // 8
        cut(seed, [(*each, np.ones(each[0].count, np.bool_)) for each in blobs_of(old)])
        assert read == len(old) // 4 + len(old)
        part = old[30 * MIB : 50 * MIB]
        cut(seed, [(*each, np.ones(each[0].count, np.bool_)) for each in blobs_of(part)])
        assert read == 3 * len(old) // 8 + len(old) + 48 * MIB, "only what lies around it"


def test_a_comparison_can_be_stopped() -> None:
    """What was not read to its end is not taken for the same."""
    old = random_bytes(SIZE, 10)
    with seed_of(old, old) as seed:
        assert seed.is_same()
        seed.stop()
        assert not seed.is_same()
