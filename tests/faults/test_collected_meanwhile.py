"""A collection that begins in the middle of a push takes nothing that the new version needs.

The collector is played by hand, at its worst: without any patience, all its steps between two
calls of the writer. Steps W5 and W6 of docs/design/consistency.md are what stands against it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from chunkstore import ConflictError, Store, layout
from chunkstore.backends.base import CreateOnly, Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.format.gc import GcState, encode_condemned, encode_gc_state
from chunkstore.format.index import merge_segments
from chunkstore.ids import PackId
from chunkstore.lookup import SegmentInMemory
from chunkstore.objects import Objects
from chunkstore.reader import Reader
from chunkstore.refs import Refs
from chunkstore.segment_cache import SegmentCache
from chunkstore.testing.backends import MeddlingBackend
from tests.faults import worlds
from tests.faults.worlds import copy_of, new_store, open_store


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    return worlds.write_trees(tmp_path, 3)


@pytest.fixture
def backend(trees: list[Path]) -> MemoryBackend:
    """A store with dead chunks that the next push would like to use, and some live ones."""
    made = MemoryBackend()
    new_store(made)
    store = open_store(made)
    store.push(trees[0], "old")
    store.push(worlds.stream_of(1), "old-stream", name="file")
    store.push(io.BytesIO(b"alive"), "live", name="file")
    store.remove("old", [1])
    store.remove("old-stream", [1])
    return made


def condemn(backend: MemoryBackend, packs: frozenset[PackId], *, idle: bool = False) -> GcState:
    """G4: list packs as condemned and begin a new generation; with `idle` end it at once."""
    before = Objects(backend).read_gc_state()
    key = f"{layout.GC_CURRENT.rpartition('/')[0]}/condemned/{before.generation + 1}-"
    key += secrets.token_hex(8)
    backend.put(key, [encode_condemned(packs)], CreateOnly())
    state = GcState(before.generation + 1, "" if idle else key)
    backend.put(layout.GC_CURRENT, [encode_gc_state(state)], Overwrite())
    return state


def live_packs(backend: MemoryBackend) -> frozenset[PackId]:
    """G2: the packs that hold a chunk of any listed version."""
    objects = Objects(backend)
    index = ChunkIndex(objects, SegmentCache(None))
    index.load_for_reading()
    reader = Reader(objects, lambda: index)
    live: set[PackId] = set()
    for name in objects.list_datasets():
        stored = objects.get_ref(name)
        assert stored is not None
        for record in stored.ref.versions:
            for ids in reader.every_id(reader.manifest(record.manifest_id)):
                live.update(index.pack(n).pack_id for n in index.find(ids).tolist() if n != ABSENT)
    return frozenset(live)


def fence(backend: MemoryBackend) -> None:
    """G5: give every ref a new nonce, so that who read it before cannot replace it."""
    objects = Objects(backend)
    generation = objects.read_gc_state().generation
    for name in [*objects.list_datasets()]:
        Refs(objects).swap(name, lambda ref: ref, lambda: generation)


def collect(backend: MemoryBackend, *, idle: bool = False) -> None:
    """Condemn and delete every pack without a live chunk, at once and with its manifests."""
    dead = frozenset(dict(Objects(backend).list_packs())) - live_packs(backend)
    condemn(backend, dead, idle=idle)
    fence(backend)
    backend.delete([layout.pack_key(pack) for pack in dead])


def push_tree(trees: list[Path]) -> Callable[[Store], object]:
    return lambda store: store.push(trees[1], "data")


def push_stream(_: list[Path]) -> Callable[[Store], object]:
    return lambda store: store.push(worlds.stream_of(1), "data", name="file")


def push_next(trees: list[Path]) -> Callable[[Store], object]:
    return lambda store: store.push(trees[2], "live")


@pytest.mark.parametrize("idle", [False, True], ids=["at work", "already idle"])
@pytest.mark.parametrize("push", [push_tree, push_stream, push_next])
def test_a_collection_at_any_moment_costs_no_chunk(
    backend: MemoryBackend,
    trees: list[Path],
    push: Callable[[list[Path]], Callable[[Store], object]],
    idle: bool,
) -> None:
    """A collection between any two calls: the push stores again what it needs, or is refused.

    Only a stream, which cannot be read again, may be refused; the same command then succeeds.
    """
    command = push(trees)
    plain = copy_of(backend)
    command(open_store(plain))
    done = worlds.observe(plain)
    refused = 0
    for number in itertools.count(1):
        storage = copy_of(backend)

        def meddle(
            now: int, *_: object, number: int = number, storage: MemoryBackend = storage
        ) -> None:
            if now == number:
                collect(storage, idle=idle)

        meddling = MeddlingBackend(storage, before=meddle)
        try:
            command(open_store(meddling))
        except ConflictError:
            assert push is push_stream
            refused += 1
            command(open_store(storage))
        _forget_deleted(storage)
        assert worlds.observe(storage) == done, number
        if number > meddling.calls:
            break
    assert number > 8
    assert refused > 0 or push is not push_stream


def _forget_deleted(backend: MemoryBackend) -> None:
    """G7: replace the segments by ones without the packs that are gone."""
    objects = Objects(backend)
    there = frozenset(dict(objects.list_packs()))
    index = ChunkIndex(objects, SegmentCache(None))
    index.load_for_reading()
    gone = frozenset(index.pack(n).pack_id for n in range(index.pack_count)) - there
    parts = [
        s.segment for item in index._segments if isinstance(s := item.segment, SegmentInMemory)
    ]
    data = merge_segments(parts, without=gone)
    old = objects.list_segments()
    new = objects.put_segment(data)
    objects.delete_segments([segment for segment in old if segment != new])


def test_condemned_packs_are_never_deduplicated_against(
    backend: MemoryBackend, trees: list[Path]
) -> None:
    """What is only in condemned packs is stored again, though the packs are still there."""
    condemned = frozenset(dict(Objects(backend).list_packs())) - live_packs(backend)
    condemn(backend, condemned)
    result = open_store(backend).push(trees[0], "data")
    assert result.stats.new_bytes > 100_000
    assert live_without(backend, condemned)
    backend.delete([layout.pack_key(pack) for pack in condemned])
    _forget_deleted(backend)
    assert result.version == 1
    assert worlds.observe(backend)["data"].versions[0][0] == 1


def live_without(backend: MemoryBackend, condemned: frozenset[PackId]) -> bool:
    """Whether every chunk of `data` is in a pack that is not condemned."""
    objects = Objects(backend)
    index = ChunkIndex(objects, SegmentCache(None))
    index.load(objects.read_gc_state())
    stored = objects.get_ref("data")
    assert stored is not None
    reader = Reader(objects, lambda: index)
    manifest = reader.manifest(stored.ref.versions[-1].manifest_id)
    return not any((index.find(ids) == ABSENT).any() for ids in reader.every_id(manifest))


def test_a_reader_takes_chunks_from_condemned_packs(
    backend: MemoryBackend, trees: list[Path]
) -> None:
    """Until they are deleted they serve; a version found late may have nothing else."""
    store = open_store(backend)
    store.push(trees[0], "data")
    condemn(backend, frozenset(dict(Objects(backend).list_packs())))
    stored = Objects(backend).get_ref("data")
    assert stored is not None
    reader = Reader(Objects(backend), open_store(backend)._index)
    manifest = reader.manifest(stored.ref.versions[0].manifest_id)
    pages = tuple(page._replace(packs=()) for page in manifest.pages)
    bare = dataclasses.replace(manifest, packs=(), pages=pages)
    assert worlds.files_of(reader, bare) == worlds.files_of(reader, manifest)


def test_a_collection_without_end_is_a_conflict(backend: MemoryBackend, trees: list[Path]) -> None:
    """A push that is overtaken every time gives up as a conflict, with a remedy."""

    def meddle(_: int, method: str, key: str) -> None:
        if method == "put" and key.startswith(layout.MANIFESTS):
            with contextlib.suppress(AssertionError):
                collect(backend)

    with pytest.raises(ConflictError, match="removed meanwhile") as caught:
        open_store(MeddlingBackend(backend, after=meddle)).push(trees[1], "data")
    assert caught.value.hint
    assert open_store(backend).push(trees[1], "data").version == 1


def test_tagging_and_dropping_fence_themselves(backend: MemoryBackend, trees: list[Path]) -> None:
    """A ref that was rewritten by the collector is read again before it is replaced."""
    open_store(backend).push(trees[0], "data")

    def meddle(_: int, method: str, key: str) -> None:
        if method == "put" and key == layout.ref_key("data") and not met:
            met.append(key)
            collect(backend)

    met: list[str] = []
    open_store(MeddlingBackend(backend, before=meddle)).tag("data@1", "good")
    stored = Objects(backend).get_ref("data")
    assert met
    assert stored is not None
    assert stored.ref.tags == (("good", 1),)
    assert stored.ref.gc_generation == 1
