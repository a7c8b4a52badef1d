"""Requests of small pushes and reads, from a store of 2 packs and from one of 2,000.

    python -m bench.bench_requests [--packs 2 2000] [--edit 1000]

Requests are counted between the library and a backend in memory; a listing counts once for each
1,000 objects, as an S3 server's pages do. With `--edit` a file of that many MB is pushed, one byte
in its middle is changed, and it is pushed again and pulled over the older copy.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chunkstore import ChunkerSpec, Store
from chunkstore.backends.base import Backend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ChunkIndex
from chunkstore.format.config import Config
from chunkstore.format.index import IndexedPack
from chunkstore.objects import Objects
from chunkstore.segment_cache import SegmentCache
from chunkstore.testing.backends import CountingBackend
from chunkstore.testing.trees import random_bytes

PACK: Final = 16384
"""Stored bytes of a pack here, so that thousands are made in no time."""

MOST_FOR_PUSH: Final = 12
MOST_FOR_READ: Final = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took: requests by method, bytes put and got."""

    requests: dict[str, int]
    bytes_in: int
    bytes_out: int

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())


def store_of(packs: int) -> MemoryBackend:
    """Return a store with that many packs, each in an index segment of its own.

    All but one belong to a dataset of folders with up to 500 files, the last to one small file.
    """
    backend = MemoryBackend()
    spec = ChunkerSpec(min_size=1024, avg_size=4096, max_size=PACK)
    config = Config(
        store_id=bytes(16), created_ns=1, chunker=spec, frame_size=PACK, pack_length=PACK
    )
    objects = Objects(backend)
    assert objects.create_config(config)
    store = Store(backend, config, None)
    left = packs - 1
    while left > 0:
        now = min(left, 500)
        with tempfile.TemporaryDirectory() as name:
            for number in range(now):
                data = random_bytes(PACK, left * 1000 + number)
                (Path(name) / f"{number:04}").write_bytes(data)
            store.push(name, "many")
        left -= now
    store.push(io.BytesIO(b"one small file"), "small", name="file")
    _one_segment_a_pack(objects)
    return backend


def _one_segment_a_pack(objects: Objects) -> None:
    """Cut the index up as it is after as many small pushes as there are packs."""
    index = ChunkIndex(objects, SegmentCache(None))
    index.load_for_reading()
    objects.delete_segments([*objects.list_segments()])
    hints = {hint.pack_id: hint for hint in map(index.pack, range(index.pack_count))}
    for pack, length in objects.list_packs():
        hint = hints[pack]
        directory = objects.read_directory(hint)
        index.publish([IndexedPack(pack, length, hint.directory_offset, directory)])


def cost_of(
    backend: Backend, command: Callable[[Store], object], cache: Path | None = None
) -> Cost:
    """Open the store on a machine with that cache, or with none, and count what a command takes."""
    counting = CountingBackend(backend)
    config = Objects(counting).read_config()
    command(Store(counting, config, str(cache) if cache else None))
    return Cost(dict(counting.requests), counting.bytes_in, counting.bytes_out)


