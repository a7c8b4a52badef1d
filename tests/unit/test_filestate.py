"""The file-state cache: what it remembers, and what it does with a damaged memory."""

from __future__ import annotations

import os
import random
from pathlib import Path

import msgpack
import pytest

from chunkstore.filestate import FileState, FileStates, state_of
from chunkstore.ids import FileHash

STATES = {
    f"f{n:03}": (FileState(n, 2 * n, 3 * n, 4 * n), FileHash(bytes([n]) * 32)) for n in range(50)
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with the 50 files of STATES."""
    path = tmp_path / "files" / "cache"
    states = FileStates(str(path))
    for name, (state, file_hash) in STATES.items():
        states.keep(name, state, file_hash)
    states.finish()
    return path


def asked(path: Path | None) -> dict[str, FileHash | None]:
    """Return what a new look at the cache says of each file."""
    states = FileStates(str(path) if path else None)
    return {name: states.hash_of(name, state) for name, (state, _) in STATES.items()}


RIGHT = {name: file_hash for name, (_, file_hash) in STATES.items()}


def test_what_was_kept_is_known(cache: Path) -> None:
    """After `finish` every file with the same state has its hash."""
    assert asked(cache) == RIGHT
    assert os.listdir(cache.parent) == ["cache"]


@pytest.mark.parametrize("number", range(4))
def test_each_number_of_the_state_counts(cache: Path, number: int) -> None:
    """A file whose size, mtime, ctime or inode differs is not known."""
    states = FileStates(str(cache))
    for name, (state, _) in STATES.items():
        other = list(state)
        other[number] += 1
        assert states.hash_of(name, FileState(*other)) is None


def test_files_that_come_between_and_vanish_do_no_harm(cache: Path) -> None:
    """New paths are unknown, skipped ones are passed over, the others are still found."""
    states = FileStates(str(cache))
    assert states.hash_of("a", FileState(0, 0, 0, 0)) is None
    assert states.hash_of("f010", STATES["f010"][0]) == RIGHT["f010"]
    assert states.hash_of("f0105", STATES["f010"][0]) is None
    assert states.hash_of("f049", STATES["f049"][0]) == RIGHT["f049"]
    assert states.hash_of("z", STATES["f049"][0]) is None


def test_a_file_that_changed_just_now_is_not_kept(tmp_path: Path) -> None:
    """It could change again within the same tick of the clock."""
    (tmp_path / "file").write_text("x")
    states = FileStates(str(tmp_path / "cache"))
    states.keep("file", state_of((tmp_path / "file").stat()), RIGHT["f001"])
    states.finish()
    assert not (tmp_path / "cache").exists()


def test_discarding_leaves_the_old_cache(cache: Path) -> None:
    """A push that failed changes nothing and leaves no temporary file."""
    states = FileStates(str(cache))
    states.keep("f000", FileState(9, 9, 9, 9), RIGHT["f000"])
    states.discard()
    states.discard()
    assert asked(cache) == RIGHT
    assert os.listdir(cache.parent) == ["cache"]


def test_without_a_folder_nothing_is_known(tmp_path: Path) -> None:
    """None keeps nothing; a folder that cannot be written keeps nothing, silently."""
    assert set(asked(None).values()) == {None}
    (tmp_path / "file").write_text("x")
    states = FileStates(str(tmp_path / "file" / "below"))
    states.keep("f000", *STATES["f000"])
    states.keep("f001", *STATES["f001"])
    states.finish()


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_cache_is_never_believed(cache: Path, seed: int) -> None:
    """Flipped, cut or overwritten: a file is known with the bytes it was kept with, or unknown.

    A flip in a hash is found later: the hash is held against the parent version's.
    """
    source = random.Random(seed)
    data = bytearray(cache.read_bytes())
    at = source.randrange(len(data))
    if seed % 3 == 0:
        data[at] ^= 1 << source.randrange(8)
    elif seed % 3 == 1:
        del data[at:]
    else:
        data[at:] = source.randbytes(source.randrange(1, 200))
    cache.write_bytes(data)
    wrong = [n for n, h in asked(cache).items() if h is not None and h != RIGHT[n]]
    assert len(wrong) <= (seed % 3 != 1)


@pytest.mark.parametrize(
    "record",
    [
        None,
        7,
        [],
        [b"f000", 1, 2, 3, 4],
        [b"f000", 0.0, 0, 0, 0, b"x" * 32],
        [b"f000", True, 0, 0, 0, b"x" * 32],
        [b"f000", 0, 0, 0, 0, b"x" * 31],
        {b"f000": 1},
        [[[[[]]]]] * 6,
        msgpack.Timestamp(1, 1),
    ],
)
def test_records_of_another_shape_end_the_cache(cache: Path, record: object) -> None:
    """They are never taken for a file."""
    cache.write_bytes(b"CSFS\x01" + msgpack.packb(record))
    assert set(asked(cache).values()) == {None}


def test_huge_lengths_are_not_believed(cache: Path) -> None:
    """A record that says it has four billion values takes no memory."""
    for head in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        cache.write_bytes(b"CSFS\x01" + head + b"\x91" * 100_000)
        assert set(asked(cache).values()) == {None}
