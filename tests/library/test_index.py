"""The index loses nothing when it is merged, and nothing depends on the local cache of it."""

from __future__ import annotations

import io
import random
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.compaction import MOST_SEGMENTS
from chunkstore.objects import Objects
from chunkstore.testing.backends import MeddlingBackend
from chunkstore.testing.trees import random_bytes, tree_state
from tests.conftest import Place
from tests.faults import worlds
from tests.faults.worlds import copy_of, new_store, observe, open_store


@pytest.fixture(autouse=True)
def whole_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pushes load the whole index here."""
    worlds.small_is_large(monkeypatch)


def segments_of(backend: MemoryBackend) -> int:
    return len(Objects(backend).list_segments())


def stream(store: Store, number: int) -> None:
    store.push(io.BytesIO(random_bytes(25_000, number)), f"data-{number % 4}", name="file")


def test_more_than_32_segments_become_one() -> None:
    """The push that finds too many merges them; every version is still found by the index."""
    backend = worlds.fragmented(MOST_SEGMENTS)
    before = observe(backend)
    stream(open_store(backend), 1)
    assert segments_of(backend) == 1
    assert observe(backend) | before == observe(backend)


def test_merging_with_racing_writers_loses_nothing() -> None:
    """Writers push and merge at once, again and again: every acknowledged version is whole."""
    backend = worlds.fragmented(MOST_SEGMENTS - 2)

    def work(writer: int) -> None:
        for number in range(20):
            stream(open_store(backend), writer * 100 + number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    world = observe(backend)  # which looks every chunk up in the index
    assert sum(len(line.versions) for name, line in world.items() if name != "tiny") == 120
    assert segments_of(backend) <= MOST_SEGMENTS + 6


def test_a_segment_that_vanishes_under_a_reader_is_looked_for_again() -> None:
    """Another writer merges between the listing and the reading of each segment."""
    backend = worlds.fragmented(MOST_SEGMENTS)

    def meddle(_: int, method: str, key: str) -> None:
        if method == "get" and key.startswith("index/") and not met:
            met.append(key)
            stream(open_store(backend), 5)

    met: list[str] = []
    reader = open_store(MeddlingBackend(backend, before=meddle))
    assert reader.stat().chunks >= MOST_SEGMENTS + 1
    assert met


def test_two_who_merge_the_same_segments_do_no_harm() -> None:
    """The slower one finds the merged segment there and the old ones gone."""
    backend = worlds.fragmented(MOST_SEGMENTS)

    def meddle(_: int, method: str, key: str) -> None:
        if method == "delete" and not met:
            met.append(key)
            stream(open_store(backend), 6)

    met: list[str] = []
    stream(open_store(MeddlingBackend(backend, before=meddle)), 7)
    assert met
    assert {"data-2", "data-3", "tiny"} == set(observe(backend))


def test_tiny_pushes_keep_the_segments_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushes that never load the index merge it all the same, now and then; nothing is lost."""
    monkeypatch.undo()  # tiny pushes are tiny here
    backend = MemoryBackend()
    new_store(backend)
    store = open_store(backend)
    most = 0
    for number in range(150):
        store.push(io.BytesIO(b"%d" % number), f"data-{number % 3}", name="file")
        store.push(io.BytesIO(b"once %d" % number), f"once-{number}", name="file")
        most = max(most, segments_of(backend))
    assert MOST_SEGMENTS < most < 3 * MOST_SEGMENTS
    assert len(observe(backend)) == 153  # which looks every chunk up in the index


def test_a_damaged_segment_fails_no_push(monkeypatch: pytest.MonkeyPatch) -> None:
    """The merge that meets it is given up, before anything was deleted."""
    monkeypatch.undo()
    backend = worlds.fragmented(MOST_SEGMENTS + 1)
    key = next(info.key for info in backend.list("index/"))
    backend.put(key, [b"damaged"], Overwrite())
    store = open_store(backend)
    for number in range(16):
        store.push(io.BytesIO(b"%d" % number), "data", name="file")
    assert segments_of(backend) == MOST_SEGMENTS + 1 + 16


def _delete(folder: Path) -> None:
    shutil.rmtree(folder)


def _flip(folder: Path) -> None:
    source = random.Random(1)
    for path in _files(folder):
        data = bytearray(path.read_bytes())
        for _ in range(20):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(data)


def _zero(folder: Path) -> None:
    for path in _files(folder):
        path.write_bytes(bytes(path.stat().st_size))


def _cut(folder: Path) -> None:
    for path in _files(folder):
        path.write_bytes(path.read_bytes()[:-1])


def _empty(folder: Path) -> None:
    for path in _files(folder):
        path.write_bytes(b"")


def _swap(folder: Path) -> None:
    """Give each file the bytes of another, right in themselves."""
    paths = _files(folder)
    for path, data in zip(paths, [p.read_bytes() for p in paths[1:] + paths[:1]], strict=True):
        path.write_bytes(data)


def _obstruct(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file where the cache should be")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", [_delete, _flip, _zero, _cut, _empty, _swap, _obstruct])
def test_nothing_depends_on_the_cache(
    local: Place, tree: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Whatever becomes of its files, pushes and pulls do their work and send nothing twice."""
    (tree / "large").write_bytes(random_bytes(6_000_000, 3))  # so that the index is worth loading
    with local.create() as store:
        store.push(tree, "data")
        (tree / "more").write_bytes(random_bytes(300_000, 4))
        store.push(tree, "data")
    assert len(_files(local.cache)) >= 2
    damage(local.cache)
    with local.open() as store:
        assert store.push(tree, "data").unchanged
        moved = store.push(tree, "copy")
        assert moved.stats.new_bytes == 0
        store.pull("copy", tmp_path / "out")
        assert store.stat().chunks > 0
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_a_cache_that_is_damaged_while_it_is_used_costs_nothing(
    local: Place, tree: Path, tmp_path: Path
) -> None:
    """One thread deletes the cache again and again under pushes and pulls."""
    stop = threading.Event()

    def delete() -> None:
        while not stop.wait(0.003):
            shutil.rmtree(local.cache, ignore_errors=True)

    local.create().close()
    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for number in range(15):
            (tree / "own").write_bytes(random_bytes(200_000, number))
            with local.open() as store:
                assert store.push(tree, "data").version == number + 1
    finally:
        stop.set()
        thread.join()
    with local.open() as store:
        store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_a_lost_pack_is_brought_back_by_a_push(tmp_path: Path) -> None:
    """Pushing the files again stores what the store had lost, though it makes no new version."""
    backend = MemoryBackend()
    new_store(backend)
    (tree,) = worlds.write_trees(tmp_path, 1)
    (tree / "large").write_bytes(random_bytes(5_000_000, 3))
    open_store(backend).push(tree, "data")
    whole = observe(copy_of(backend))
    victim = [info.key for info in backend.list("packs/")][3]
    backend.delete([victim])
    result = open_store(backend).push(tree, "data")
    assert result.unchanged
    assert result.stats.sent_bytes > 0
    store = open_store(backend)
    for path, _ in whole["data"].versions[0][1]:
        with store.open_file(f"data:{path}") as file:
            assert file.read() == (tree / path).read_bytes()
