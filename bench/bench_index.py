"""Push, first read and pull beside an index of millions of chunks, against an empty store.

    python -m bench.bench_index [--chunks 1 10] [--on folder minio] [--size 1000] [--runs 3]

Synthetic are the chunks that the store holds before: random ids in packs of 500 chunks and 32
frames, listed by segments of up to 2.5 million entries in chunkstore's own format. Each of those
packs is there under its own key with the length that the index states, but holds zeros: 120
bytes, as if each frame took one. So what is loaded, listed and looked up is of full size, and
nobody can read those chunks. What is pushed, read and pulled is real.

Rows of pushes are medians. `anon` is the most memory that was the process's own, shared buffers
too, and `file` the most that was mapped files, sampled every 10 ms; `peak` is the kernel's mark of
both together. CPU is user and system.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from chunkstore import S3Options, Store
from chunkstore.backends.base import Backend, Overwrite
from chunkstore.format import index as segments
from chunkstore.ids import ID_SIZE, PackId
from chunkstore.layout import pack_key
from chunkstore.objects import Objects
from chunkstore.testing import servers
from chunkstore.testing.backends import CountingBackend
from chunkstore.testing.trees import random_bytes

PACK_CHUNKS: Final = 500
PACK_FRAMES: Final = 32
PACK_LENGTH: Final = 120
SEGMENT_PACKS: Final = 5_000
MOST_REQUESTS: Final = 8
MOST_BYTES: Final = 2_000_000
MOST_RATIO: Final = 1.2
MOST_OVERHEAD: Final = 1.05


def synthetic_segment(packs: int, seed: int) -> tuple[list[PackId], bytes]:
    """Return the ids of that many packs and an index segment of their chunks."""
    source = np.random.default_rng(seed)
    frames, entries = packs * PACK_FRAMES, packs * PACK_CHUNKS
    ids = np.frombuffer(source.bytes(packs * ID_SIZE), f"S{ID_SIZE}")
    in_pack = np.arange(PACK_CHUNKS, dtype=np.uint32)
    frame = in_pack // np.uint32(16)
    data = segments._encode(
        None,
        pack_ids=ids,
        pack_lengths=np.full(packs, PACK_LENGTH, "<u4"),
        pack_directories=np.full(packs, 24 + PACK_FRAMES, "<u4"),
        pack_frames=np.full(packs, PACK_FRAMES, "<u4"),
        frame_offsets=np.tile(np.arange(24, 24 + PACK_FRAMES, dtype="<u4"), packs),
        frame_lengths=np.ones(frames, "<u4"),
        frame_sizes=np.full(frames, 1 << 20, "<u4"),
        frame_codecs=np.ones(frames, "<u4"),
        ids=np.frombuffer(source.bytes(entries * ID_SIZE), f"S{ID_SIZE}"),
        frames=(np.arange(packs, dtype="<u4")[:, None] * np.uint32(PACK_FRAMES) + frame).ravel(),
        offsets=np.tile((in_pack % np.uint32(16)) << np.uint32(16), packs),
        sizes=np.full(entries, 1 << 16, "<u4"),
    )
    segments.decode_segment(data, "synthetic")
    joined = ids.tobytes()
    return [PackId(joined[at : at + ID_SIZE]) for at in range(0, len(joined), ID_SIZE)], data


def fill(backend: Backend, chunks: int, folder: Path | None) -> int:
    """Put synthetic packs and their segments into a store; return the bytes of the segments.

    In a folder the packs are written beside the backend, without a sync for each.
    """
    objects, left, total = Objects(backend), chunks // PACK_CHUNKS, 0

    def put(pack: PackId) -> None:
        if folder is None:
            backend.put(pack_key(pack), [bytes(PACK_LENGTH)], Overwrite())
        else:
            path = folder / pack_key(pack)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(PACK_LENGTH))

    while left > 0:
        packs, data = synthetic_segment(min(left, SEGMENT_PACKS), left)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, packs))
        objects.put_segment(data)
        left, total = left - len(packs), total + len(data)
    return total


class Memory:
    """Samples of what this process holds, in a thread."""

    def __init__(self) -> None:
        """Start to sample."""
        self.most = {"own": 0, "RssFile": 0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            now = _status()
            now["own"] = now["RssAnon"] + now["RssShmem"]
            self.most = {name: max(most, now[name]) for name, most in self.most.items()}

    def stop(self) -> dict[str, int]:
        """Return the most of each, and the mark of the kernel, in bytes."""
        self._stop.set()
        self._thread.join()
        return {"anon": self.most["own"], "file": self.most["RssFile"]} | {
            "peak": _status()["VmHWM"]
        }


def _status() -> dict[str, int]:
    with open("/proc/self/status") as lines:
        pairs = [line.split() for line in lines if line.startswith(("Rss", "VmHWM"))]
    return {pair[0].rstrip(":"): int(pair[1]) * 1024 for pair in pairs}


def child(url: str, cache: str, verb: str, argument: str, address: str) -> dict[str, Any]:
    """Do one thing to a store in this process, and say what it took."""
    store = Store.open(url, cache_folder=cache, s3=_options())
    backend = CountingBackend(store._objects.backend)
    store._objects.backend = backend
    memory, started, before = Memory(), time.monotonic(), _cpu()
    if verb == "push":
        store.push(argument, address)
    elif verb == "pull":
        store.pull(address, argument)
    else:
        with store.open_file(address) as file:
            file.seek(int(argument))
            assert len(file.read(1024)) == 1024
    return {
        "seconds": time.monotonic() - started,
        "cpu": _cpu() - before,
        "requests": sum(backend.requests.values()) + 1,  # and the config
        "fetched": backend.bytes_out,
        "methods": dict(backend.requests),
    } | memory.stop()


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _options() -> S3Options | None:
    keys = servers.ACCESS_KEY, servers.SECRET_KEY
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = keys
    os.environ["AWS_REGION"] = "us-east-1"
    return None


def run(url: str, cache: Path | None, verb: str, argument: str, address: str) -> dict[str, Any]:
    """Do one thing to a store in a process of its own; the cache None is an empty one."""
    with tempfile.TemporaryDirectory(prefix="chunkstore-index-cache-") as empty:
        program = [sys.executable, "-m", "bench.bench_index", "--child", url, str(cache or empty)]
        done = subprocess.run(
            [*program, verb, argument, address], stdout=subprocess.PIPE, check=True, env=os.environ
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def place(name: str, folder: Path) -> Iterator[str]:
    """Run a server, or take a folder; yield what stores' addresses begin with."""
    if name == "folder":
        yield str(folder / "store-{}")
        return
    with servers.minio() as server:
        server.make_bucket("bench")
        yield server.store_url("bench", "PLACE").replace("PLACE", "store-{}")


