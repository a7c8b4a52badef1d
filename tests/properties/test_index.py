"""The index segment keeps the laws of section 6 of the format, whatever its bytes."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import limits
from chunkstore.errors import CorruptObjectError, UnsupportedFormatError
from chunkstore.format.index import (
    HEADER_LENGTH,
    NONCE_LENGTH,
    IndexedPack,
    IndexSegment,
    decode_header,
    decode_segment,
    encode_segment,
    fanout_bits,
    merge_segments,
    open_segment,
    slot_of,
)
from chunkstore.format.pack import Codec, Frame, decode_directory, encode_directory
from chunkstore.ids import ChunkId, ChunkKind, PackId
from chunkstore.testing import strategies
from tests.properties import laws

Row = tuple[bytes, bytes, int, int, int, int, int, int, int, int]


def rows_of(segment: IndexSegment) -> list[Row]:
    """Return each entry with all that the segment says of its frame and pack."""
    ids, packs = segment.ids.tobytes(), segment.pack_ids.tobytes()
    rows: list[Row] = []
    for row, frame in enumerate(segment.frames.tolist()):
        pack = int(segment.frame_packs[frame])
        rows.append(
            (
                ids[row * 32 : row * 32 + 32],
                packs[pack * 32 : pack * 32 + 32],
                int(segment.pack_lengths[pack]),
                int(segment.pack_directories[pack]),
                int(segment.frame_offsets[frame]),
                int(segment.frame_lengths[frame]),
                int(segment.frame_sizes[frame]),
                int(segment.frame_codecs[frame]),
                int(segment.offsets[row]),
                int(segment.sizes[row]),
            )
        )
    return rows


def rows_in(packs: list[IndexedPack]) -> list[Row]:
    """Return the same, told from the packs' directories."""
    rows: list[Row] = []
    for pack in packs:
        d = pack.directory
        ids = d.ids.tobytes()
        for row, frame in enumerate(d.chunk_frames.tolist()):
            rows.append(
                (
                    ids[row * 32 : row * 32 + 32],
                    pack.pack_id,
                    pack.length,
                    pack.directory_offset,
                    int(d.frame_offsets[frame]),
                    int(d.frame_lengths[frame]),
                    int(d.frame_sizes[frame]),
                    int(d.frame_codecs[frame]),
                    int(d.chunk_offsets[row]),
                    int(d.sizes[row]),
                )
            )
    return rows


