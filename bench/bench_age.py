"""How much does a pull of the newest version read after many versions, against a fresh store?

    python -m bench.bench_age [--size 64] [--versions 50] [--kinds edits rows ...] [--json FILE]
        [--without]

Each kind of data is pushed version by version into one store. Now and then the newest version is
pulled by a machine without caches, compared byte for byte, and pushed into a fresh store that is
pulled in the same way. Bytes and requests are counted between the library and the storage, which is
in memory. With `--without` nothing is stored again that lies scattered. Everything is seeded.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.bench_requests import Cost, cost_of
from chunkstore import Store, fragmentation
from chunkstore.backends.memory import MemoryBackend
from chunkstore.format.config import Config
from chunkstore.objects import Objects
from chunkstore.testing.trees import tree_state

CHUNK: Final = 64 * 1024
RECORD: Final = 192 * 1024

Edit = Callable[[Path, random.Random], None]
"""Makes the next version of a folder in place, the first one of an empty folder."""


def scattered(size: int, share: float) -> Edit:
    """One file; each version changes 100 bytes at as many places as `share` of its chunks."""

    def edit(folder: Path, source: random.Random) -> None:
        path = folder / "file"
        if not path.exists():
            path.write_bytes(source.randbytes(size))
            return
        with open(path, "r+b") as file:
            for _ in range(max(1, round(size / CHUNK * share))):
                file.seek(source.randrange(size - 100))
                file.write(source.randbytes(100))

    return edit


def shuffled(size: int, share: float) -> Edit:
    """One file of records of about 192 KiB; each version has a `share` of them change places."""
    records: list[bytes] = []

    def edit(folder: Path, source: random.Random) -> None:
        if not records:
            while sum(map(len, records[-1:])) + len(records) * RECORD < size:
                records.append(source.randbytes(source.randrange(RECORD // 2, RECORD * 3 // 2)))
        else:
            moved = source.sample(range(len(records)), max(2, round(len(records) * share)))
            contents = [records[number] for number in moved]
            source.shuffle(contents)
            for number, content in zip(moved, contents, strict=True):
                records[number] = content
        (folder / "file").write_bytes(b"".join(records))

    return edit


def replaced(size: int, share: float) -> Edit:
    """Files of 4 to 124 KiB in folders; each version replaces a `share` of them."""
    names: list[Path] = []

    def edit(folder: Path, source: random.Random) -> None:
        chosen: list[Path]
        if not names:
            names.extend(Path(f"{n % 20:02}/{n:05}") for n in range(size // CHUNK))
            chosen = names
        else:
            chosen = source.sample(names, max(1, round(len(names) * share)))
        for name in chosen:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(source.randbytes(source.randrange(4096, 124 * 1024)))

    return edit


def rows(size: int, share: float) -> Edit:
    """A CSV file; each version has rows inserted and deleted in a `share` of its chunks."""
    lines: list[bytes] = []

    def row(number: int, source: random.Random) -> bytes:
        return b"%d,%x,%f,north,2026-01-01\n" % (number, source.getrandbits(128), source.random())

    def edit(folder: Path, source: random.Random) -> None:
        if not lines:
            lines.extend(row(number, source) for number in range(size // 66))
        else:
            for _ in range(max(1, round(size / CHUNK * share))):
                at = source.randrange(len(lines))
                if source.random() < 0.5:
                    lines.insert(at, row(at, source))
                else:
                    del lines[at]
        (folder / "table.csv").write_bytes(b"".join(lines))

    return edit


KINDS: Final[dict[str, Callable[[int], Edit]]] = {
    "edits": lambda size: scattered(size, 0.01),
    "records": lambda size: shuffled(size, 0.05),
    "files": lambda size: replaced(size, 0.03),
    "rows": lambda size: rows(size, 0.01),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A version after so many: what a pull of it took, what the same took from a fresh store.

    Attributes:
        kind: of the data.
        version: its number.
        size: raw bytes of the version.
        fetched: bytes of the pull.
        fresh: bytes of the pull from a fresh store.
        requests: gets of the pull.
        fresh_requests: gets of the pull from a fresh store.
        stored: bytes of the whole store.
        seconds: CPU of all pushes so far.
    """

    kind: str
    version: int
    size: int
    fetched: int
    fresh: int
    requests: int
    fresh_requests: int
    stored: int
    seconds: float

    @property
    def ratio(self) -> float:
        """What age costs."""
        return self.fetched / self.fresh


def new_store() -> MemoryBackend:
    """Return an empty store with the usual sizes."""
    backend = MemoryBackend()
    assert Objects(backend).create_config(Config(store_id=bytes(16), created_ns=1))
    return backend


def pulled(backend: MemoryBackend, source: Path, work: Path) -> Cost:
    """Pull the newest version without caches, compare it, and return what it took."""
    target = work / "target"
    cost = cost_of(backend, lambda store: store.pull("data", target))
    assert tree_state(target, times=False) == tree_state(source, times=False)
    shutil.rmtree(target)
    return cost


def age(kind: str, size: int, seed: int, versions: int, every: int) -> list[Reading]:
    """Push all versions of one kind into one store; return what was read now and then."""
    edit, source = KINDS[kind](size), random.Random(seed)
    backend = new_store()
    readings: list[Reading] = []
    seconds = 0.0
    with tempfile.TemporaryDirectory(prefix="chunkstore-age-") as name:
        work = Path(name)
        folder = work / "source"
        folder.mkdir()
        for version in range(1, versions + 1):
            edit(folder, source)
            store = Store(backend, Objects(backend).read_config(), str(work / "cache"))
            started = time.process_time()
            stats = store.push(folder, "data").stats
            seconds += time.process_time() - started
            if version == 1 or version % every == 0:
                old = pulled(backend, folder, work)
                fresh = new_store()
                config = Objects(fresh).read_config()
                Store(fresh, config, None).push(folder, "data")
                new = pulled(fresh, folder, work)
                readings.append(
                    Reading(
                        kind,
                        version,
                        stats.size,
                        old.bytes_out,
                        new.bytes_out,
                        old.requests["get"],
                        new.requests["get"],
                        sum(info.length for info in backend.list("")),
                        seconds,
                    )
                )
    return readings


def report(readings: list[Reading]) -> None:
    """Print the table of one run."""
    print(f"\n{readings[0].kind}")
    print(
        f"{'version':>8}{'MB':>8}{'read MB':>9}{'fresh MB':>9}{'ratio':>7}{'gets':>6}"
        f"{'fresh':>6}{'stored MB':>11}{'CPU s':>7}"
    )
    for found in readings:
        print(
            f"{found.version:8}{found.size / 1e6:8.1f}{found.fetched / 1e6:9.1f}"
            f"{found.fresh / 1e6:9.1f}{found.ratio:7.2f}{found.requests:6}"
            f"{found.fresh_requests:6}{found.stored / 1e6:11.1f}"
            f"{found.seconds:7.1f}"
        )
    sys.stdout.flush()


def main() -> int:
    """Run all that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="MB of a version")
    parser.add_argument("--versions", type=int, default=50)
    parser.add_argument("--every", type=int, default=10, help="measure each so many versions")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without", action="store_true", help="store nothing again")
    chosen = parser.parse_args()
    if chosen.without:
        vars(fragmentation)["MOST_READ"] = float("inf")
    readings: list[Reading] = []
    for kind in chosen.kinds:
        found = age(kind, chosen.size * 1_000_000, chosen.seed, chosen.versions, chosen.every)
        report(found)
        readings += found
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(found) for found in readings], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