def write_source(root: Path, megabytes: int, seed: int) -> None:
    """Write files of 25 MB that do not compress."""
    root.mkdir()
    for number in range(0, megabytes, 25):
        with open(root / f"{number:05}", "wb") as file:
            for block in range(min(25, megabytes - number)):
                file.write(random_bytes(1_000_000, seed + number + block))


def measure(where: str, chunks: int, size: int, runs: int, root: Path) -> bool:
    """Print the rows of one storage and one size of the index; return whether all were held."""
    source, part = root / "source", root / "part"
    write_source(source, size, seed=1)
    write_source(part, min(size, 100), seed=1_000_000)
    label = f"{where:7} {chunks / 1e6:5.1f} M"
    with place(where, root) as pattern:
        caches = {"empty": root / "cache-empty", "full": root / "cache-full"}
        urls = {name: pattern.format(name) for name in caches}
        _options()
        for url in urls.values():
            Store.create(url).close()
        started = time.monotonic()
        with Store.open(urls["full"]) as store:
            length = fill(
                store._objects.backend, chunks, Path(urls["full"]) if where == "folder" else None
            )
        print(f"{label}  made: index of {length / 1e6:,.0f} MB, {time.monotonic() - started:.0f} s")
        good = _first_reads(label, urls["full"], part, root, min(size, 100))
        return _pushes(label, urls, caches, source, runs) and good


