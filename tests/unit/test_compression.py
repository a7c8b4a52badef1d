"""Frames come back as they were, and no stored bytes make a reader swell."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkstore import limits
from chunkstore.compression import (
    DEFAULT_LEVEL,
    MAX_LEVEL,
    FrameCompressor,
    compress_frame,
    decompress_frame,
)
from chunkstore.errors import CorruptObjectError
from chunkstore.format.pack import Codec
from chunkstore.testing.trees import random_bytes, text_bytes

KIB, MIB = limits.KIB, limits.MIB
ROOT = Path(__file__).parents[2]
BLOCK = 128 * KIB  # the most that one block of zstd may stand for
MOST_GROWTH = 64 * MIB


def block(data: bytes, *, last: bool = False, repeated: int = 0) -> bytes:
    """Return a block of zstd as it is (RFC 8878, 3.1.1.2), or of one byte `repeated` times."""
    kind, size = (1, repeated) if repeated else (0, len(data))
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + data


def zstd_frame(
    blocks: list[bytes], *, stated: int | None, window_log: int = 20, dictionary: int = 0
) -> bytes:
    """Return a zstd frame with any header: stated size (None: none), window, dictionary id."""
    descriptor = (0x80 if stated is not None else 0) | (0x03 if dictionary else 0)
    header = zstandard.FRAME_HEADER + bytes([descriptor, (window_log - 10) << 3])
    header += dictionary.to_bytes(4, "little") if dictionary else b""
    header += stated.to_bytes(4, "little") if stated is not None else b""
    return header + b"".join(blocks)


def expanding(size: int, stated: int | None, *, window_log: int = 23) -> bytes:
    """Return a frame that expands to `size` zeros, whatever it states."""
    blocks = [block(b"\0", repeated=BLOCK)] * (size // BLOCK - 1)
    blocks.append(block(b"\0", repeated=BLOCK, last=True))
    return zstd_frame(blocks, stated=stated, window_log=window_log)


def refuse(stored: bytes, raw_size: int, codec: int = Codec.ZSTD) -> str:
    """Return why the frame is refused; anything but a CorruptObjectError is a broken law."""
    with pytest.raises(CorruptObjectError, match="tested") as caught:
        decompress_frame(codec, stored, raw_size, "tested")
    assert caught.value.hint
    return caught.value.message


@given(st.binary(max_size=2000), st.integers(1, 40), st.sampled_from([1, 3, 9, 19]))
def test_a_frame_comes_back_as_it_was(data: bytes, times: int, level: int) -> None:
    """Every level, raw or compressed, never longer than it was."""
    raw = data * times or b"x"
    codec, stored = compress_frame(raw, level)
    assert len(stored) <= len(raw)
    assert decompress_frame(codec, stored, len(raw), "tested") == raw
    assert decompress_frame(codec, memoryview(stored), len(raw), "tested") == raw


@pytest.mark.parametrize("size", [1, 1000, 100_000, MIB, 3 * MIB])
def test_what_does_not_shrink_is_stored_raw(size: int) -> None:
    """Reading media costs no zstd; the bytes stand in the pack as they are."""
    data = random_bytes(size, 5)
    assert compress_frame(data) == (Codec.RAW, data)
    assert compress_frame(bytearray(data)) == (Codec.RAW, data)


@pytest.mark.parametrize("size", [1000, 100_000, MIB, 3 * MIB])
def test_what_shrinks_is_stored_compressed(size: int) -> None:
    """Text is, at any length."""
    codec, stored = compress_frame(text_bytes(size, 5))
    assert codec == Codec.ZSTD
    assert len(stored) < size * 0.8


def test_a_gain_of_less_than_a_hundredth_is_none() -> None:
    """A frame that hardly shrinks is kept raw."""
    data = random_bytes(50_000, 5) + bytes(300)
    assert compress_frame(data)[0] == Codec.RAW
    assert compress_frame(data + bytes(2000))[0] == Codec.ZSTD


@pytest.mark.parametrize("level", range(1, MAX_LEVEL + 1))
def test_every_level_keeps_the_limits_that_readers_hold_it_to(level: int) -> None:
    """The largest frame has a size, a window of at most 8 MiB, no dictionary, no checksum."""
    _, stored = compress_frame(bytes(limits.MAX_FRAME_SIZE), level)
    header = zstandard.get_frame_parameters(stored)
    assert header.content_size == limits.MAX_FRAME_SIZE
    assert header.window_size <= limits.MAX_ZSTD_WINDOW
    assert (header.dict_id, header.has_checksum) == (0, False)
    assert decompress_frame(Codec.ZSTD, stored, limits.MAX_FRAME_SIZE, "tested") == bytes(
        limits.MAX_FRAME_SIZE
    )


def rows(frames: int) -> list[bytes]:
    """Return frames of rows of numbers."""
    source = random.Random(3)
    line = "{},{},{:.6f},north\n".format
    return [
        "".join(
            line(number, source.randrange(10**6), source.random()) for number in range(20_000)
        ).encode()
        for _ in range(frames)
    ]


def test_numbers_take_less_than_at_any_one_level() -> None:
    """Each frame comes back, and all take less than at the default level."""
    compressor = FrameCompressor()
    frames = rows(20)
    stored = 0
    for raw in frames:
        codec, data = compressor.compress(raw)
        assert decompress_frame(codec, data, len(raw), "tested") == raw
        stored += len(data)
    assert stored < 0.97 * sum(len(compress_frame(raw)[1]) for raw in frames)


@given(st.lists(st.sampled_from(["text", "rows", "random"]), min_size=1, max_size=40))
@settings(max_examples=10)
def test_no_order_of_frames_takes_much_more(kinds: list[str]) -> None:
    """A wrong guess is over after 32 frames, and costs little."""
    made = {"text": text_bytes(300_000, 1), "rows": rows(1)[0], "random": random_bytes(300_000, 1)}
    compressor = FrameCompressor()
    stored = 0
    for kind in kinds:
        codec, data = compressor.compress(made[kind])
        assert decompress_frame(codec, data, len(made[kind]), "tested") == made[kind]
        stored += len(data)
    assert stored < 1.2 * sum(len(compress_frame(made[kind])[1]) for kind in kinds)


@pytest.mark.parametrize("level", [1, 9])
def test_a_chosen_level_is_kept(level: int) -> None:
    """Who asks for a level gets it for every frame."""
    compressor = FrameCompressor(level)
    for raw in rows(3):
        assert compressor.compress(raw) == compress_frame(raw, level)


def test_the_default_level_is_the_documented_one() -> None:
    """Level 3."""
    assert DEFAULT_LEVEL == 3


def test_frames_made_by_hand_are_read() -> None:
    """So that what is refused below is refused for its own fault."""
    blocks = [block(b"one "), block(b"z", repeated=1000), block(b" end", last=True)]
    raw = b"one " + b"z" * 1000 + b" end"
    assert decompress_frame(Codec.ZSTD, zstd_frame(blocks, stated=1008), 1008, "tested") == raw
    whole = expanding(MIB, MIB)
    assert decompress_frame(Codec.ZSTD, whole, MIB, "tested") == bytes(MIB)


@pytest.mark.parametrize("stated", [1000, MIB, limits.MAX_FRAME_SIZE, 256 * MIB])
def test_a_frame_that_expands_beyond_what_it_states_is_refused(stated: int) -> None:
    """8 KiB that stand for 256 MiB: neither the directory's size nor its own lets it."""
    bomb = expanding(256 * MIB, stated)
    assert len(bomb) < 8300
    refuse(bomb, min(stated, limits.MAX_FRAME_SIZE))
    refuse(bomb, 256 * MIB)
    refuse(bomb, 1)


