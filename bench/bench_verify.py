"""Verification of a store with millions of chunks: in how much memory, and how fast.

    python -m bench.bench_verify [--chunks 10] [--versions 20] [--size 256] [--levels ...]

The store lies in a folder. Its packs are real, of 500 chunks of random bytes in raw frames of 16,
but the chunks are small: a tenth of the packs is in no version. The versions are those of
`bench_gc`. Then `verify` is run at each level, in a process of its own with an empty cache.

`peak` is the kernel's mark of resident memory, mapped files included; `anon` the most that was the
process's own. CPU is user and system.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from bench.bench_gc import DEAD_EVERY, MOST_PEAK, make
from bench.bench_index import SEGMENT_PACKS, Memory, _cpu
from chunkstore import Store
from chunkstore.format.index import IndexedPack, encode_segment
from chunkstore.format.pack import (
    Codec,
    Frame,
    IdArray,
    PackClass,
    decode_directory,
    encode_directory,
    new_header,
)
from chunkstore.ids import ID_SIZE, ChunkKind, PackId, chunk_id, content_hash
from chunkstore.layout import pack_key
from chunkstore.objects import Objects
from chunkstore.survey import Level

PACK_CHUNKS: Final = 500
FRAME_CHUNKS: Final = 16


def put_pack(folder: Path, source: np.random.Generator, size: int) -> IndexedPack:
    """Write a pack of chunks of `size` random bytes, without a sync; return how it is listed."""
    body = memoryview(source.bytes(PACK_CHUNKS * size))
    frames = []
    for first in range(0, PACK_CHUNKS, FRAME_CHUNKS):
        count = min(FRAME_CHUNKS, PACK_CHUNKS - first)
        chunks = [body[(first + n) * size : (first + n + 1) * size] for n in range(count)]
        ids = [chunk_id(ChunkKind.DATA, chunk) for chunk in chunks]
        sizes, kinds = [size] * count, [ChunkKind.DATA] * count
        frames.append(Frame(count * size, Codec.RAW, count * size, ids, sizes, kinds))
    header, directory = new_header(PackClass.DATA), encode_directory(frames)
    pack = PackId(content_hash([header, body, directory]))
    path = folder / pack_key(pack)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((header, body, directory)))
    offset = len(header) + len(body)
    decoded = decode_directory(directory, offset, "synthetic")
    return IndexedPack(pack, offset + len(directory), offset, decoded)


def fill(objects: Objects, chunks: int, folder: Path, size: int) -> Iterator[IdArray]:
    """Put packs and segments into a store; yield the ids of the chunks of nine in ten packs."""
    source = np.random.default_rng(1)
    left = chunks // PACK_CHUNKS
    while left > 0:
        packs = [put_pack(folder, source, size) for _ in range(min(left, SEGMENT_PACKS))]
        objects.put_segment(encode_segment(packs))
        ids = [pack.directory.ids for row, pack in enumerate(packs) if row % DEAD_EVERY]
        left -= len(packs)
        del packs
        yield np.frombuffer(b"".join(part.tobytes() for part in ids), f"S{ID_SIZE}")


def child(url: str, cache: str, level: str) -> dict[str, Any]:
    """Verify in this process, and say what it took."""
    store = Store.open(url, cache_folder=cache)
    memory, started, before = Memory(), time.monotonic(), _cpu()
    result = store.verify(level=cast(Level, level))
    return {
        "seconds": time.monotonic() - started,
        "cpu": _cpu() - before,
        "well": result.well,
        "packs": result.packs,
        "read": result.read_bytes if level == "data" else 0,
    } | memory.stop()


def run(url: str, cache: Path, level: str) -> dict[str, Any]:
    """Verify in a process of its own."""
    program = [sys.executable, "-m", "bench.bench_verify", "--child", url, str(cache), level]
    done = subprocess.run(program, stdout=subprocess.PIPE, check=True, env=os.environ)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Print the table; return 0 if memory was held and all was well."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*sys.argv[2:5])))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=float, default=10.0, help="millions")
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--size", type=int, default=256, help="bytes of a chunk")
    parser.add_argument("--levels", nargs="+", default=["listing", "directories", "data"])
    chosen = parser.parse_args()
    chunks, passed = int(chosen.chunks * 1e6), True
    with tempfile.TemporaryDirectory(prefix="chunkstore-verify-") as name:
        root, started = Path(name), time.monotonic()
        url = str(root / "store")
        with Store.create(url, cache_folder=root / "made") as store:
            filled = fill(store.objects, chunks, root / "store", chosen.size)
            live = make(store, filled, chosen.versions)
        print(
            f"{chunks / 1e6:.1f} M chunks made in {time.monotonic() - started:.0f} s: {live:,} live"
        )
        for level in chosen.levels:
            row = run(url, root / f"cache-{level}", level)
            print(
                f"{level:11} {row['seconds']:6.1f} s  cpu {row['cpu']:6.1f} s  "
                f"{chunks / row['seconds'] * 60 / 1e6:5.1f} M chunks a minute, "
                f"{chunks / row['cpu'] * 60 / 1e6:5.1f} of CPU  anon {row['anon'] / 1e6:4.0f} "
                f"peak {row['peak'] / 1e6:4.0f} MB  {row['packs']:,} packs, "
                f"{row['read'] / 1e6:,.0f} MB read, {'well' if row['well'] else 'DAMAGED'}",
                flush=True,
            )
            passed &= row["peak"] <= MOST_PEAK and row["well"]
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
