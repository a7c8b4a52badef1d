"""Blobs and lists keep the laws of section 7 of the format, whatever their bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import limits
from chunkstore.errors import CorruptObjectError
from chunkstore.format.blob import EMPTY, LIST, Blob, check_blob, decode_list, encode_list
from chunkstore.testing import strategies
from tests.properties import laws

listed = strategies.blobs(most_depth=limits.MAX_BLOB_DEPTH - 1).filter(lambda blob: blob.count > 0)
ID = bytes(range(32))


def blob_of(depth: int, sizes: list[int], *, size: int | None = None) -> Blob:
    """Return a blob of equal chunks with these sizes; `size` where it is another than their sum."""
    packed = struct.pack(f"<{len(sizes)}{'Q' if depth else 'I'}", *sizes)
    return Blob(sum(sizes) if size is None else size, depth, ID * len(sizes), packed)


@given(listed)
def test_a_list_comes_back_as_it_was_written(blob: Blob) -> None:
    """Encoding and decoding give the value and the bytes again."""
    laws.assert_round_trip(decode_list, encode_list, blob)


@given(strategies.blobs())
def test_a_sound_blob_is_passed_on(blob: Blob) -> None:
    """Checking changes nothing."""
    assert check_blob(blob, "tested") is blob
    assert int(blob.size_array().sum()) == blob.size
    assert len(blob.size_array()) == blob.count


@given(listed, listed, st.data())
def test_damage_is_refused_and_nothing_else_is_raised(
    blob: Blob, other: Blob, data: st.DataObject
) -> None:
    """Cut, flipped, spliced: a sound list or one of the two errors."""
    bad = data.draw(strategies.damaged(encode_list(blob), encode_list(other)))
    laws.assert_canonical(decode_list, encode_list, bad)


@given(st.binary(max_size=200) | strategies.hostile_bodies)
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """With and without a right magic and version."""
    laws.decode_or_refuse(decode_list, data)
    laws.assert_canonical(decode_list, encode_list, laws.document(LIST, data))


@given(
    st.integers(-1, 6) | st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.binary(max_size=100),
    st.binary(max_size=40),
)
def test_any_fields_are_checked(depth: int, size: int, ids: bytes, sizes: bytes) -> None:
    """What is accepted has a whole id and size for each chunk, and the sizes add up."""

    def decode(_: bytes, where: str) -> Blob:
        return check_blob(Blob(size, depth, ids, sizes), where)

    blob = laws.decode_or_refuse(decode, b"")
    if blob is not None:
        assert 0 <= depth <= limits.MAX_BLOB_DEPTH
        assert blob.count * 32 == len(ids)
        assert blob.count * (8 if depth else 4) == len(sizes)
        assert sum(blob.size_array().tolist()) == size


@pytest.mark.parametrize("count", [2048, 2049, 4096])
def test_sizes_that_wrap_around_are_refused(count: int) -> None:
    """2,048 lists of 2**53 bytes come to 2**64, which is not nothing."""
    sizes = [1 << 53] * count
    wrapped = sum(sizes) % (1 << 64)
    for last in (1 << 53, 7):
        sizes[-1] = last
        wrapped = sum(sizes) % (1 << 64)
        with pytest.raises(CorruptObjectError):
            check_blob(blob_of(1, sizes, size=wrapped), "tested")


@pytest.mark.parametrize(
    "make",
    [
        lambda: blob_of(5, [1]),
        lambda: blob_of(-1, [1]),
        lambda: blob_of(1, []),
        lambda: blob_of(0, [], size=1),
        lambda: blob_of(0, [1, 0]),
        lambda: blob_of(0, [limits.MAX_CHUNK_SIZE + 1]),
        lambda: blob_of(0, [1], size=2),
        lambda: blob_of(1, [limits.MAX_FILE_SIZE + 1]),
        lambda: blob_of(1, [limits.MAX_FILE_SIZE, 1]),
        lambda: blob_of(0, [1] * 4097),
        lambda: Blob(1, 0, ID, struct.pack("<Q", 1)),
        lambda: Blob(1, 1, ID, struct.pack("<I", 1)),
        lambda: Blob(1, 0, ID + b"x", struct.pack("<I", 1)),
        lambda: Blob(1, 0, ID, struct.pack("<I", 1) + b"x"),
        lambda: Blob(0, 0, b"", b"x"),
        lambda: Blob(0, 0, b"x", b""),
    ],
)
def test_blobs_that_contradict_themselves_are_refused(make: Callable[[], Blob]) -> None:
    """Depth, count, sizes and their sum are checked."""
    assert check_blob(blob_of(0, [1] * 4096), "tested")
    assert check_blob(blob_of(4, [limits.MAX_FILE_SIZE]), "tested")
    with pytest.raises(CorruptObjectError):
        check_blob(make(), "tested")


@pytest.mark.parametrize(
    "fields",
    [
        [4, 1, ID, struct.pack("<Q", 1)],
        [0, 0, b"", b""],
        [0, 1, ID],
        [0, 1, ID, struct.pack("<I", 1), None],
        [0, 1, list(ID), struct.pack("<I", 1)],
        [False, 1, ID, struct.pack("<I", 1)],
    ],
)
def test_lists_that_no_writer_makes_are_refused(fields: list[Any]) -> None:
    """No list stands below the deepest level, none is empty."""
    decode_list(laws.document(LIST, laws.packed([0, 1, ID, struct.pack("<I", 1)])), "tested")
    with pytest.raises(CorruptObjectError):
        decode_list(laws.document(LIST, laws.packed(fields)), "tested")


def test_the_longest_list_is_read_and_cuts_and_versions_are_refused() -> None:
    """4,096 lists in one list are within the limit; a beginning of one is none."""
    long = encode_list(blob_of(3, [1 << 41] * 4096))
    assert len(long) <= limits.MAX_LIST_LENGTH
    laws.assert_cheap(decode_list, long)
    data = encode_list(blob_of(0, [1, 2]))
    laws.assert_every_cut_is_refused(decode_list, data)
    laws.assert_other_versions_refused(decode_list, data)


def test_bombs_are_refused_cheaply() -> None:
    """Documents that swell are refused before they do, wherever they begin to."""
    for data in laws.bombs_at_each_field(LIST, [0, 1, ID, struct.pack("<I", 1)]).values():
        laws.assert_refused_cheaply(decode_list, data)


def test_the_empty_blob_is_one() -> None:
    """A file without bytes has no chunks."""
    assert check_blob(EMPTY, "tested") is EMPTY
    assert (EMPTY.count, EMPTY.size, len(EMPTY.size_array())) == (0, 0, 0)
