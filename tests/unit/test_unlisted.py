"""Notes of packs that no segment lists: believed only as far as the storage bears them out."""

from __future__ import annotations

import contextlib
import functools
import random
from pathlib import Path

import pytest

from chunkstore import UnavailableError
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.format.index import IndexedPack
from chunkstore.layout import pack_key
from chunkstore.testing.backends import CountingBackend, FaultBackend
from chunkstore.testing.trees import random_bytes
from chunkstore.unlisted import Unlisted
from tests.api.forging import frame_of, indexed, pack_of
from tests.faults.worlds import copy_of, new_store, observe, open_store

SIZE = 400_000


@functools.cache
def made(number: int) -> tuple[IndexedPack, bytes]:
    """Return a pack and its tail."""
    _, data = pack_of((frame_of([b"%d" % number]), b"%d" % number))
    pack = indexed(data)
    return pack, data[pack.directory_offset :]


def ids(packs: tuple[IndexedPack, ...]) -> list[bytes]:
    return [pack.pack_id for pack in packs]


def test_notes_are_left_to_the_next(tmp_path: Path) -> None:
    """What was noted and not forgotten is there again, until it is; then nothing is left."""
    path = tmp_path / "cache" / "unlisted" / "x"
    packs = [made(number) for number in range(4)]
    with contextlib.closing(Unlisted(str(path))) as notes:
        assert notes.left == ()
        for pack, tail in packs[:3]:
            notes.note(pack, tail)
        notes.forget([packs[1][0]])
    with contextlib.closing(Unlisted(str(path))) as notes:
        assert ids(notes.left) == [packs[0][0].pack_id, packs[2][0].pack_id]
        assert notes.left[0].directory.ids.tolist() == packs[0][0].directory.ids.tolist()
        notes.note(*packs[3])
        notes.forget([packs[0][0]])
    with contextlib.closing(Unlisted(str(path))) as notes:
        assert ids(notes.left) == [packs[2][0].pack_id, packs[3][0].pack_id]
        notes.forget(notes.left)
    assert not path.exists()


def test_what_was_noted_before_a_collection_is_not_used(tmp_path: Path) -> None:
    """It may have been condemned since, whatever the storage shows."""
    path = tmp_path / "x"
    with contextlib.closing(Unlisted(str(path), 1)) as notes:
        notes.note(*made(1))
    with contextlib.closing(Unlisted(str(path), 2)) as notes:
        assert notes.left == ()
    assert not path.exists()


def test_notes_belong_to_one_push(tmp_path: Path) -> None:
    """Another push of the dataset neither reads nor writes those of one at work."""
    path = str(tmp_path / "x")
    with contextlib.closing(Unlisted(path)) as one:
        one.note(*made(1))
        with contextlib.closing(Unlisted(path)) as two:
            assert two.left == ()
            two.note(*made(2))
        one.note(*made(3))
    with contextlib.closing(Unlisted(path)) as notes:
        assert ids(notes.left) == [made(1)[0].pack_id, made(3)[0].pack_id]


def test_damaged_notes_are_not_used(tmp_path: Path) -> None:
    """Wherever a file is cut off or flipped, what comes before is used, and nothing wrong."""
    path = tmp_path / "x"
    with contextlib.closing(Unlisted(str(path))) as notes:
        for number in range(3):
            notes.note(*made(number))
    whole = path.read_bytes()
    each = len(whole) // 3
    clock = random.Random(1)
    for at in clock.sample(range(len(whole)), 60):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << clock.randrange(8)
        for data in (whole[:at], bytes(flipped)):
            path.write_bytes(data)
            with contextlib.closing(Unlisted(str(path))) as notes:
                assert ids(notes.left) == [made(n)[0].pack_id for n in range(at // each)]


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    """Where notes cannot be kept the push goes on without."""
    (tmp_path / "file").write_bytes(b"")
    with contextlib.closing(Unlisted(str(tmp_path / "file" / "x"))) as notes:
        notes.note(*made(1))
        assert notes.left == ()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(4):
        (root / f"{number}").write_bytes(random_bytes(SIZE // 4, number))
    return root


def interrupted(tree: Path, cache: Path) -> MemoryBackend:
    """Return a store that went away from a push when that had stored packs and no segment."""
    backend = MemoryBackend()
    new_store(backend)
    faulty = FaultBackend(backend, at=[9], methods=("put",), dies=True)
    with pytest.raises(UnavailableError):
        open_store(faulty, cache).push(tree, "data")
    assert [*backend.list("packs/")]
    assert not [*backend.list("index/")]
    return backend


def finished(backend: MemoryBackend, tree: Path, cache: Path | None) -> int:
    """Push again; return the bytes that are sent."""
    counting = CountingBackend(backend)
    result = open_store(counting, cache).push(tree, "data")
    assert result.version == 1
    assert len(observe(backend)["data"].versions[0][1]) == 4
    assert open_store(backend).verify(level="data").damage == ()
    return counting.bytes_in


def test_what_a_push_stored_is_not_sent_again(tree: Path, tmp_path: Path) -> None:
    """The same push from the same machine sends what is missing; from another one, all of it."""
    cache = tmp_path / "cache"
    backend = interrupted(tree, cache)
    stored = sum(info.length for info in backend.list("packs/"))
    other = copy_of(backend)
    sent = finished(backend, tree, cache)
    assert sent < SIZE - stored + 40_000  # of segment, pages and refs
    assert finished(other, tree, None) > SIZE
    assert not [*(cache.glob("*/unlisted/*"))]


@pytest.mark.parametrize("how", ["gone", "collected", "rotten", "listed"])
def test_notes_of_what_is_there_no_more(tree: Path, tmp_path: Path, how: str) -> None:
    """Packs that were collected or damaged since, or listed by others, are as the storage says."""
    cache = tmp_path / "cache"
    backend = interrupted(tree, cache)
    packs = [info.key for info in backend.list("packs/")]
    if how == "gone":
        backend.delete(packs[::2])
    elif how == "collected":
        open_store(backend).gc(apply=True, grace=0, reader_grace=0, force=True)
        assert not [*backend.list("packs/")]
    elif how == "rotten":
        for key in packs[::2]:
            data = backend.get(key).data
            backend.put(key, [data[:-9] + bytes(9)], Overwrite())
    else:
        path = next(cache.glob("*/unlisted/*"))
        with contextlib.closing(Unlisted(str(path))) as notes:
            listed = notes.left
        assert {pack_key(pack.pack_id) for pack in listed} == {*packs}
        open_store(backend)._index().publish(listed)
    finished(backend, tree, cache)
    assert not [*(cache.glob("*/unlisted/*"))]


def test_a_dry_run_knows_of_them_and_lists_nothing(tree: Path, tmp_path: Path) -> None:
    """What a push would send is told right after one that was interrupted, too."""
    cache = tmp_path / "cache"
    backend = interrupted(tree, cache)
    before = [*backend.list("")]
    told = open_store(backend, cache).push(tree, "data", dry_run=True)
    assert [*backend.list("")] == before
    assert told.stats.new_bytes < SIZE
    assert open_store(backend, cache).push(tree, "data").stats.new_bytes == told.stats.new_bytes