def test_a_frame_that_stops_short_of_what_it_states_is_refused() -> None:
    """Sizes are never believed in either direction."""
    refuse(expanding(MIB, MIB + 1), MIB + 1)
    refuse(expanding(MIB, 2 * MIB), 2 * MIB)


def test_a_frame_that_does_not_state_its_size_is_refused() -> None:
    """Nothing could be held against the directory before it expands."""
    assert "states another size" in refuse(expanding(MIB, None), MIB)
    refuse(expanding(256 * MIB, None), limits.MAX_FRAME_SIZE)
    stream = zstandard.ZstdCompressor().compressobj()
    refuse(stream.compress(b"x" * 5000) + stream.flush(), 5000)


def test_several_frames_and_trailing_bytes_are_refused() -> None:
    """What follows the frame would be dropped without a word."""
    one = zstandard.ZstdCompressor().compress(b"x" * 5000)
    assert decompress_frame(Codec.ZSTD, one, 5000, "tested") == b"x" * 5000
    refuse(one + one, 5000)
    refuse(one + one, 10_000)
    refuse(one + b"\0", 5000)
    refuse(one + zstandard.FRAME_HEADER, 5000)
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    refuse(skippable, 4)
    refuse(skippable + one, 5000)
    refuse(one + skippable, 5000)


