"""How much of a file is new after an edit, for ways of writing files that deduplicate or do not.

    python -m bench.bench_formats [SIZE_MB]

prints the table of docs/howto/deduplicate-well.md. For each format a file is written, pushed,
edited, written anew and pushed again; the share is that of the second file's bytes that the store
lacked. What needs pyarrow, h5py, safetensors or a gzip with --rsyncable is left out where that is
missing.
"""

from __future__ import annotations

import importlib.util
import io
import random
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chunkstore import Store

Table = dict[str, list[Any]]
Writer = Callable[[Path, Table], None]

EDITS = ("one row changed", "1 % of rows inserted in the middle", "1 % of rows appended")


def table_of(rows: int, seed: int) -> Table:
    """Return a table of ids, floats and words."""
    draw = random.Random(seed)
    words = [f"{draw.randrange(1 << 40):x}" for _ in range(5000)]
    return {
        "id": list(range(rows)),
        "value": [draw.random() for _ in range(rows)],
        "name": [f"{draw.choice(words)}-{draw.randrange(1000)}" for _ in range(rows)],
    }


def edited(table: Table, edit: str) -> Table:
    """Return the table after an edit."""
    rows = len(table["id"])
    changed = {name: list(column) for name, column in table.items()}
    more = table_of(max(1, rows // 100), 2)
    if edit.startswith("one"):
        changed["value"][rows // 2] = -1.0
        return changed
    at = rows if "appended" in edit else rows // 2
    return {name: column[:at] + more[name] + column[at:] for name, column in changed.items()}


def shuffled(table: Table) -> Table:
    """Return the same rows in another order."""
    order = list(range(len(table["id"])))
    random.Random(7).shuffle(order)
    return {name: [column[at] for at in order] for name, column in table.items()}


def csv_bytes(table: Table) -> bytes:
    """Return the table as CSV."""
    text = io.StringIO()
    for row in zip(*table.values(), strict=True):
        text.write(",".join(map(str, row)) + "\n")
    return text.getvalue().encode()


def _csv(path: Path, table: Table) -> None:
    path.write_bytes(csv_bytes(table))


def _gzip(*options: str) -> Writer:
    def write(path: Path, table: Table) -> None:
        command = ["gzip", "-n", "-c", *options]
        done = subprocess.run(command, input=csv_bytes(table), capture_output=True, check=True)
        path.write_bytes(done.stdout)

    return write


def _zip(path: Path, table: Table) -> None:
    stamp = (2026, 1, 1, 0, 0, 0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("t.csv", stamp), csv_bytes(table), zipfile.ZIP_DEFLATED)


def _sqlite(path: Path, table: Table) -> None:
    """Write a database, or change one that is there as a program would, by statements."""
    with sqlite3.connect(path) as base:
        base.execute("create table if not exists t (id integer, value real, name text)")
        before = base.execute("select count(*) from t").fetchone()[0]
        rows = list(zip(*table.values(), strict=True))
        if not before:
            base.executemany("insert into t values (?, ?, ?)", rows)
        elif len(rows) == before:
            base.execute("update t set value = -1 where id = ?", (before // 2,))
        else:
            base.executemany("insert into t values (?, ?, ?)", rows[: len(rows) - before])


def _vacuumed(path: Path, table: Table) -> None:
    """The same, with a tenth of the rows deleted at the beginning and the file packed anew."""
    fresh = not path.exists()
    _sqlite(path, table)
    base = sqlite3.connect(path)
    if not fresh:
        base.execute("delete from t where id % 10 = 0 and id < 5000")
        base.commit()
        base.execute("vacuum")
    base.close()


def _parquet(**options: Any) -> Writer:
    def write(path: Path, table: Table) -> None:
        import pyarrow  # noqa: PLC0415  # not installed everywhere
        import pyarrow.parquet  # noqa: PLC0415

        pyarrow.parquet.write_table(pyarrow.table(table), path, **options)

    return write


def _hdf5(**options: Any) -> Writer:
    def write(path: Path, table: Table) -> None:
        import h5py  # noqa: PLC0415

        with h5py.File(path, "w", track_order=True) as file:
            for name in ("id", "value"):
                file.create_dataset(name, data=np.array(table[name]), **options)

    return write


def _safetensors(path: Path, table: Table) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415

    layers = np.array_split(np.array(table["value"], np.float32), 20)
    save_file({f"layer{number:02}": layer for number, layer in enumerate(layers)}, path)


def formats() -> Iterator[tuple[str, Writer]]:
    """Yield what can be written here."""
    yield "CSV", _csv
    yield "CSV, gzip", _gzip()
    rsyncable = ["gzip", "--rsyncable", "-c"]
    if subprocess.run(rsyncable, input=b"", capture_output=True, check=False).returncode == 0:
        yield "CSV, gzip --rsyncable", _gzip("--rsyncable")
    yield "CSV in a ZIP", _zip
    yield "SQLite", _sqlite
    yield "SQLite, rows deleted, VACUUM", _vacuumed
    if importlib.util.find_spec("pyarrow"):
        yield "Parquet, as by default", _parquet()
        yield "Parquet, zstd", _parquet(compression="zstd")
        yield "Parquet, uncompressed", _parquet(compression="none")
        for compression in ("snappy", "zstd", "none"):
            chosen = {"compression": compression, "use_content_defined_chunking": True}
            yield f"Parquet by content, {compression}", _parquet(**chosen)
    if importlib.util.find_spec("h5py"):
        yield "HDF5, contiguous", _hdf5()
        yield "HDF5, chunked, gzip", _hdf5(chunks=(10_000,), compression="gzip")
    if importlib.util.find_spec("safetensors"):
        yield "safetensors", _safetensors


def measure(store: Store, path: Path, write: Writer, tables: tuple[Table, Table]) -> str:
    """Push a file and its successor; return the new share of that, and what both take up."""
    path.unlink(missing_ok=True)
    stored = 0
    for table in tables:
        write(path, table)
        stats = store.push(path, "file").stats
        stored += stats.stored_bytes
    return f"{stats.new_bytes / stats.size:.0%} ({stored / 1e6:.1f})"


def main(arguments: list[str]) -> None:
    """Print the table."""
    rows = int(float(arguments[0] if arguments else 20) * 1e6 / 40)
    before = table_of(rows, 1)
    changes = {edit: edited(before, edit) for edit in EDITS}
    changes["rows shuffled"] = shuffled(before)
    sys.stdout.write(f"{rows:,} rows; new share of the second file, stored MB of both\n")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "file"
        for name, write in formats():
            cells = []
            for number, after in enumerate(changes.values()):
                url = f"{place}/{len(name)}-{number}-{name.replace(' ', '')}"
                with Store.create(url, cache_folder=f"{place}/cache") as store:
                    cells.append(measure(store, path, write, (before, after)))
            size = path.stat().st_size / 1e6
            sys.stdout.write(f"| {name} | {size:.1f} | {' | '.join(cells)} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
