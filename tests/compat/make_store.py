"""Makes the small store that tests/data keeps for ever: python -m tests.compat.make_store FOLDER.

Run it once for each version of the format, with the chunkstore that writes it, and commit what it
makes: the store `FOLDER` and `FOLDER.json`, which says what must be read from it. The folder must
not exist, so that a store which is kept is never made anew by accident.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from chunkstore import ChunkerSpec, Store
from chunkstore.format.manifest import EntryKind

# Small chunks, so that a file of 10 MB has lists of chunks and the store stays small.
CHUNKER = ChunkerSpec(name="fastcdc", min_size=1024, avg_size=2048, max_size=4096)
FRAME_SIZE = 64 * 1024
SECOND = 1_000_000_000
MOST_ROWS = 20  # entries of a version that the description spells out


def noise(size: int, seed: int) -> bytes:
    """Return bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def lines(count: int, first: int = 0) -> bytes:
    """Return text that compresses."""
    return b"".join(
        b"%06d a line of a file that is kept for ever\n" % n for n in range(first, count)
    )


def first_tree() -> Iterator[tuple[str, bytes]]:
    """Yield paths and bytes of the first version."""
    yield "empty.bin", b""
    yield "one-chunk.txt", b"one chunk\n"
    yield "several-chunks.bin", noise(20_000, 1)
    yield "compressible.txt", lines(1500)
    yield "duplicate/of-several.bin", noise(20_000, 1)
    yield "duplicate/of-text.txt", lines(1500)
    yield "run.sh", b"#!/bin/sh\nexec true\n"
    yield "zeros.bin", bytes(200_000)
    yield "na\u00efve/\u65e5\u672c\u8a9e-\U0001f9ca.txt", "gr\u00fc\u00dfe\n".encode()
    yield "lists.bin", noise(24_000, 2) * 350


def write(root: Path, files: Iterator[tuple[str, bytes]]) -> None:
    """Write files below `root`, with times that do not depend on the clock."""
    for number, (path, data) in enumerate(files):
        where = root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
        if path.endswith(".sh"):
            where.chmod(0o755)
        os.utime(where, ns=(0, (1_600_000_000 + number) * SECOND + number))


def push_all(store: Store, work: Path) -> None:
    """Push two versions of a tree, a dataset of many files, and a stream."""
    tree = work / "tree"
    write(tree, first_tree())
    (tree / "empty-folder" / "below").mkdir(parents=True)
    (tree / "link").symlink_to("run.sh")
    (tree / "duplicate" / "up").symlink_to("../one-chunk.txt")
    store.push(tree, "kinds", message="every kind of file", tags=["first"])
    (tree / "one-chunk.txt").unlink()
    (tree / "compressible.txt").write_bytes(lines(700) + b"an edit\n" + lines(1500, 700))
    os.utime(tree / "compressible.txt", ns=(0, 1_700_000_000 * SECOND))
    store.push(tree, "kinds", message="an edit, and a file less", tags=["stable/2"])

    many = work / "many"
    write(many, ((f"{n % 7}/file-{n:04}.txt", b"%d\n" % (n % 5)) for n in range(1600)))
    store.push(many, "team/many", message="pages outside the root")


def entry_rows(store: Store, address: str, pulled: Path) -> list[list[Any]]:
    """Return what stands at each path: kind, x bit, time, target, size, depth and two hashes.

    Pulls the version into the folder `pulled`, whose files the second hash is taken of.
    """
    store.pull(address, pulled)
    rows = []
    for entry in store.entries(address):
        is_file = entry.kind == EntryKind.FILE
        digest = sha256((pulled / entry.path).read_bytes()).hexdigest() if is_file else None
        kind = entry.kind.name.lower()
        row = [entry.path, kind, entry.executable, entry.mtime_ns, entry.target, entry.size]
        rows.append([*row, entry.blob.depth, entry.file_hash.hex(), digest])
    return rows


def digest_of(rows: list[list[Any]]) -> str:
    """Return SHA-256 of the rows as JSON."""
    return sha256(json.dumps(rows).encode()).hexdigest()


def expected(store: Store, work: Path) -> dict[str, Any]:
    """Return all that a reader must find in the store."""
    found: dict[str, Any] = {"store_id": store.config.store_id.hex(), "datasets": {}}
    for name in store.datasets():
        versions = []
        for version in store.dataset(name).versions:
            address = f"{name}@{version.number}"
            rows = entry_rows(store, address, work / address)
            values = dataclasses.asdict(version)
            values["manifest_id"] = version.manifest_id.hex()
            values["tags"] = list(version.tags)
            values["entries_sha256"] = digest_of(rows)
            values["entries"] = rows[:MOST_ROWS]
            versions.append(values)
        found["datasets"][name] = versions
    return found


def main(folder: Path) -> None:
    """Make the store and its description."""
    if folder.exists():
        raise SystemExit(f"{folder} is there; a store that is kept is never made anew")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        options = {"chunker": CHUNKER, "frame_size": FRAME_SIZE, "cache_folder": work / "cache"}
        with Store.create(str(folder), **options) as store:  # type: ignore[arg-type]
            push_all(store, work)
            text = json.dumps(expected(store, work), indent=1, ensure_ascii=False)
    for lock in folder.rglob(".lock+"):  # no object; made again when it is needed
        lock.unlink()
    folder.with_name(folder.name + ".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