def test_a_dictionary_is_refused() -> None:
    """A frame needs nothing but its own bytes."""
    blocks = [block(b"abcd", last=True)]
    assert decompress_frame(Codec.ZSTD, zstd_frame(blocks, stated=4), 4, "tested") == b"abcd"
    assert "dictionary" in refuse(zstd_frame(blocks, stated=4, dictionary=7), 4)
    samples = [text_bytes(300, seed) for seed in range(300)]
    trained = zstandard.train_dictionary(2000, samples)
    stored = zstandard.ZstdCompressor(dict_data=trained).compress(samples[0])
    refuse(stored, 300)


def test_a_window_over_the_limit_is_refused() -> None:
    """8 MiB are read, one step more is not, whatever the frame's own size."""
    for size in (BLOCK, MIB, limits.MAX_FRAME_SIZE):
        assert decompress_frame(Codec.ZSTD, expanding(size, size), size, "tested") == bytes(size)
        for window_log in (24, 27, 31):
            large = expanding(size, size, window_log=window_log)
            assert "window over 8 MiB" in refuse(large, size)
    large = bytearray(expanding(BLOCK, BLOCK))
    large[5] |= 1  # an eighth more than 8 MiB
    refuse(bytes(large), BLOCK)


def test_a_frame_over_the_limit_is_refused_before_it_is_looked_at() -> None:
    """16 MiB are the most, raw or compressed."""
    size = limits.MAX_FRAME_SIZE
    assert len(decompress_frame(Codec.RAW, bytes(size), size, "tested")) == size
    assert "larger than allowed" in refuse(bytes(size + 1), size + 1, Codec.RAW)
    assert "larger than allowed" in refuse(b"", size + 1)


@pytest.mark.parametrize("stored", [b"", b"abc", b"abcde"])
def test_a_raw_frame_has_the_length_of_its_chunks(stored: bytes) -> None:
    """Shorter and longer ones are damage."""
    assert decompress_frame(Codec.RAW, b"abcd", 4, "tested") == b"abcd"
    refuse(stored, 4, Codec.RAW)


@pytest.mark.parametrize("codec", [2, 3, 255, -1])
def test_unknown_codecs_are_refused(codec: int) -> None:
    """By their number, which the message names."""
    assert str(codec) in refuse(b"abcd", 4, codec)


@given(st.binary(max_size=100), st.integers(0, 200))
def test_any_bytes_are_decompressed_or_refused(data: bytes, raw_size: int) -> None:
    """With and without the magic of zstd: `raw_size` bytes or the one error."""
    for stored in (data, zstandard.FRAME_HEADER + data):
        try:
            raw = decompress_frame(Codec.ZSTD, stored, raw_size, "tested")
        except CorruptObjectError:
            continue
        assert len(raw) == raw_size


def test_every_damaged_frame_is_refused_or_has_its_size() -> None:
    """Each flipped bit and each cut: never more bytes, never another error."""
    raw = text_bytes(3000, 8)
    codec, stored = compress_frame(raw)
    assert codec == Codec.ZSTD
    for end in range(len(stored)):
        refuse(stored[:end], len(raw))
    source = random.Random(1)
    for bit in source.sample(range(len(stored) * 8), 600) + list(range(14 * 8)):
        bad = bytearray(stored)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            found = decompress_frame(codec, bytes(bad), len(raw), "tested")
        except CorruptObjectError:
            continue
        assert len(found) == len(raw)


GROW = """
import resource, sys
sys.path.insert(0, "")
from chunkstore.errors import CorruptObjectError
from chunkstore.compression import decompress_frame
from tests.unit.test_compression import *

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

stated = [1, 1000, MIB, limits.MAX_FRAME_SIZE, 256 * MIB, None]
bombs = [(expanding(256 * MIB, s), s or MIB) for s in stated]
bombs += [(expanding(MIB, MIB, window_log=31), MIB), (expanding(MIB, None), limits.MAX_FRAME_SIZE)]
bombs += [(expanding(256 * MIB, 256 * MIB), size) for size in (1, MIB, 256 * MIB)]
one = expanding(limits.MAX_FRAME_SIZE, limits.MAX_FRAME_SIZE)
bombs += [(one * 500, limits.MAX_FRAME_SIZE)]
decompress_frame(1, expanding(BLOCK, BLOCK), BLOCK, "warm")
before = peak()
for stored, size in bombs:
    try:
        decompress_frame(1, stored, size, "tested")
    except CorruptObjectError:
        continue
    raise SystemExit("a bomb was taken for a frame")
print(peak() - before)
"""


def test_no_bomb_makes_the_process_grow() -> None:
    """All of them, one after another, cost less than 64 MiB, memory outside Python included."""
    found = subprocess.run(
        [sys.executable, "-c", GROW], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < MOST_GROWTH
