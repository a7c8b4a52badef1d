"""Damage that other programs have shipped, each once more, here: one test for each entry.

The entries are those of docs/design/testing.md. Each test is the short, direct form; what each
leads to in every variation is in the tests that it names.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from chunkstore import (
    BackendError,
    ChunkstoreError,
    CorruptObjectError,
    IntegrityError,
    Store,
    UnavailableError,
    layout,
)
from chunkstore.backends.base import Fetched, ObjectInfo, Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.format.gc import IDLE
from chunkstore.format.index import decode_segment, merge_segments
from chunkstore.format.pack import Codec
from chunkstore.objects import Objects
from chunkstore.segment_cache import SegmentCache
from chunkstore.testing.backends import CrashError, FaultBackend, MeddlingBackend, crash
from chunkstore.testing.trees import random_bytes, tree_state
from tests.faults import worlds
from tests.faults.worlds import copy_of, new_store, open_store
from tests.library.forgery import Forged, file, forge, link

AT_ONCE = {"apply": True, "grace": 0, "reader_grace": 0, "force": True}


@pytest.fixture
def backend() -> MemoryBackend:
    made = MemoryBackend()
    new_store(made)
    return made


def push(store: Store, dataset: str, *seeds: int) -> bytes:
    """Push some random bytes as the file `file`; return them."""
    data = b"".join(random_bytes(30_000, seed) for seed in seeds)
    store.push(io.BytesIO(data), dataset, name="file")
    return data


def content(store: Store, address: str) -> bytes:
    with store.open_file(f"{address}:file") as opened:
        return opened.read()


def test_borg2_9748_a_collection_that_is_killed(backend: MemoryBackend) -> None:
    """Killed at any call, it leaves no chunk that the next push relies on and that is gone.

    borg 2 lost the index update of a killed compaction: the next backup deduplicated against
    deleted chunks, a restore filled zeros in, and both ended with status 0.
    """
    store = open_store(backend)
    push(store, "kept", 1)
    push(store, "gone", 2, 3)
    store.remove("gone", [1])
    for number in itertools.count(1):
        storage = copy_of(backend)
        kind = ("before", "after")[number % 2]
        faulty = FaultBackend(storage, at=[number], kind=kind, dies=True, error=crash)  # type: ignore[arg-type]  # it is one
        with contextlib.suppress(CrashError):
            open_store(faulty).gc(**AT_ONCE)  # type: ignore[arg-type]  # as given
        after = open_store(storage)
        data = push(after, "again", 2, 3)
        assert content(after, "again") == data
        assert content(after, "kept") == random_bytes(30_000, 1)
        after.gc(**AT_ONCE)  # type: ignore[arg-type]  # as given
        assert content(after, "again") == data
        assert after.verify(level="data").well
        if not faulty.faults:
            break
    assert number > 10


@pytest.mark.parametrize("kind", ["before", "after"])
def test_restic_1638_an_error_of_a_listing(backend: MemoryBackend, kind: str) -> None:
    """A LIST that fails, at its beginning or in its middle, ends whatever asked for it.

    restic took the error for the end of the list, and so for an empty repository.
    """
    push(open_store(backend), "data", 1)
    push(open_store(backend), "data", 2)

    def tried(faulty: FaultBackend) -> Iterator[None]:
        store = open_store(faulty)
        yield store.gc(**AT_ONCE)  # type: ignore[func-returns-value, misc, arg-type]  # in turn
        yield store.verify()  # type: ignore[misc]  # in turn
        yield store.stat()  # type: ignore[misc]  # in turn
        yield store.datasets()  # type: ignore[misc]  # in turn

    for number in range(4):
        for call in itertools.count(1):
            storage = copy_of(backend)
            faulty = FaultBackend(storage, at=[call], kind=kind, methods=["list"])  # type: ignore[arg-type]  # it is one
            steps = tried(faulty)
            for _ in range(number):
                with mock.patch.object(faulty, "_at", frozenset()):
                    next(steps)
            faulty.calls.clear()
            if faulty.faults:
                continue
            try:
                next(steps)
            except BackendError:
                assert faulty.faults
                continue
            assert not faulty.faults
            break


class _ShortBackend(MemoryBackend):
    """Lists the first objects only, and says nothing of it."""

    most = 1000

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return itertools.islice(super().list(prefix, after=after), self.most)


def test_restic_1246_a_listing_that_is_short() -> None:
    """Where a storage shows less than before, a collection refuses; no version loses a chunk.

    A server gave the first 1,000 objects, and restic deleted what it took for unused. Pages of S3
    listings are checked in tests/s3/test_bad_answers.py.
    """
    backend = _ShortBackend()
    new_store(backend)
    store = open_store(backend)
    for number in range(6):
        push(store, f"data-{number}", number)
    store.gc(**AT_ONCE)  # type: ignore[arg-type]  # as given
    store.remove("data-5", [1])
    backend.most = 3
    with pytest.raises(ChunkstoreError):
        open_store(backend).gc(apply=True, grace=0, reader_grace=0)
    backend.most = 1000
    for number in range(5):
        assert content(store, f"data-{number}") == random_bytes(30_000, number)


def test_restic_2715_a_host_that_slept(backend: MemoryBackend) -> None:
    """A push that sleeps through a whole collection commits a whole version, or none.

    A host slept, another one broke its lock and pruned, the first woke up and finished a snapshot
    of deleted data. More in tests/faults/test_collected_meanwhile.py.
    """
    push(open_store(backend), "old", 1, 2)
    open_store(backend).remove("old", [1])
    for number in itertools.count(1):
        storage = copy_of(backend)

        def meddle(
            call: int, _method: str, _key: str, storage: MemoryBackend = storage, at: int = number
        ) -> None:
            if call == at:
                open_store(storage).gc(**AT_ONCE)  # type: ignore[arg-type]  # as given

        sleepy = MeddlingBackend(storage, before=meddle)
        data = random_bytes(30_000, 1) + random_bytes(30_000, 2)
        try:
            open_store(sleepy).push(io.BytesIO(data), "new", name="file")
        except ChunkstoreError:
            assert storage is not None
        else:
            assert content(open_store(storage), "new") == data
        assert open_store(storage).verify(level="data").lost_paths == 0
        if sleepy.calls < number:
            break
    assert number > 8


def test_restic_1589_an_upload_that_was_cancelled(backend: MemoryBackend) -> None:
    """No version appears unless every PUT before it was acknowledged.

    A snapshot was written while the upload of its index was being cancelled.
    """
    for number in itertools.count(1):
        storage = copy_of(backend)
        faulty = FaultBackend(storage, at=[number], methods=["put"], dies=True)
        try:
            push(open_store(faulty), "data", 1)
        except UnavailableError:
            assert worlds.observe(storage) == {}
            continue
        assert content(open_store(storage), "data") == random_bytes(30_000, 1)
        break
    assert number > 3


def test_restic_21820_half_a_pack_in_the_index(backend: MemoryBackend) -> None:
    """A pack is in a segment whole or not at all, however segments are merged.

    A rewrite of the index lost half of the entries of a pack.
    """
    for seed in range(3):
        push(open_store(backend), "data", seed)
    objects = Objects(backend)
    data = [objects.get_segment(segment) for segment in objects.list_segments()]
    segments = [decode_segment(each, "segment") for each in data if each is not None]
    packs = [pack for pack, _ in objects.list_packs()]
    for without in (frozenset[bytes](), frozenset(packs[:1]), frozenset(packs[1:])):
        merged = decode_segment(merge_segments(segments, without=without), "merged")  # type: ignore[arg-type]  # pack ids
        assert {bytes(p).ljust(32, b"\0") for p in merged.pack_ids.tolist()} == {*packs} - without
        for segment in segments:
            for row, pack in enumerate(segment.pack_ids.tolist()):
                mine = segment.ids[segment.frame_packs[segment.frames] == row]
                there = np.flatnonzero(merged.pack_ids == pack)
                theirs = merged.ids[np.isin(merged.frame_packs[merged.frames], there)]
                expected = mine if bytes(pack).ljust(32, b"\0") not in without else mine[:0]
                assert theirs.tobytes() == np.sort(expected).tobytes()


def test_restic_4523_a_compressor_that_is_wrong(backend: MemoryBackend) -> None:
    """A frame that does not give its chunks back is never sent, and the push fails.

    A bug of a zstd library wrote frames that could not be decompressed.
    """

    def wrong(_self: object, raw: memoryview) -> tuple[Codec, bytes]:
        return Codec.RAW, bytes(raw[:-1]) + b"\0"

    with (
        mock.patch("chunkstore.compression.FrameCompressor.compress", wrong),
        pytest.raises(IntegrityError),
    ):
        push(open_store(backend), "data", 1)
    assert [*Objects(backend).list_packs()] == []
    assert worlds.observe(backend) == {}


def test_icechunk_2099_an_answer_that_was_lost(backend: MemoryBackend) -> None:
    """A swap that took place and was not answered is a success, and makes one version.

    The repeated request was refused because of its own success, and reported as a conflict.
    """

    class Repeating(MemoryBackend):
        """Repeats each conditional put, as a client does whose answer was lost."""

        def put(self, key: str, data, mode):  # type: ignore[no-untyped-def]  # as the base's
            super().put(key, data, mode)
            return super().put(key, data, mode)

    storage = Repeating()
    storage._objects = dict(backend._objects)
    data = push(open_store(storage), "data", 1)
    plain = MemoryBackend()
    plain._objects = dict(storage._objects)
    store = open_store(plain)
    assert [version.number for version in store.dataset("data").versions] == [1]
    assert content(store, "data") == data


def test_xet_a_flipped_byte_in_a_stored_block(backend: MemoryBackend, tmp_path: Path) -> None:
    """No byte of a pack can change so that a pull or a read gives wrong bytes.

    A flipped byte in a block came out as a file that was called a success.
    """
    data = push(open_store(backend), "data", 1)
    (key,) = [info.key for info in backend.list(layout.PACKS)]
    stored = backend.get(key).data
    for at in range(0, len(stored), 997):
        backend.put(key, [stored[:at], bytes([stored[at] ^ 4]), stored[at + 1 :]], Overwrite())
        try:
            found = content(open_store(backend), "data")
        except IntegrityError:
            continue
        assert found == data
    backend.put(key, [stored[:5000], b"....", stored[5004:]], Overwrite())
    with pytest.raises(IntegrityError):
        open_store(backend).pull("data", tmp_path / "out")
    assert not (tmp_path / "out" / "file").exists()


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_xet_604_and_hub_4223_a_transfer_that_is_cut_off(
    backend: MemoryBackend, tmp_path: Path, cut: int
) -> None:
    """A stored object or an answer that ends early is an error, never a shorter file.

    A download that was cut off ended with a short file and no error.
    """

    class Cut(MemoryBackend):
        """Answers with less than was asked for."""

        def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
            found = super().get(key, byte_range)
            if not key.startswith(layout.PACKS):
                return found
            return Fetched(found.data[: max(0, len(found.data) - cut)], found.version)

    push(open_store(backend), "data", 1)
    for storage in (Cut(), MemoryBackend()):
        storage._objects = dict(backend._objects)
        if not isinstance(storage, Cut):
            (key,) = [info.key for info in storage.list(layout.PACKS)]
            storage.put(key, [storage.get(key).data[:-cut]], Overwrite())
        with pytest.raises((CorruptObjectError, UnavailableError)):
            open_store(storage).pull("data", tmp_path / "out")
        assert not (tmp_path / "out" / "file").exists()
        with pytest.raises((CorruptObjectError, UnavailableError)):
            content(open_store(storage), "data")


@pytest.mark.parametrize(
    ("who", "entries"),
    [
        ("git-lfs CVE-2025-26625", [link("a", "../outside"), file("a/evil")]),
        ("git-lfs CVE-2025-26625", [file("../outside/evil")]),
        ("restic 1445", [file("/etc/evil")]),
        ("restic 1445", [file("a/../../outside/evil")]),
        ("tarfile CVE-2026-11940", [link("a", "."), link("a/b", ".."), file("a/b/evil")]),
        ("lakeFS CVE-2026-26187", [file("..\\outside\\evil")]),
        ("lakeFS CVE-2026-26187", [file(".. /outside/evil\0")]),
    ],
)
def test_writes_outside_of_the_target(tmp_path: Path, who: str, entries: list[object]) -> None:
    """Whatever paths and links a version has, nothing is written outside of the target.

    More in tests/library/test_hostile_trees.py and test_restore_safety.py.
    """
    (tmp_path / "outside").mkdir()
    before = tree_state(tmp_path / "outside")
    store = forge(Forged([entries]))  # type: ignore[list-item]  # entries by hand
    for links in ("inside", "all"):
        with pytest.raises(IntegrityError):
            store.pull("data", tmp_path / "target", links=links)  # type: ignore[arg-type]  # it is one
        assert tree_state(tmp_path / "outside") == before
        assert {path.name for path in tmp_path.iterdir()} <= {"outside", "target"}, who


def test_a_link_that_stands_in_the_target(tmp_path: Path) -> None:
    """A pull does not go through links that someone put into the target (restic 1445)."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "folder").symlink_to(tmp_path / "outside")
    store = forge(Forged([[file("folder/a")]]))
    result = store.pull("data", tmp_path / "target")
    assert list((tmp_path / "outside").iterdir()) == []
    assert result.left_out or not (tmp_path / "target" / "folder").is_symlink()


def test_every_dead_chunk_is_unknown_to_a_fresh_view(backend: MemoryBackend) -> None:
    """After a collection the view has none of the chunks that went (borg 2, turned round)."""
    store = open_store(backend)
    push(store, "gone", 7)
    index = ChunkIndex(Objects(backend), SegmentCache(None))
    index.load(IDLE)
    ids = b"".join(
        store._reader().every_id(store._reader().manifest(store.version("gone").manifest_id))
    )
    assert (index.find(ids) != ABSENT).all()
    store.remove("gone", [1])
    store.gc(**AT_ONCE)  # type: ignore[arg-type]  # as given
    index = ChunkIndex(Objects(backend), SegmentCache(None))
    index.load(Objects(backend).read_gc_state())
    assert (index.find(ids) == ABSENT).all()
