"""The pack's header, directory and trailer keep the laws of section 5 of the format."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import limits
from chunkstore.errors import CorruptObjectError, UnsupportedFormatError
from chunkstore.format.pack import (
    HEADER_LENGTH,
    TRAILER_LENGTH,
    Codec,
    Frame,
    PackClass,
    PackDirectory,
    check_header,
    decode_directory,
    decode_trailer,
    encode_directory,
    new_header,
)
from chunkstore.ids import ChunkId, ChunkKind
from chunkstore.testing import strategies
from chunkstore.testing.strategies import PackTail
from tests.properties import laws

MIB = 1 << 20


def decoder(offset: int) -> laws.Decoder:
    return lambda tail, where: decode_directory(tail, offset, where)


def frames_of(directory: PackDirectory) -> list[Frame]:
    """Return what a directory lists, as its encoder takes it."""
    found: list[Frame] = []
    ids = directory.ids.tobytes()
    at = 0
    for number in range(len(directory.frame_lengths)):
        end = at + int(directory.frame_chunks[number])
        found.append(
            Frame(
                int(directory.frame_lengths[number]),
                Codec(int(directory.frame_codecs[number])),
                int(directory.frame_sizes[number]),
                [ChunkId(ids[row * 32 : row * 32 + 32]) for row in range(at, end)],
                directory.sizes[at:end].tolist(),
                [ChunkKind(kind) for kind in directory.kinds[at:end].tolist()],
            )
        )
        at = end
    return found


def seal(directory: bytes, offset: int) -> bytes:
    """Return a directory with the trailer that a stranger can make for it."""
    return directory + struct.pack(
        "<II32s4s", offset, len(directory), blake3(directory).digest(), b"CSPT"
    )


def raw_directory(
    lengths: list[int],
    frame_sizes: list[int],
    counts: list[int],
    sizes: list[int],
    *,
    stated: tuple[int, int] | None = None,
    codecs: bytes | None = None,
    kinds: bytes | None = None,
) -> bytes:
    """Return a directory's bytes, whatever the numbers say of each other."""
    return b"".join(
        [
            struct.pack("<II", *(stated or (len(lengths), len(sizes)))),
            np.array(lengths + frame_sizes + counts, "<u4").tobytes(),
            bytes(len(lengths)) if codecs is None else codecs,
            bytes(32 * len(sizes)),
            np.array(sizes, "<u4").tobytes(),
            bytes(len(sizes)) if kinds is None else kinds,
        ]
    )


@given(strategies.pack_tails())
def test_a_directory_comes_back_as_it_was_written(pack: PackTail) -> None:
    """All that was listed is found again, ids with NUL bytes too, and gives the same bytes."""
    directory = decode_directory(pack.tail, pack.directory_offset, "tested")
    assert frames_of(directory) == pack.frames
    assert encode_directory(frames_of(directory)) == pack.tail


@given(strategies.pack_tails())
def test_the_places_of_frames_and_chunks_follow_from_their_lengths(pack: PackTail) -> None:
    """Frames follow one another from byte 24 on, chunks from the beginning of their frame."""
    directory = decode_directory(pack.tail, pack.directory_offset, "tested")
    at, places = HEADER_LENGTH, []
    for number, frame in enumerate(pack.frames):
        assert directory.frame_offsets[number] == at
        at += frame.length
        offset = 0
        for size in frame.sizes:
            places.append((number, offset))
            offset += size
    assert at == pack.directory_offset
    found = zip(directory.chunk_frames.tolist(), directory.chunk_offsets.tolist(), strict=True)
    assert list(found) == places


@given(strategies.pack_tails(), strategies.pack_tails(), st.data())
def test_damage_is_refused_and_nothing_else_is_raised(
    pack: PackTail, other: PackTail, data: st.DataObject
) -> None:
    """Cut, flipped, spliced: the directory that was written, or a CorruptObjectError."""
    bad = data.draw(strategies.damaged(pack.tail, other.tail))
    if laws.decode_or_refuse(decoder(pack.directory_offset), bad) is not None:
        assert bad == pack.tail


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_decoded_or_refused(data: bytes, offset: int) -> None:
    """With and without a right trailer."""
    laws.decode_or_refuse(decoder(offset), data)
    laws.decode_or_refuse(decoder(offset), seal(data, offset))


numbers = st.one_of(st.integers(0, 3), st.integers(0, (1 << 32) - 1))


@given(
    st.lists(st.tuples(numbers, numbers, numbers), max_size=4),
    st.lists(numbers, max_size=4),
    st.data(),
)
def test_what_a_stranger_seals_is_held_to_the_same_rules(
    frames: list[tuple[int, int, int]], sizes: list[int], data: st.DataObject
) -> None:
    """What is accepted fills the body and its frames exactly and keeps the limits."""
    lengths, frame_sizes, counts = ([frame[at] for frame in frames] for at in range(3))
    stated = data.draw(st.one_of(st.none(), st.tuples(numbers, numbers)))
    after_frames = min(HEADER_LENGTH + sum(lengths), 0xFFFFFFFF)  # what a trailer can say
    offset = data.draw(st.sampled_from([after_frames, 24, 25, 1 << 27]))
    tail = seal(raw_directory(lengths, frame_sizes, counts, sizes, stated=stated), offset)
    found = laws.decode_or_refuse(decoder(offset), tail)
    if found is not None:
        assert HEADER_LENGTH + sum(lengths) == offset
        assert (sum(frame_sizes), sum(counts)) == (sum(sizes), len(sizes))
        assert all(0 < size <= limits.MAX_CHUNK_SIZE for size in sizes)
        assert all(0 < size <= limits.MAX_FRAME_SIZE for size in frame_sizes)
        assert encode_directory(frames_of(found)) == tail


