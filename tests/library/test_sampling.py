"""A push without a cache beside an index over its budget: right in any case, and little is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from chunkstore import Store, chunk_index, layout
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ABSENT, Budget, ChunkIndex
from chunkstore.format.gc import IDLE
from chunkstore.format.index import HEADER_LENGTH, decode_header
from chunkstore.objects import Objects
from chunkstore.segment_cache import SegmentCache
from chunkstore.testing.backends import CountingBackend
from chunkstore.testing.trees import random_bytes
from tests.faults import worlds

SIZE = 6_000_000


@pytest.fixture
def filled(tmp_path: Path) -> tuple[MemoryBackend, Path]:
    """A store of one file and the folder that it came from; chunks of 4 KB, 6 a pack."""
    backend = MemoryBackend()
    worlds.new_store(backend)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random_bytes(SIZE, 1))
    worlds.open_store(backend).push(source, "data")
    return backend, source


def cold(backend: MemoryBackend | CountingBackend, budget: int = 1000) -> Store:
    """Open the store without a cache, with room for no segment that lists its chunks."""
    return Store(backend, worlds.CONFIG, None, budget)


def test_what_is_sampled_is_found_with_what_lies_beside_it(
    filled: tuple[MemoryBackend, Path],
) -> None:
    """Pushed as another dataset, so without a parent, most is found, though packs are tiny here."""
    backend, source = filled
    counting = CountingBackend(backend)
    result = cold(counting).push(source, "copy")
    assert result.stats.new_bytes < SIZE / 2
    assert counting.requests["get"] < 2000
    assert (
        worlds.observe(backend)["copy"].versions[0][1]
        == worlds.observe(backend)["data"].versions[0][1]
    )


def test_the_parents_packs_are_known_whole(filled: tuple[MemoryBackend, Path]) -> None:
    """What a version shares with its parent is found by the directories of the parent's packs."""
    backend, source = filled
    (source / "more").write_bytes(random_bytes(300_000, 2))
    result = cold(backend, 100_000).push(source, "data")
    assert 300_000 <= result.stats.new_bytes < 310_000


def test_correctness_does_not_depend_on_the_sample(
    filled: tuple[MemoryBackend, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is sampled, or segments vanish meanwhile, all is stored again, and whole."""
    backend, source = filled
    monkeypatch.setattr("chunkstore.sampling.LEAST_RATE", 1 << 15)
    result = cold(backend).push(source, "again")
    assert result.stats.new_bytes > SIZE / 2
    index = ChunkIndex(Objects(backend), SegmentCache(None))
    index.load(IDLE, Budget(1000, sampled=True))
    Objects(backend).delete_segments([*Objects(backend).list_segments()])
    assert (index.find(bytes(32) * 3) == ABSENT).all()
    result = cold(backend).push(source, "third")
    assert result.stats.new_bytes == SIZE
    store = worlds.open_store(backend)
    with store.open_file("third:file") as file:
        assert file.read() == random_bytes(SIZE, 1)


@pytest.mark.parametrize("column", [32, 36, 40])
def test_a_damaged_table_of_packs_fails_no_push(
    filled: tuple[MemoryBackend, Path], column: int
) -> None:
    """Lengths, directories and frame counts are checked; what they stand for is stored again."""
    backend, source = filled
    for info in [*backend.list(layout.INDEX)]:
        data = bytearray(backend.get(info.key).data)
        header = decode_header(bytes(data[:HEADER_LENGTH]), len(data), info.key)
        at = header.packs_at + column * header.packs
        data[at : at + 4 * header.packs] = b"\x19" + bytes(4 * header.packs - 1)
        backend.put(info.key, [data], Overwrite())
    assert cold(backend).push(source, "copy").stats.new_bytes == SIZE


def test_a_budget_that_suffices_samples_nothing(filled: tuple[MemoryBackend, Path]) -> None:
    """The whole index is loaded, and every chunk found."""
    backend, source = filled
    result = cold(backend, chunk_index.DEFAULT_BUDGET).push(source, "copy")
    assert result.stats.new_bytes == 0
