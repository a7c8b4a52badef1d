"""What a store holds, seen from outside, and the promises that hold after every crash.

Shared by the tests that kill, fail and race simulated writers.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from blake3 import blake3

from chunkstore import ChunkerSpec, Store, fragmentation, stretch, view
from chunkstore.backends.base import Backend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.format.config import Config
from chunkstore.format.gc import IDLE
from chunkstore.format.manifest import EntryKind, Manifest
from chunkstore.objects import Objects
from chunkstore.reader import Reader
from chunkstore.segment_cache import SegmentCache
from chunkstore.stream import FileContent
from chunkstore.testing.trees import random_bytes

Files: TypeAlias = tuple[tuple[str, str], ...]
"""The paths of a version, each with the BLAKE3 of its bytes."""

CONFIG: Final = Config(
    store_id=b"simulated stores",
    created_ns=1,
    chunker=ChunkerSpec(min_size=1024, avg_size=4096, max_size=16384),
    frame_size=16384,
    pack_length=32768,
)


@dataclass(frozen=True)
class Line:
    """A dataset: its versions, by number, and its tags."""

    versions: tuple[tuple[int, Files], ...] = ()
    tags: tuple[tuple[str, int], ...] = ()


World: TypeAlias = dict[str, Line]
"""Every dataset that has versions."""


def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pushes of 20 KB do what those of 4 MiB do.

    They load the whole index, so that they may merge it, and store again what lies scattered, here
    at the least sign of it.
    """
    monkeypatch.setattr(view, "_SMALL", 20_000)
    monkeypatch.setattr(stretch, "LEAST_SIZE", 1)
    monkeypatch.setattr(fragmentation, "MOST_READ", 1.0)


def new_store(backend: Backend) -> None:
    """Make an empty store with `CONFIG`."""
    assert Objects(backend).create_config(CONFIG)


def open_store(backend: Backend, cache: Path | None = None) -> Store:
    """Open the store on `backend`; without a cache nothing is known from before."""
    return Store(backend, CONFIG, str(cache) if cache else None)


def copy_of(backend: MemoryBackend) -> MemoryBackend:
    """Return a backend with the same objects, of the same versions."""
    copied = MemoryBackend()
    copied._objects = dict(backend._objects)
    copied._writes = backend._writes
    return copied


def observe(backend: Backend, *, every_pack: bool = True) -> World:
    """Read everything that a store promises to hold, by a machine without caches.

    Every byte of every version is read, so that I1 is seen to hold, and the index leads to every
    chunk of it. With `every_pack` I2 is asserted more strictly than it is promised, for a store of
    which nobody is deleting a pack: every pack that the index lists is there with that length.
    """
    objects = Objects(backend)
    index = ChunkIndex(objects, SegmentCache(None))
    index.load(IDLE)
    if every_pack:
        packs = dict(objects.list_packs())
        for hint in map(index.pack, range(index.pack_count)):
            assert packs[hint.pack_id] == hint.length
    reader = Reader(objects, lambda: index)
    world: World = {}
    for name in objects.list_datasets():
        stored = objects.get_ref(name)
        assert stored is not None
        if stored.ref.versions:
            seen = []
            for record in stored.ref.versions:
                manifest = reader.manifest(record.manifest_id)
                for ids in reader.every_id(manifest):
                    assert not (index.find(ids) == ABSENT).any(), name
                seen.append((record.number, files_of(reader, manifest)))
            world[name] = Line(tuple(seen), stored.ref.tags)
    return world


def files_of(reader: Reader, manifest: Manifest) -> Files:
    """Read a version whole; return its paths and the hashes of the bytes that were read."""
    found = []
    for number, page in enumerate(manifest.pages):
        hints = [manifest.packs[pack] for pack in page.packs]
        for entry in reader.page(manifest, number):
            data = FileContent(reader, entry, hints).read(0, entry.size)
            assert entry.kind != EntryKind.FILE or entry.file_hash == blake3(data).digest()
            found.append((entry.path, blake3(data).hexdigest()))
    return tuple(found)


def write_trees(root: Path, count: int) -> list[Path]:
    """Write folders that differ from one to the next in one file and in the middle of another."""
    big = bytearray(random_bytes(100_000, 1))
    trees = []
    for number in range(count):
        tree = root / f"tree-{number}"
        (tree / "sub").mkdir(parents=True)
        big[50_000 : 50_000 + 8000] = random_bytes(8000, number + 2)
        (tree / "big").write_bytes(big)
        (tree / "sub" / "same").write_bytes(b"the same in all\n" * 20)
        (tree / "sub" / "own").write_bytes(b"tree %d\n" % number)
        trees.append(tree)
    return trees


def stream_of(seed: int) -> io.BytesIO:
    """Return a stream of 30 KB."""
    return io.BytesIO(random_bytes(30_000, seed))


def fragmented(segments: int) -> MemoryBackend:
    """Return a store with that many index segments and one tiny version."""
    backend = MemoryBackend()
    new_store(backend)
    store = open_store(backend)
    for number in range(segments):  # too small to be merged
        store.push(io.BytesIO(b"tiny %d" % number), "tiny", name="file")
    store.remove("tiny", range(1, segments))
    assert len(store._objects.list_segments()) == segments
    return backend