def small_costs(backend: MemoryBackend, folder: Path) -> dict[str, tuple[Cost, int | None]]:
    """Count small pushes and first reads; return each with the most that it may take.

    A push in place of many files has no such bound: it reads the names of those it removes.
    """
    file = folder / "file"
    file.write_bytes(random_bytes(1024, 77))
    tree = folder / "tree"
    tree.mkdir(exist_ok=True)
    (tree / "a").write_bytes(random_bytes(1024, 78))
    cache = folder / "cache"

    def read(address: str) -> Callable[[Store], object]:
        def run(store: Store) -> None:
            with store.open_file(address) as opened:
                assert opened.read()

        return run

    pushes: dict[str, Callable[[Store], object]] = {
        "push 1 KB to a new dataset": lambda store: store.push(file, "new"),
        "push 1 KB on top of one file": lambda store: store.push(file, "small"),
        "push it again, unchanged": lambda store: store.push(file, "small"),
        "push a stream of 1 KB": lambda store: store.push(
            io.BytesIO(random_bytes(1024, 79)), "small", name="file"
        ),
        "push a folder of one file": lambda store: store.push(tree, "tree", tags=["good"]),
    }
    reads = {
        "read one of one": read("new:file"),
        "read one of 500 files": read("many@1:0000"),
        "pull one of one": lambda store: store.pull("new:file", folder / "out"),
    }
    found: dict[str, tuple[Cost, int | None]] = {}
    found |= {name: (cost_of(backend, push), MOST_FOR_PUSH) for name, push in pushes.items()}
    removing = cost_of(backend, lambda store: store.push(file, "many"))
    found["push 1 KB in place of 500 files"] = removing, None
    file.write_bytes(random_bytes(1024, 80))
    again = cost_of(backend, lambda store: store.push(file, "new"), cache)
    found["push 1 KB, with a cache"] = again, MOST_FOR_PUSH
    return found | {name: (cost_of(backend, run), MOST_FOR_READ) for name, run in reads.items()}


@dataclass(frozen=True, slots=True)
class Edit:
    """One byte changed in the middle of a file: bytes that went each way, requests likewise."""

    sent: int
    fetched: int
    push: Cost
    pull: Cost


def edit_cost(size: int, folder: Path) -> Edit:
    """Push a file, pull it, change one byte in its middle, push it and pull it over the copy."""
    url, cache = str(folder / "store"), folder / "cache"
    source, target = folder / "source", folder / "target"
    source.mkdir()
    target.mkdir()
    with open(source / "file", "wb") as file:
        for number in range(0, size, 1_000_000):
            file.write(random_bytes(min(1_000_000, size - number), number + 1))
    with Store.create(url, cache_folder=cache) as store:
        backend = store._objects.backend
        store.push(source, "data")
        store.pull("data", target)
        with open(source / "file", "r+b") as file:
            file.seek(size // 2)
            byte = file.read(1)[0]
            file.seek(size // 2)
            file.write(bytes([byte ^ 1]))
        push = cost_of(backend, lambda store: store.push(source, "data"), cache)
        pull = cost_of(backend, lambda store: store.pull("data", target), cache)
        (entry,) = store.entries("data")
        assert entry.size == size
    _compare(source / "file", target / "file")
    return Edit(push.bytes_in, pull.bytes_out, push, pull)


def _compare(left: Path, right: Path) -> None:
    with open(left, "rb") as one, open(right, "rb") as other:
        while block := one.read(1 << 20):
            assert other.read(1 << 20) == block
        assert not other.read(1)


def main() -> int:
    """Print the tables; return 0 if nothing took more than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packs", nargs="*", type=int, default=[2, 2000])
    parser.add_argument("--edit", type=int, help="MB of a file to edit in the middle")
    chosen = parser.parse_args()
    passed = True
    print(f"{'packs':>6}  {'what':32} {'requests':>8} {'most':>5}  {'bytes got':>10}  by method")
    for packs in chosen.packs:
        with tempfile.TemporaryDirectory(prefix="chunkstore-requests-") as name:
            for what, (cost, most) in small_costs(store_of(packs), Path(name)).items():
                passed &= most is None or cost.total <= most
                methods = ", ".join(f"{n} {method}" for method, n in sorted(cost.requests.items()))
                got = f"{cost.bytes_out:>10,}"
                print(f"{packs:6}  {what:32} {cost.total:8} {most or '-':>5}  {got}  {methods}")
    if chosen.edit:
        with tempfile.TemporaryDirectory(prefix="chunkstore-requests-") as name:
            edit = edit_cost(chosen.edit * 1_000_000, Path(name))
        print(
            f"one byte in {chosen.edit} MB: sent {edit.sent:,} bytes in {edit.push.total} requests,"
            f" fetched {edit.fetched:,} bytes in {edit.pull.total} requests"
        )
        passed &= edit.sent < 2_000_000
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
