"""Many versions with scattered edits: a pull of the newest reads little more than it needs.

`make bench-age` prints the same for longer files; the laws of the choice itself are in
tests/properties/test_fragmentation.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.bench_age import KINDS, age
from bench.bench_requests import cost_of
from chunkstore import ChunkerSpec, PushStats, Store, fragmentation, layout, stretch
from chunkstore.backends.memory import MemoryBackend
from chunkstore.format.config import Config
from chunkstore.objects import Objects
from chunkstore.testing.trees import tree_state

CHUNK = 4096
FRAME = 64 * 1024
SIZE = 2_000_000
CONFIG = Config(
    store_id=b"an aged store ..",
    created_ns=1,
    chunker=ChunkerSpec(min_size=1024, avg_size=CHUNK, max_size=16384),
    frame_size=FRAME,
    pack_length=4 * FRAME,
)


class Aged:
    """A store of one dataset, and the folder that is pushed to it again and again."""

    def __init__(self, work: Path) -> None:
        self.backend = MemoryBackend()
        assert Objects(self.backend).create_config(CONFIG)
        self.work = work
        self.folder = work / "source"
        self.folder.mkdir()
        self.source = random.Random(3)
        for number in range(100):
            (self.folder / f"{number:03}").write_bytes(self.source.randbytes(SIZE // 200))
        (self.folder / "large").write_bytes(self.source.randbytes(SIZE // 2))

    def store(self) -> Store:
        return Store(self.backend, CONFIG, str(self.work / "cache"))

    def edit(self) -> None:
        """Replace some files, and some bytes of the large one."""
        for number in self.source.sample(range(100), 4):
            size = self.source.randrange(SIZE // 100)
            (self.folder / f"{number:03}").write_bytes(self.source.randbytes(size))
        with open(self.folder / "large", "r+b") as file:
            for _ in range(8):
                file.seek(self.source.randrange(SIZE // 2 - 100))
                file.write(self.source.randbytes(100))

    def push(self, *, dry_run: bool = False) -> PushStats:
        return self.store().push(self.folder, "data", dry_run=dry_run).stats

    def grow_old(self, versions: int) -> None:
        for _ in range(versions):
            self.edit()
            self.push()

    def read(self) -> int:
        """Pull the newest version without caches, compare it, return the bytes that were read."""
        target = self.work / f"target-{self.source.random()}"
        cost = cost_of(self.backend, lambda store: store.pull("data", target))
        assert tree_state(target, times=False) == tree_state(self.folder, times=False)
        return cost.bytes_out


@pytest.fixture
def aged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aged:
    """A store whose short versions are looked at like long ones."""
    monkeypatch.setattr(stretch, "LEAST_SIZE", 100_000)
    return Aged(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_after_50_versions_a_pull_reads_half_as_much_again_at_most(kind: str) -> None:
    """Against a fresh store of the newest version alone; of every kind of edit."""
    readings = age(kind, 8_000_000, 1, 50, 50)
    assert readings[-1].version == 50
    assert readings[-1].ratio <= 1.5


def test_without_storing_again_it_would_read_more(
    aged: Aged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the law above holds is not true by itself."""
    monkeypatch.setattr(fragmentation, "MOST_READ", float("inf"))
    fresh = aged.push() and aged.read()
    aged.grow_old(30)
    assert aged.read() > 1.7 * fresh


def test_no_push_stores_again_more_than_is_new(aged: Aged) -> None:
    """But for the frame with which that is passed; and some do, as is told."""
    aged.push()
    again = 0
    for _ in range(30):
        aged.edit()
        before = sum(info.length for info in aged.backend.list(layout.PACKS))
        stats = aged.push()
        grown = sum(info.length for info in aged.backend.list(layout.PACKS)) - before
        assert stats.again_bytes <= stats.new_bytes + FRAME + CHUNK * 4
        assert stats.new_bytes + stats.again_bytes <= grown <= stats.stored_bytes
        again += stats.again_bytes
    assert again > 100_000
    assert aged.read() < 1.6 * SIZE


def test_what_has_no_new_chunk_sends_no_data(aged: Aged, monkeypatch: pytest.MonkeyPatch) -> None:
    """However scattered a version is: neither when it is pushed again nor after a rename."""
    with monkeypatch.context() as patch:
        patch.setattr(fragmentation, "MOST_READ", float("inf"))
        aged.push()
        aged.grow_old(25)
    assert aged.push().sent_bytes == 0
    (aged.folder / "000").rename(aged.folder / "zzz")
    (aged.folder / "001").chmod(0o700)
    stats = aged.push()
    assert stats.new_bytes == stats.again_bytes == 0
    assert stats.sent_bytes < 50_000  # pages and the manifest
    aged.edit()
    assert aged.push().again_bytes > 0


def test_the_next_version_takes_the_newer_copies(aged: Aged) -> None:
    """What was stored again is not read from its old place, nor stored a third time for that."""
    aged.push()
    aged.grow_old(30)
    read = aged.read()
    (aged.folder / "000").write_bytes(b"one small edit")
    stats = aged.push()
    assert stats.again_bytes <= stats.new_bytes + FRAME
    assert aged.read() <= read + FRAME


def test_a_dry_run_foretells_it(aged: Aged) -> None:
    """About what the push will store; and nothing is stored by telling."""
    aged.push()
    aged.grow_old(25)
    for _ in range(5):
        aged.edit()
        objects = len(list(aged.backend.list("")))
        foretold = aged.push(dry_run=True)
        assert len(list(aged.backend.list(""))) == objects
        stats = aged.push()
        assert foretold.new_bytes == stats.new_bytes
        assert foretold.again_bytes == stats.again_bytes
        assert abs(foretold.stored_bytes - stats.stored_bytes) < stats.stored_bytes * 0.1


def test_kinds_count_a_chunk_once(aged: Aged) -> None:
    """Unique and stored bytes of a version are those of one copy of each of its chunks."""
    aged.push()
    aged.grow_old(30)
    found = aged.store().version_stat("data")
    assert found.unique_bytes == found.version.size
    assert found.unique_bytes * 0.99 <= found.stored_bytes <= found.unique_bytes * 1.01


def test_what_cannot_be_read_stays_where_it_is(
    aged: Aged, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged frame fails no push of what does not need it; the push says that it met it."""
    aged.push()
    aged.grow_old(20)
    for key in [info.key for info in aged.backend.list(layout.PACKS)]:
        data, version = aged.backend._objects[key]
        torn = data[:100] + bytes(len(data) - 1000) + data[len(data) - 900 :]
        aged.backend._objects[key] = (torn, version)
    aged.edit()
    stats = aged.push()
    assert stats.again_bytes == 0
    assert "scattered chunks stay where they are" in caplog.text
