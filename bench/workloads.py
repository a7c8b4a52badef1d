"""Seeded data in two versions each: what the bench pushes and pulls.

A workload lies in `bench/data/SCALE/NAME/v1` and `v2`, which git ignores. It is made once and kept.
The same name and amount give the same bytes on every machine, as far as the libraries that write
SQLite and Parquet files are the same.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from bench.package_tree import LARGE, SMALL, unpack_packages

DATA: Final = (Path(__file__).parent / "data").resolve()  # rustic keeps no link in a path
SCALES: Final = ("sample", "medium", "full")
MB: Final = 1_000_000
MIB: Final = 1 << 20
TIMES: Final = {"v1": 1_767_225_600, "v2": 1_767_312_000}
"""When the files of a version were last changed, in seconds. To rustic, two files of one size that
were made in the same tick of the clock are the same file."""
WORDS: Final = (
    *("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "juniper"),
    *("knoll", "larch", "meadow", "north", "ocean", "pine", "quarry", "ridge", "spruce", "tundra"),
    *("upland", "valley", "willow", "yarrow"),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Something to push, at three scales.

    Attributes:
        name: its name on the command line and in the tables.
        says: what it is and how version 2 differs.
        make: writes both versions below a folder; takes one of the `amounts`.
        amounts: for each scale, in order: bytes, files or a set of packages. None: not made.
    """

    name: str
    says: str
    make: Callable[[Path, int], None]
    amounts: tuple[int | None, int | None, int | None]


def data_of(workload: Workload, scale: str) -> Path:
    """Return the folder with the two versions; make them where they are not there yet.

    They are made by another process, so that this one stays small: see `bench.measure.Cost`.

    Raises:
        ValueError: the workload is not made at that scale.
        subprocess.CalledProcessError: it could not be made.
    """
    root = DATA / scale / workload.name
    if workload.amounts[SCALES.index(scale)] is None:
        raise ValueError(f"{workload.name} is not made at the scale {scale}")
    if not root.exists():
        command = [sys.executable, "-m", "bench.workloads", scale, workload.name]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
    return root


def make(workload: Workload, root: Path, amount: int) -> None:
    """Write both versions below `root`, which appears when it is whole."""
    part = root.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for version in ("v1", "v2"):
        (part / version).mkdir(parents=True)
    workload.make(part, amount)
    for version, at in TIMES.items():
        for path in (part / version).rglob("*"):
            if path.is_file() and (version == "v1" or path.stat().st_nlink == 1):
                os.utime(path, (at, at))
    part.rename(root)


def make_packages(root: Path, large: int) -> None:
    """Unpack the packages of either version."""
    for version, packages in (LARGE if large else SMALL).items():
        unpack_packages(packages, DATA / "wheels" / version, root / version)