def many_packs(chunks: int, *, packs: int = 3, seed: int = 0) -> list[IndexedPack]:
    """Return packs that have `chunks` chunks in all."""
    source = random.Random(seed)
    made: list[IndexedPack] = []
    for _ in range(packs):
        frames = []
        for _ in range(chunks // packs // 10):
            ids = [ChunkId(source.randbytes(32)) for _ in range(10)]
            frames.append(Frame(70, Codec.RAW, 70, ids, [7] * 10, [ChunkKind.DATA] * 10))
        tail = encode_directory(frames)
        offset = 24 + 70 * len(frames)
        directory = decode_directory(tail, offset, "made")
        made.append(
            IndexedPack(PackId(source.randbytes(32)), offset + len(tail), offset, directory)
        )
    return made


@given(strategies.indexed_packs())
def test_a_segment_lists_every_chunk_of_its_packs(packs: list[IndexedPack]) -> None:
    """Each chunk is found with its place, frame and pack; ids ascend and keep their NUL bytes."""
    segment = decode_segment(encode_segment(packs), "tested")
    rows = rows_of(segment)
    assert sorted(rows) == sorted(rows_in(packs))
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert segment.pack_frames.tolist() == [len(p.directory.frame_lengths) for p in packs]


@given(strategies.indexed_packs())
def test_a_merged_segment_is_the_same_bytes(packs: list[IndexedPack]) -> None:
    """Decoding and encoding, by a merge of one, give the bytes again, but for the nonce."""
    data = encode_segment(packs)
    segment = decode_segment(data, "tested")
    merged = merge_segments([segment], without=frozenset())
    assert merged[:-NONCE_LENGTH] == data[:-NONCE_LENGTH]
    assert merged != data


@given(strategies.indexed_packs())
def test_a_segment_of_version_1_is_read(packs: list[IndexedPack]) -> None:
    """It ends before the nonce."""
    data = bytearray(encode_segment(packs)[:-NONCE_LENGTH])
    data[4] = 1
    struct.pack_into("<Q", data, 24, len(data))
    segment = decode_segment(bytes(data), "tested")
    assert sorted(rows_of(segment)) == sorted(rows_in(packs))
    for end in (len(data) - 1, len(data) - NONCE_LENGTH):
        with pytest.raises(CorruptObjectError):
            decode_segment(bytes(data[:end]), "tested")


@given(strategies.indexed_packs(), strategies.indexed_packs(), st.data())
def test_a_merge_keeps_every_entry_but_those_of_the_packs_left_out(
    first: list[IndexedPack], second: list[IndexedPack], data: st.DataObject
) -> None:
    """A pack that both segments list is taken once; one that is left out is gone whole."""
    known = {pack.pack_id for pack in first}
    both = first + [pack for pack in second if pack.pack_id not in known]
    left_out = (
        frozenset(data.draw(st.sets(st.sampled_from([p.pack_id for p in both]))))
        if both
        else frozenset()
    )
    segments = [decode_segment(encode_segment(p), "tested") for p in (first, second + first[:1])]
    merged = decode_segment(merge_segments(segments, without=left_out), "tested")
    kept = [pack for pack in both if pack.pack_id not in left_out]
    assert sorted(rows_of(merged)) == sorted(rows_in(kept))
    assert merged.pack_ids.tobytes() == b"".join(pack.pack_id for pack in kept)


def test_a_merge_of_nothing_is_an_empty_segment() -> None:
    """A store whose packs are all gone has an index without entries."""
    assert rows_of(decode_segment(merge_segments([], without=frozenset()), "tested")) == []
    assert rows_of(decode_segment(encode_segment([]), "tested")) == []
    assert len(encode_segment([])) == 56


@given(strategies.indexed_packs(), strategies.indexed_packs(), st.data())
def test_damage_is_refused_or_gives_a_segment(
    packs: list[IndexedPack], other: list[IndexedPack], data: st.DataObject
) -> None:
    """Cut, flipped, spliced: what is accepted keeps every rule; nothing else is raised.

    A segment has no checksum: whoever fetches it holds its bytes against its id.
    """
    bad = data.draw(strategies.damaged(encode_segment(packs), encode_segment(other)))
    segment = laws.decode_or_refuse(decode_segment, bad)
    laws.decode_or_refuse(open_segment, bad)
    if segment is not None:
        assert_sound(segment)


@given(st.binary(max_size=200), st.data())
def test_any_bytes_are_decoded_or_refused(data: bytes, draw: st.DataObject) -> None:
    """With and without a header that fits them; what is accepted keeps every rule."""
    laws.decode_or_refuse(decode_segment, data)
    numbers = st.integers(0, 3) | st.integers(0, (1 << 64) - 1)
    entries, length = draw.draw(numbers), draw.draw(numbers | st.just(len(data) + 32))
    packs, frames = draw.draw(numbers) % (1 << 32), draw.draw(numbers) % (1 << 32)
    bits = draw.draw(st.integers(0, 255) | st.just(fanout_bits(entries) % 256))
    header = struct.pack("<4sBB2xIIQQ", b"CSIX", 1, bits, packs, frames, entries, length)
    segment = laws.decode_or_refuse(decode_segment, header + data)
    if segment is not None:
        assert_sound(segment)


def assert_sound(segment: IndexSegment) -> None:
    """Nothing that the segment says leads outside a pack or over a limit."""
    for _, _, length, directory, offset, stored, size, codec, at, chunk in rows_of(segment):
        assert offset >= 24
        assert offset + stored <= directory < length <= limits.MAX_PACK_LENGTH
        assert at + chunk <= size <= limits.MAX_FRAME_SIZE
        assert 0 < chunk <= limits.MAX_CHUNK_SIZE
        assert codec in (Codec.RAW, Codec.ZSTD)


COLUMNS = {  # of a segment of P packs, F frames and N entries: offset in it, and how many numbers
    "fanout": lambda p, f, n: (32, 2),
    "pack_lengths": lambda p, f, n: (40 + 32 * p, p),
    "pack_directories": lambda p, f, n: (40 + 36 * p, p),
    "pack_frames": lambda p, f, n: (40 + 40 * p, p),
    "frame_offsets": lambda p, f, n: (40 + 44 * p, f),
    "frame_lengths": lambda p, f, n: (40 + 44 * p + 4 * f, f),
    "frame_sizes": lambda p, f, n: (40 + 44 * p + 8 * f, f),
    "frame_codecs": lambda p, f, n: (40 + 44 * p + 12 * f, f),
    "frames": lambda p, f, n: (40 + 44 * p + 16 * f + 32 * n, n),
    "offsets": lambda p, f, n: (40 + 44 * p + 16 * f + 36 * n, n),
    "sizes": lambda p, f, n: (40 + 44 * p + 16 * f + 40 * n, n),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(
    "value", [0, 1, 23, 24, (1 << 27) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
)
def test_no_number_of_a_segment_is_believed(column: str, value: int) -> None:
    """Each number, put to the ends of its range, is refused or leaves the segment sound."""
    packs = many_packs(60)
    data = encode_segment(packs)
    start, count = COLUMNS[column](3, 6, 60)
    assert np.array_equal(
        np.frombuffer(data, "<u4", count, start), getattr(decode_segment(data, "tested"), column)
    )
    for row in {0, count // 2, count - 1}:
        changed = bytearray(data)
        struct.pack_into("<I", changed, start + 4 * row, value)
        segment = laws.decode_or_refuse(decode_segment, bytes(changed))
        if segment is not None:
            assert_sound(segment)
        laws.decode_or_refuse(open_segment, bytes(changed))


def test_ids_out_of_order_are_refused() -> None:
    """A search in halves would not find what stands at a wrong place."""
    data = bytearray(encode_segment(many_packs(60)))
    start = 40 + 44 * 3 + 16 * 6
    first, second = data[start : start + 32], data[start + 32 : start + 64]
    data[start : start + 64] = second + first
    with pytest.raises(CorruptObjectError, match="sorted"):
        decode_segment(bytes(data), "tested")


def test_stated_counts_allocate_nothing() -> None:
    """A header that promises two thousand million entries is held against the bytes first."""
    for packs, frames, entries in [
        (0, 0, limits.MAX_SEGMENT_ENTRIES),
        (0, 0, limits.MAX_SEGMENT_ENTRIES + 1),
        (0, 0, (1 << 64) - 1),
        ((1 << 32) - 1, (1 << 32) - 1, 0),
        (0, (1 << 32) - 1, 5),
    ]:
        bits = fanout_bits(entries)
        length = 32 + 4 * ((1 << bits) + 1) + packs * 44 + frames * 16 + entries * 44
        for stated in (length, 40, (1 << 64) - 1):
            header = struct.pack(
                "<4sBB2xIIQQ", b"CSIX", 1, bits, packs, frames, entries, min(stated, (1 << 64) - 1)
            )
            laws.assert_refused_cheaply(decode_segment, header + bytes(8))
            laws.assert_refused_cheaply(open_segment, header + bytes(8))


def test_frame_counts_that_wrap_or_do_not_add_up_are_refused() -> None:
    """Sums of the packs' frame counts are taken in 64 bits before anything is repeated so often."""
    data = encode_segment(many_packs(60))
    for counts in [(0xFFFFFFFF, 0xFFFFFFFF, 8), (0, 0, 5), (2, 2, 3), (0x80000003, 0x80000003, 0)]:
        changed = bytearray(data)
        struct.pack_into("<III", changed, 40 + 40 * 3, *counts)
        laws.assert_refused_cheaply(open_segment, bytes(changed))


def test_a_whole_segment_is_checked_in_proportion_to_its_bytes() -> None:
    """Checking takes less memory than the segment itself."""
    data = encode_segment(many_packs(60_000))
    assert len(data) > 2_600_000
    assert laws.growth(decode_segment, data) < len(data)
    laws.assert_every_cut_is_refused(decode_segment, data[:100])


def test_another_format_version_is_named_with_its_remedy() -> None:
    """A newer or older segment is unsupported, not corrupt."""
    data = encode_segment(many_packs(60))
    for version in {*range(256)} - {1, 2}:
        other = data[:4] + bytes([version]) + data[5:]
        for decode in (decode_segment, open_segment):
            with pytest.raises(UnsupportedFormatError) as caught:
                decode(other, "tested")
            assert caught.value.hint


def test_the_reserved_bytes_are_zero() -> None:
    """What no version knows is not passed over."""
    data = encode_segment([])
    for bit in range(6 * 8, 8 * 8):
        with pytest.raises(CorruptObjectError):
            decode_segment(strategies.flipped(data, bit), "tested")


@pytest.mark.parametrize("chunks", [0, 30, 240, 270, 510, 540, 3000, 30_000])
def test_one_ranged_read_finds_an_id(chunks: int) -> None:
    """The fan-out, read alone, bounds the entries among which an id stands."""
    packs = many_packs(chunks)
    data = encode_segment(packs)
    header = decode_header(data[:HEADER_LENGTH], len(data), "tested")
    segment = decode_segment(data, "tested")
    ids = segment.ids.tobytes()
    assert header.entries == chunks
    assert len(segment.fanout) == (1 << header.fanout_bits) + 1
    for row in range(chunks):
        slot = slot_of(ids[row * 32 : row * 32 + 32], header.fanout_bits)
        assert segment.fanout[slot] <= row < segment.fanout[slot + 1]
    if chunks >= 256:
        assert 100 < chunks / (1 << header.fanout_bits) < 256


def test_the_fan_out_grows_with_the_entries() -> None:
    """128 to 256 entries a slot on average; never more bits than the format allows."""
    for bits in range(1, 25):
        least = 256 << (bits - 1)
        assert fanout_bits(least) == bits
        assert fanout_bits(least - 1) == bits - 1
    assert fanout_bits(limits.MAX_SEGMENT_ENTRIES) == limits.MAX_FANOUT_BITS == 24
    assert slot_of(b"\xff" * 32, 24) == (1 << 24) - 1
    assert slot_of(b"\xff" * 32, 0) == 0