@pytest.mark.parametrize(
    ("directory", "offset"),
    [
        (raw_directory([], [], [], [], stated=(0, 1)), 24),
        (raw_directory([], [], [], [], stated=(1, 0)), 24),
        (raw_directory([], [], [], [], stated=(0xFFFFFFFF, 0xFFFFFFFF)), 24),
        (raw_directory([], [], [], [5]), 24),
        (raw_directory([5], [5], [0], []), 29),
        (raw_directory([5, 5], [5, 5], [0, 1], [5]), 34),
        (raw_directory([5, 0], [5, 5], [1, 1], [5, 5]), 29),
        (raw_directory([5], [5], [1], [5]), 30),
        (raw_directory([5], [5], [1], [4]), 29),
        (raw_directory([5], [5], [2], [5, 0]), 29),
        (raw_directory([5], [0], [1], [0]), 29),
        (raw_directory([5, 5], [5, 5], [0xFFFFFFFF, 2], [5, 5]), 34),
        (raw_directory([5], [1 << 31], [2], [1 << 30, 1 << 30]), 29),
        (raw_directory([5], [0], [2], [1 << 31, 1 << 31]), 29),
        (raw_directory([5], [8 * MIB + 1], [1], [8 * MIB + 1]), 29),
        (raw_directory([5], [16 * MIB + 2], [2], [8 * MIB + 1, 8 * MIB + 1]), 29),
        (raw_directory([0xFFFFFFFF, 30], [5, 5], [1, 1], [5, 5]), 24 + 29),
        (raw_directory([5], [5], [1], [5], codecs=b"\2"), 29),
        (raw_directory([5], [5], [1], [5], kinds=b"\3"), 29),
    ],
)
def test_directories_that_contradict_themselves_are_refused(directory: bytes, offset: int) -> None:
    """Counts, lengths, sizes, codecs and kinds are checked, sums that would wrap included."""
    decode_directory(seal(raw_directory([5], [5], [1], [5]), 29), 29, "tested")
    with pytest.raises(CorruptObjectError):
        decode_directory(seal(directory, offset), offset, "tested")


def test_no_flipped_bit_and_no_cut_goes_unseen() -> None:
    """The checksum covers the directory; each number of the trailer is held against another."""
    frame = Frame(
        3, Codec.ZSTD, 9, [ChunkId(bytes(32)), ChunkId(b"\1" * 32)], [4, 5], [ChunkKind.DATA] * 2
    )
    tail = encode_directory([frame])
    laws.assert_every_bit_matters(decoder(27), tail)
    laws.assert_every_cut_is_refused(decoder(27), tail)


def test_a_directory_has_its_place() -> None:
    """The right bytes at another offset, or in a pack of another length, are refused."""
    tail = encode_directory([])
    for offset in (0, 23, 25, 1 << 40):
        with pytest.raises(CorruptObjectError):
            decode_directory(tail, offset, "tested")
    trailer = tail[-TRAILER_LENGTH:]
    assert decode_trailer(trailer, 24 + len(tail), "tested")[:2] == (24, 8)
    for length in (0, 24 + len(tail) - 1, 24 + len(tail) + 1, 1 << 40):
        with pytest.raises(CorruptObjectError):
            decode_trailer(trailer, length, "tested")


def test_directories_at_their_limits_are_read_and_cost_little() -> None:
    """65,536 chunks in one frame each or in one frame for all are read; one more is refused."""
    most = limits.MAX_PACK_CHUNKS
    each = seal(raw_directory([1] * most, [1] * most, [1] * most, [1] * most), 24 + most)
    laws.assert_cheap(decoder(24 + most), each)
    together = seal(raw_directory([7], [most], [most], [1] * most), 31)
    laws.assert_cheap(decoder(31), together)
    laws.assert_refused_cheaply(
        decoder(31), seal(raw_directory([7], [most + 1], [most + 1], [1] * (most + 1)), 31)
    )
    full = seal(bytes(limits.MAX_DIRECTORY_LENGTH), 24)
    laws.assert_refused_cheaply(decoder(24), full)


@given(strategies.pack_headers, st.data())
def test_headers_are_decoded_or_refused(header: bytes, data: st.DataObject) -> None:
    """A pack's class, or one of the two errors."""
    assert check_header(header, "tested") in PackClass
    laws.decode_or_refuse(check_header, data.draw(strategies.damaged(header, b"CSPK\x01")))
    laws.decode_or_refuse(check_header, data.draw(st.binary(max_size=30)))


def test_every_bit_of_a_header_but_the_nonce_matters() -> None:
    """Magic, version, class and reserved bytes have one meaning each."""
    header = new_header(PackClass.METADATA)
    assert check_header(header, "tested") == PackClass.METADATA
    for bit in range(8 * 8):
        if bit != 8 * 5:  # the other class
            with pytest.raises((CorruptObjectError, UnsupportedFormatError)):
                check_header(strategies.flipped(header, bit), "tested")
    laws.assert_other_versions_refused(check_header, header)


def test_no_two_packs_have_the_same_header() -> None:
    """The nonce makes the id of a pack unique, even where its chunks are the same."""
    assert len({new_header(PackClass.DATA) for _ in range(100)}) == 100