def make_csv(root: Path, size: int) -> None:
    """Write rows of about 74 bytes; one row in each MB is another one in version 2."""
    rows = size // 74
    chance = random.Random(1)
    edited = set(chance.sample(range(rows), max(1, size // MB)))
    header = "id,at,place,kind,reading,note\n"
    with _both(root, "table.csv") as (old, new):
        old.write(header.encode())
        new.write(header.encode())
        for numbers in _blocks(rows):
            lines = [_row(number, chance) for number in numbers]
            old.write("".join(lines).encode())
            for at in edited.intersection(numbers):
                lines[at - numbers.start] = _row(at, chance)
            new.write("".join(lines).encode())


def make_sqlite(root: Path, size: int) -> None:
    """Write a table with an index; one row in each MB is updated in version 2."""
    rows = size // 150
    chance = random.Random(2)
    old, new = root / "v1" / "base.sqlite", root / "v2" / "base.sqlite"
    with sqlite3.connect(old) as base:
        base.execute("create table event (id integer primary key, place text, data blob, n real)")
        base.execute("create index event_place on event (place, n)")
        made = (
            (number, chance.choice(WORDS), _words(chance, 11).encode(), chance.random())
            for number in range(rows)
        )
        base.executemany("insert into event values (?, ?, ?, ?)", made)
    base.close()
    shutil.copyfile(old, new)
    with sqlite3.connect(new) as base:
        for number in chance.sample(range(rows), max(1, size // MB)):
            changed = (_words(chance, 11).encode(), chance.random(), number)
            base.execute("update event set data = ?, n = ? where id = ?", changed)
    base.close()


def make_log(root: Path, size: int) -> None:
    """Write lines of a log; version 2 goes on for a tenth."""
    chance = random.Random(3)
    rows = size // 95
    with _both(root, "service.log") as (old, new):
        for numbers in _blocks(rows * 11 // 10):
            lines = [_log_line(number, chance).encode() for number in numbers]
            new.write(b"".join(lines))
            old.write(b"".join(lines[: max(0, rows - numbers.start)]))


def make_parquet(root: Path, size: int, *, content_defined: bool) -> None:
    """Write a table as Parquet; 10 rows are changed and 3 runs of 1,000 put in in version 2.

    With `content_defined` pages end where the content says, by the option of pyarrow.
    """
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415  # an extra, and slow to import
    import pyarrow.compute as pc  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    numbers = np.random.default_rng(4)
    words = pa.array(WORDS)

    def rows(count: int) -> pa.Table:
        places, *notes = (words.take(pa.array(numbers.integers(0, 24, count))) for _ in range(4))
        columns = {
            "id": pa.array(numbers.integers(0, 1 << 48, count)),
            "place": places,
            "reading": pa.array(numbers.normal(20, 5, count)),
            "note": pc.binary_join_element_wise(*notes, " "),
        }
        return pa.table(columns)

    old = rows(max(10_000, size // 20))
    pieces, done = [], 0
    for number, at in enumerate(sorted(numbers.choice(len(old), 13, replace=False).tolist())):
        put_in = number in (2, 6, 10)
        pieces += [old.slice(done, at - done), rows(1000 if put_in else 1)]
        done = at if put_in else at + 1
    new = pa.concat_tables([*pieces, old.slice(done)]).combine_chunks()
    for version, table in (("v1", old), ("v2", new)):
        path = root / version / "table.parquet"
        pq.write_table(table, path, use_content_defined_chunking=content_defined)


def make_arrays(root: Path, size: int) -> None:
    """Write 32 layers of float32 in the layout of safetensors; 3 are trained on in version 2."""
    import numpy as np  # noqa: PLC0415

    layers, numbers = 32, np.random.default_rng(5)
    count = size // layers // 4
    table = {
        f"layer.{layer}.weight": {
            "dtype": "F32",
            "shape": [count],
            "data_offsets": [layer * count * 4, (layer + 1) * count * 4],
        }
        for layer in range(layers)
    }
    header = json.dumps(table).encode()
    with _both(root, "model.safetensors") as (old, new):
        for file in (old, new):
            file.write(len(header).to_bytes(8, "little") + header)
        for layer in range(layers):
            weights = numbers.normal(0, 0.02, count).astype("<f4")
            old.write(weights.tobytes())
            if layer in (7, 19, 31):
                weights += numbers.normal(0, 0.0002, count).astype("<f4")
            new.write(weights.tobytes())


def make_small_files(root: Path, files: int, *, size: int) -> None:
    """Write files of text, 1,000 in a folder; of 100 one is changed, one gone and one new in v2.

    Files that stay the same are hard links in version 2, so that they are the same file to tools
    that go by inode and times, as they would be in a folder that somebody works in.
    """
    chance = random.Random(6)
    for number in range(files + files // 100):
        name = f"{number // 1000:03}/{number:06}.json"
        old, new = root / "v1" / name, root / "v2" / name
        if number % 1000 == 0:
            old.parent.mkdir()
            new.parent.mkdir()
        if number >= files:
            new.write_bytes(_text(chance, size))
            continue
        old.write_bytes(_text(chance, size))
        if number % 100 == 17:
            new.write_bytes(_text(chance, size))
        elif number % 100 != 71:
            os.link(old, new)


def make_random(root: Path, size: int) -> None:
    """Write bytes that do not compress; 1,000 are put in in the middle in version 2."""
    import numpy as np  # noqa: PLC0415

    numbers = np.random.default_rng(7)
    with _both(root, "random.bin") as (old, new):
        for number in range(max(2, size // MIB)):
            block = numbers.bytes(MIB)
            old.write(block)
            new.write(block)
            if number == size // MIB // 2:
                new.write(numbers.bytes(1000))


def make_zeros(root: Path, size: int) -> None:
    """Write zeros, not a hole; one byte in the middle is a one in version 2."""
    with _both(root, "zeros.bin") as (old, new):
        for _ in range(max(2, size // MIB)):
            old.write(bytes(MIB))
            new.write(bytes(MIB))
        new.seek(size // 2)
        new.write(b"\x01")


WORKLOADS: Final = (
    Workload(
        "packages",
        "large Python packages unpacked; then the next release of each",
        make_packages,
        (0, 1, 1),
    ),
    Workload(
        "csv",
        "a CSV file; then one row changed in each MB",
        make_csv,
        (32 * MB, 128 * MB, 1000 * MB),
    ),
    Workload(
        "sqlite",
        "a SQLite file; then one row updated in each MB",
        make_sqlite,
        (32 * MB, 128 * MB, 1000 * MB),
    ),
    Workload("log", "a log; then a tenth more appended", make_log, (32 * MB, 128 * MB, 1000 * MB)),
    Workload(
        "parquet",
        "a Parquet file; then 10 rows changed, 3 x 1,000 put in",
        functools.partial(make_parquet, content_defined=False),
        (32 * MB, 128 * MB, 1000 * MB),
    ),
    Workload(
        "parquet-cdc",
        "the same, written with content-defined chunking",
        functools.partial(make_parquet, content_defined=True),
        (32 * MB, 128 * MB, 1000 * MB),
    ),
    Workload(
        "arrays",
        "32 layers of float32; then 3 of them trained on",
        make_arrays,
        (64 * MB, 256 * MB, 2000 * MB),
    ),
    Workload(
        "small-files",
        "text files of 4 KiB; then 1 % changed, 1 % gone, 1 % new",
        functools.partial(make_small_files, size=4096),
        (2000, 10_000, 100_000),
    ),
    Workload(
        "tiny-files",
        "600,000 text files of 2.8 KB; then 1 % changed, 1 % gone, 1 % new",
        functools.partial(make_small_files, size=2833),
        (None, None, 600_000),
    ),
    Workload(
        "random",
        "random bytes; then 1,000 put in in the middle",
        make_random,
        (64 * MIB, 256 * MIB, 2048 * MIB),
    ),
    Workload(
        "zeros", "zeros; then a one in the middle", make_zeros, (64 * MIB, 256 * MIB, 2048 * MIB)
    ),
)
EXTRA: Final = frozenset({"tiny-files"})
"""Measured only where they are named: they take long."""


@contextlib.contextmanager
def _both(root: Path, name: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open the same file of both versions for writing."""
    with open(root / "v1" / name, "wb") as old, open(root / "v2" / name, "wb") as new:
        yield old, new


def _blocks(count: int) -> Iterator[range]:
    """Yield the numbers up to `count`, 10,000 at a time."""
    for start in range(0, count, 10_000):
        yield range(start, min(start + 10_000, count))


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS, k=count))


def _row(number: int, chance: random.Random) -> str:
    at = 1_700_000_000 + number * 7
    reading, kind = chance.gauss(20, 5), chance.randrange(40)
    return f"{number},{at},{chance.choice(WORDS)},{kind},{reading:.6f},{_words(chance, 5)}\n"


def _log_line(number: int, chance: random.Random) -> str:
    level = "INFO" if chance.random() < 0.95 else "WARNING"
    request = f"{chance.getrandbits(64):016x}"
    return f"{1_700_000_000 + number * 0.013:.3f} {level} {request} {_words(chance, 8)}\n"


def _text(chance: random.Random, size: int) -> bytes:
    """Return a record of JSON, a quarter of it digits at random."""
    digits = chance.randbytes(size // 8).hex()
    words = _words(chance, size // 6)
    return f'{{"id": "{digits}", "words": "{words}'.encode()[: size - 2] + b'"}'


def main() -> None:
    """Make one workload: `python -m bench.workloads SCALE NAME`."""
    scale, name = sys.argv[1:]
    workload = next(workload for workload in WORKLOADS if workload.name == name)
    amount = workload.amounts[SCALES.index(scale)]
    assert amount is not None
    make(workload, DATA / scale / name, amount)


if __name__ == "__main__":
    main()
