"""A collection of a store with millions of chunks: how fast, and in how much memory.

    python -m bench.bench_gc [--chunks 10] [--versions 20] [--on folder minio]

The chunks are those of `bench_index`: random ids in packs of 500, listed by segments in
chunkstore's own format; each pack is there under its own key, but holds zeros. The versions are
real: manifests, pages and lists that name these chunks, each version what the one before has and
some more. A tenth of the packs is in no version. Then `gc` is run in a process of its own, first
as a plan, then with --apply and without any grace.

`peak` is the kernel's mark of resident memory, mapped files included; `anon` the most that was the
process's own. CPU is user and system.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.bench_index import (
    PACK_LENGTH,
    SEGMENT_PACKS,
    Memory,
    _cpu,
    _options,
    place,
    synthetic_segment,
)
from chunkstore import Store
from chunkstore.chunk_index import ChunkIndex
from chunkstore.chunk_writer import ChunkWriter
from chunkstore.events import Event, Step
from chunkstore.format.blob import BlobBuilder
from chunkstore.format.gc import IDLE
from chunkstore.format.index import open_segment
from chunkstore.format.manifest import Entry, EntryKind, Manifest, PageRef, encode_page
from chunkstore.format.pack import IdArray
from chunkstore.format.ref import VersionRecord
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, FileHash, chunk_id
from chunkstore.layout import pack_key
from chunkstore.ledger import Totals
from chunkstore.objects import Objects
from chunkstore.segment_cache import SegmentCache
from chunkstore.testing.backends import CountingBackend

DEAD_EVERY: Final = 10
SMALL_FILE: Final = 4_000
LARGE_FILE: Final = 400_000
MOST_PEAK: Final = 512 * 1024 * 1024
LEAST_A_MINUTE: Final = 1_000_000


def fill(objects: Objects, chunks: int, folder: Path | None) -> Iterator[IdArray]:
    """Put packs and segments into a store; yield the ids of the chunks of nine in ten packs."""

    def put(key: str) -> None:
        path = Path(folder or "") / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(PACK_LENGTH))

    left = chunks // 500
    while left > 0:
        packs, data = synthetic_segment(min(left, SEGMENT_PACKS), left)
        keys = [pack_key(pack) for pack in packs]
        if folder is not None:
            list(map(put, keys))
        else:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda pack: objects.put_pack(pack, [bytes(PACK_LENGTH)]), packs))
        objects.put_segment(data)
        segment = open_segment(data, "synthetic")
        yield segment.ids[segment.frame_packs[segment.frames] % DEAD_EVERY != 0].copy()
        left -= len(packs)


def files_of(ids: IdArray, writer: ChunkWriter, number: int) -> Iterator[Entry]:
    """Yield a large file and many smaller ones that consist of these chunks."""

    def put_list(data: bytes) -> ChunkId:
        identifier = chunk_id(ChunkKind.LIST, data)
        writer.put(ChunkKind.LIST, identifier, data)
        return identifier

    sizes = [LARGE_FILE] if len(ids) > 2 * LARGE_FILE else []
    sizes += [SMALL_FILE] * ((len(ids) - sum(sizes)) // SMALL_FILE)
    sizes.append(len(ids) - sum(sizes))
    start = 0
    for row, count in enumerate(filter(None, sizes)):
        builder = BlobBuilder(put_list)
        joined = ids[start : start + count].tobytes()
        names = [joined[at : at + ID_SIZE] for at in range(0, len(joined), ID_SIZE)]
        for at in range(0, count, 4_000):
            part = names[at : at + 4_000]
            builder.add(part, [1 << 16] * len(part))
        blob = builder.finish()
        writer.publish_due()
        start += count
        path = f"{number:04}/{row:06}"
        yield Entry(path, EntryKind.FILE, False, 0, FileHash(bytes(ID_SIZE)), "", blob)


def make(store: Store, filled: Iterator[IdArray], versions: int) -> int:
    """Fill a store with what `filled` yields; return how many chunks its versions need."""
    objects, live = store.objects, 0
    index = ChunkIndex(objects, SegmentCache(None))
    index.start(IDLE)
    pages: list[tuple[PageRef, int, int]] = []  # the page, its place, bytes of its files
    with ThreadPoolExecutor(2) as workers:
        writer = ChunkWriter(
            objects,
            store.config,
            index,
            Totals(),
            level=1,
            dry_run=False,
            estimate=False,
            workers=workers,
            worker_count=2,
        )
        for number, ids in enumerate(filled):
            live += len(ids)
            for entry in files_of(ids, writer, number):
                data = encode_page([entry])
                page = chunk_id(ChunkKind.PAGE, data)
                at = writer.put(ChunkKind.PAGE, page, data)
                pages.append((PageRef(page, entry.path, 1, (), None), at, entry.size))
        writer.finish()
        hints = [writer.pack_at(at) for _, at, _ in pages]
        writer.close()
    packs = tuple(sorted(set(hints)))
    numbers = {hint: number for number, hint in enumerate(packs)}
    refs = [
        page._replace(packs=(numbers[hint],))
        for (page, _, _), hint in zip(pages, hints, strict=True)
    ]
    records = []
    for number in range(1, versions + 1):
        count = len(refs) * number // versions or 1
        size = sum(size for _, _, size in pages[:count])
        manifest = Manifest(
            dataset="data",
            created_ns=number,
            message="",
            parent=None,
            nonce=secrets.token_bytes(16),
            files=count,
            size=size,
            new_bytes=0,
            packs=packs,
            pages=tuple(refs[:count]),
        )
        identifier, _ = objects.put_manifest(manifest)
        records.append(VersionRecord(number, identifier, number, "", count, size, 0, 0))
    with tempfile.TemporaryDirectory() as empty:  # a ref of the right form, then the versions
        store.push(empty, "data")
    stored = objects.get_ref("data")
    assert stored is not None
    ref = dataclasses.replace(stored.ref, versions=tuple(records), next_number=versions + 1)
    objects.put_ref(ref, stored.version)
    return live


def child(url: str, cache: str, mode: str) -> dict[str, Any]:
    """Collect in this process, and say what it took."""
    store = Store.open(url, cache_folder=cache, s3=_options())
    backend = CountingBackend(store.objects.backend)
    store.objects.backend = backend
    memory, started, before = Memory(), time.monotonic(), _cpu()
    marks: dict[str, float] = {}

    def watch(event: Event) -> None:
        if isinstance(event, Step):
            marks.setdefault(event.name, time.monotonic() - started)

    result = store.gc(
        apply=mode == "apply",
        grace=0,
        reader_grace=0,
        force=True,
        progress=watch,
        confirm=lambda _: marks.setdefault("planned", time.monotonic() - started),
    )
    return {
        "seconds": time.monotonic() - started,
        "cpu": _cpu() - before,
        "planned": marks.get("planned", time.monotonic() - started),
        "requests": dict(backend.requests),
        "fetched": backend.bytes_out,
        "chunks": result.plan.live_chunks,
        "dead": result.plan.dead_packs,
        "deleted": result.deleted_packs,
    } | memory.stop()


def run(url: str, cache: Path, mode: str) -> dict[str, Any]:
    """Collect in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.bench_gc", "--child", url, str(cache), mode],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(where: str, chunks: int, versions: int, root: Path) -> bool:
    """Print what a plan and a collection took; return whether both were held to the bounds."""
    label, good = f"{where:7} {chunks / 1e6:5.1f} M", True
    with place(where, root) as pattern:
        url = pattern.format("gc")
        _options()
        started = time.monotonic()
        with Store.create(url, cache_folder=root / "made") as store:
            folder = Path(url) if where == "folder" else None
            live = make(store, fill(store.objects, chunks, folder), versions)
        print(f"{label}  made in {time.monotonic() - started:.0f} s: {live:,} live chunks")
        for mode in ("plan", "apply"):
            row = run(url, root / f"cache-{mode}", mode)
            speed = row["chunks"] / row["planned"] * 60
            print(
                f"{label}  {mode:6} {row['seconds']:6.1f} s (plan {row['planned']:.1f})  "
                f"cpu {row['cpu']:6.1f} s  {speed / 1e6:5.1f} M chunks a minute  "
                f"anon {row['anon'] / 1e6:4.0f} peak {row['peak'] / 1e6:4.0f} MB  "
                f"{sum(row['requests'].values()):,} requests  {row['fetched'] / 1e6:,.0f} MB got  "
                f"{row['dead']:,} dead packs, {row['deleted']:,} deleted",
                flush=True,
            )
            good &= row["peak"] <= MOST_PEAK and speed >= LEAST_A_MINUTE
    return good


def main() -> int:
    """Print the table; return 0 if memory and speed were held."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*sys.argv[2:5])))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=float, default=10.0, help="millions")
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--on", nargs="+", default=["folder"])
    chosen = parser.parse_args()
    passed = True
    for where in chosen.on:
        with tempfile.TemporaryDirectory(prefix="chunkstore-gc-") as name:
            passed &= measure(where, int(chosen.chunks * 1e6), chosen.versions, Path(name))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