def _first_reads(label: str, url: str, part: Path, root: Path, size: int) -> bool:
    """Push 100 MB, read 1 KB of it and pull it, without any cache."""
    pushed = run(url, None, "push", str(part), "part")
    _row(label, "push 100 MB, no cache", pushed)
    read = run(url, None, "read", "500000", "part:00000")
    _row(label, "read 1 KB, no cache", read)
    pulled = run(url, None, "pull", str(root / "out"), "part")
    _row(label, "pull 100 MB, no cache", pulled)
    shutil.rmtree(root / "out")
    overhead = pulled["fetched"] / (size * 1e6)
    print(f"{label}  pull fetched {overhead:.3f} times its content, at most {MOST_OVERHEAD}")
    few = read["requests"] <= MOST_REQUESTS and read["fetched"] <= MOST_BYTES
    return few and overhead <= MOST_OVERHEAD


def _pushes(
    label: str, urls: dict[str, str], caches: dict[str, Path], source: Path, runs: int
) -> bool:
    """Push the same to both stores in turn: first with an empty cache, then with a full one."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in urls}
    cold = run(urls["full"], caches["full"], "push", str(source.parent / "part"), "part-again")
    _row(label, "push 100 MB, fills cache", cold)
    for number in range(runs):
        for name, url in urls.items():
            rows[name].append(run(url, caches[name], "push", str(source), f"data-{number}"))
            _forget(url, caches[name], number)
    median = {
        name: {
            key: statistics.median(row[key] for row in found)
            for key in ("seconds", "cpu", "requests", "fetched", "anon", "file", "peak")
        }
        for name, found in rows.items()
    }
    for name, row in median.items():
        _row(label, f"push to the {name} store", row)
    ratios = {key: median["full"][key] / median["empty"][key] for key in ("seconds", "cpu", "anon")}
    ratios["peak"] = median["full"]["peak"] / median["empty"]["peak"]
    print(f"{label}  full / empty: " + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    return max(ratios["cpu"], ratios["anon"], ratios["peak"]) <= MOST_RATIO


def _forget(url: str, cache: Path, number: int) -> None:
    """Remove what the last push stored, so that the next one finds the store as it was."""
    with Store.open(url, cache_folder=cache) as store:
        objects = store._objects
        backend = objects.backend
        known = {info.key for info in backend.list("packs/") if info.length > PACK_LENGTH}
        kept = _packs_of(store, "part") if "full" in url else set()
        backend.delete(list(known - kept))
        backend.delete(
            [
                info.key
                for info in backend.list("index/")
                if not kept or info.length < 10_000_000  # the synthetic ones are larger
            ]
        )
        backend.delete([f"refs/data-{number}"])


def _packs_of(store: Store, dataset: str) -> set[str]:
    manifest = store._reader().manifest(store.version(dataset).manifest_id)
    return {pack_key(hint.pack_id) for hint in manifest.packs}


def _row(label: str, what: str, row: dict[str, Any]) -> None:
    print(
        f"{label}  {what:26} {row['seconds']:6.2f} s  cpu {row['cpu']:6.2f} s  "
        f"anon {row['anon'] / 1e6:4.0f} file {row['file'] / 1e6:4.0f} "
        f"peak {row['peak'] / 1e6:4.0f} MB  {row['requests']:4.0f} requests  "
        f"{row['fetched'] / 1e6:8.3f} MB got",
        flush=True,
    )


def main() -> int:
    """Print the table; return 0 if nothing took more than it may."""
    if sys.argv[1:2] == ["--child"]:
        url, cache, verb, argument, address = sys.argv[2:]
        print(json.dumps(child(url, cache, verb, argument, address)))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", nargs="+", type=float, default=[1.0], help="millions")
    parser.add_argument("--on", nargs="+", default=["folder", "minio"])
    parser.add_argument("--size", type=int, default=1000, help="MB that are pushed")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    passed = True
    for millions in chosen.chunks:
        for where in chosen.on:
            with tempfile.TemporaryDirectory(prefix="chunkstore-index-") as name:
                root = Path(name)
                chunks = int(millions * 1e6)
                passed &= measure(where, chunks, chosen.size, chosen.runs, root)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
