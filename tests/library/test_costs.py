"""Small things stay cheap, however large the store is; an edit moves about what it changes.

`python -m bench.bench_requests` prints the same costs as a table.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.bench_requests import Cost, cost_of, edit_cost, small_costs, store_of
from chunkstore import Store
from chunkstore.backends.memory import MemoryBackend
from chunkstore.testing.trees import random_bytes


@pytest.fixture(scope="module", params=[2, 2000])
def costs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Cost, int | None]]:
    """What small pushes and reads take from a store of that many packs and index segments."""
    return small_costs(store_of(request.param), tmp_path_factory.mktemp("costs"))


def test_a_small_push_or_read_makes_few_requests(
    costs: dict[str, tuple[Cost, int | None]],
) -> None:
    """A push of one 1 KB file: at most 12. The first read of a small file, without caches: 8.

    None of these pushes is one of the sixteenth part that looks after the index segments.
    """
    for what, (cost, most) in costs.items():
        sys.stdout.write(f"\n{what}: {cost.requests}")
        assert most is None or cost.total <= most, f"{what}: {cost.requests}"
        assert most is None or cost.requests.get("list", 0) == 0, what


def test_a_small_read_fetches_little(costs: dict[str, tuple[Cost, int | None]]) -> None:
    """It fetches a page, some directories and a frame: never the index."""
    for what, (cost, _) in costs.items():
        assert cost.bytes_out < 200_000, what


def test_a_file_among_large_ones_is_found_at_once(tmp_path: Path) -> None:
    """Each of 300 files that fill a pack each is read with at most 8 requests by a new machine."""
    backend = store_of(301)
    for number in range(0, 300, 23):
        cost = cost_of(backend, _reads(f"many:{number:04}"))
        assert cost.total <= 8, f"file {number}: {cost.requests}"


def _reads(address: str) -> Callable[[Store], object]:
    def run(store: Store) -> None:
        with store.open_file(address) as file:
            assert len(file.read()) > 0

    return run


def test_an_unchanged_tree_costs_reads_only(tmp_path: Path) -> None:
    """Pushing it again, with caches or without, writes nothing at all."""
    backend: MemoryBackend = store_of(3)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number}").write_bytes(b"%d" % number * 20_000)
    cache = tmp_path / "cache"
    first = cost_of(backend, lambda store: store.push(tree, "data"), cache)
    assert first.requests["put"] > 3
    for known in (cache, None):
        again = cost_of(backend, lambda store: store.push(tree, "data"), known)
        assert again.requests.get("put", 0) == again.requests.get("delete", 0) == 0
        assert again.bytes_in == 0


def test_one_byte_in_200_mb_moves_a_chunk_or_two(tmp_path: Path) -> None:
    """The push sends under 2 MB, and the pull over the older copy fetches about that."""
    edit = edit_cost(200_000_000, tmp_path)
    assert 0 < edit.sent < 2_000_000
    assert 0 < edit.fetched < 2_000_000


def test_a_pull_fetches_every_frame_once(tmp_path: Path) -> None:
    """A version that is fetched in several batches costs its stored bytes, and 1 % to look it up.

    Files are long and short, so that batches end within a frame, of one file and of many.
    """
    tree = tmp_path / "tree"
    tree.mkdir()
    for number, size in enumerate([50_000_000, *[30_000] * 1200, 40_000_000]):
        (tree / f"{number:04}").write_bytes(random_bytes(size, number + 1))
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        stored = store.push(tree, "data").stats.stored_bytes
        foretold = store.pull("data", tmp_path / "out", dry_run=True).stats
        done = store.pull("data", tmp_path / "out").stats
        assert done.written_bytes == foretold.written_bytes == done.size
        assert done.fetched_bytes < stored * 1.01
        assert foretold.fetched_bytes < stored * 1.01
        assert store.pull("data", tmp_path / "out").stats.fetched_bytes < stored * 0.01


def test_many_small_pushes_make_a_version_of_few_packs(tmp_path: Path) -> None:
    """A small tree that grew by twelve pushes lies in three packs, not in twelve."""
    backend = store_of(2)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(12):
        (tree / f"{number}").write_bytes(b"%d" % number * 1000)
        cost_of(backend, lambda store: store.push(tree, "grown"))
    cost = cost_of(backend, lambda store: store.pull("grown", tmp_path / "out"))
    assert cost.total <= 3 + 3 * 2  # config, ref, manifest; a directory and a frame of each pack
    assert cost_of(backend, lambda store: store.push(io.BytesIO(b"x"), "x", name="x")).total <= 12
