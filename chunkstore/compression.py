"""zstd frames: compress where it pays, decompress within bounds. No input or output.

Implements section 5.2, "Frames", of docs/design/format.md.
"""

from __future__ import annotations

import itertools
import threading
from typing import Final

import zstandard

from chunkstore import limits
from chunkstore.format.document import corrupt
from chunkstore.format.pack import Codec

DEFAULT_LEVEL: Final = 3
MAX_LEVEL: Final = 19  # above it zstd uses windows that readers refuse

_SAMPLES: Final = 8
_SAMPLE_SIZE: Final = 4096
_WORTH_TRYING: Final = 0.985
_WORTH_KEEPING: Final = 0.99

_HALVED_ABOVE: Final = 256 * 1024
"""Raw bytes of a frame above which level 3 of ours has half of zstd's hash table. It stays in the
cache of a core: 8 to 14 % faster on frames of 1 MiB of unpacked wheels, and 0.36 % larger."""

_FAST_LEVEL: Final = 1
_TRIAL_EVERY: Final = 16
_WORTH_FAST: Final = 0.99

_local = threading.local()  # zstd contexts serve one thread at a time and are dear to make


class FrameCompressor:
    """Compresses the frames of one push; may be used by many threads.

    At the default level every 16th frame is also compressed at level 1, and where that is smaller
    the next 15 are only compressed so. Rows of numbers and logs come out 5 to 8 % smaller at half
    the cost: the short matches that level 3 prefers cost their literals more. Unpacked wheels,
    where it hardly ever wins, pay 3 % more.
    """

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        self._level = level
        self._numbers = itertools.count()
        self._fast = False

    def compress(self, raw: bytes | memoryview) -> tuple[Codec, bytes | memoryview]:
        """Return how a frame is best stored, and its stored bytes: `raw` itself where raw."""
        if self._level != DEFAULT_LEVEL:
            return compress_frame(raw, self._level)
        if next(self._numbers) % _TRIAL_EVERY:
            return compress_frame(raw, _FAST_LEVEL if self._fast else DEFAULT_LEVEL)
        usual = compress_frame(raw, DEFAULT_LEVEL)
        if usual[0] == Codec.RAW:
            return usual
        fast = compress_frame(raw, _FAST_LEVEL)
        self._fast = len(fast[1]) < len(usual[1]) * _WORTH_FAST
        return min(usual, fast, key=lambda frame: len(frame[1]))


def compress_frame(
    raw: bytes | memoryview, level: int = DEFAULT_LEVEL
) -> tuple[Codec, bytes | memoryview]:
    """Return how the frame is best stored, and its stored bytes: `raw` itself where raw.

    A frame that hardly shrinks is kept raw, so that reading it costs nothing. Media and random
    data are recognised by a few samples before the whole frame is tried.
    """
    if _looks_incompressible(raw):
        return Codec.RAW, raw
    halved = level == DEFAULT_LEVEL and len(raw) > _HALVED_ABOVE
    stored = _compressor(level, halved=halved).compress(raw)
    if len(stored) > len(raw) * _WORTH_KEEPING:
        return Codec.RAW, raw
    return Codec.ZSTD, stored


def _looks_incompressible(raw: bytes | memoryview) -> bool:
    if len(raw) < 2 * _SAMPLES * _SAMPLE_SIZE:
        return False
    step = (len(raw) - _SAMPLE_SIZE) // (_SAMPLES - 1)
    sample = b"".join(raw[i * step : i * step + _SAMPLE_SIZE] for i in range(_SAMPLES))
    return len(_compressor(1).compress(sample)) > len(sample) * _WORTH_TRYING


def decompress_frame(
    codec: int, stored: bytes | memoryview, raw_size: int, where: str
) -> bytes | memoryview:
    """Return the `raw_size` bytes of a frame; never allocates more than that.

    What is stored raw is returned as it is, not copied.

    Raises:
        CorruptObjectError: the bytes are no such frame: unknown codec, not one zstd frame, of
            another size than stated, with a window over 8 MiB, a dictionary or trailing bytes.
    """
    if raw_size > limits.MAX_FRAME_SIZE:
        corrupt("a frame is larger than allowed", where)
    if codec == Codec.RAW:
        if len(stored) != raw_size:
            corrupt("a raw frame is not as long as stated", where)
        return stored
    if codec != Codec.ZSTD:
        corrupt(f"a frame has the unknown codec {codec}", where)
    try:
        header = zstandard.get_frame_parameters(stored)
        if (
            header.content_size != raw_size
            or header.window_size > limits.MAX_ZSTD_WINDOW
            or header.dict_id
        ):
            corrupt("a zstd frame states another size, a window over 8 MiB or a dictionary", where)
        raw: bytes = _decompressor().decompress(
            stored, max_output_size=raw_size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        corrupt(f"a zstd frame does not decompress: {error}", where)
    if len(raw) != raw_size:
        corrupt("a zstd frame gave another size than it states", where)
    return raw


def _compressor(level: int, *, halved: bool = False) -> zstandard.ZstdCompressor:
    cache: dict[tuple[int, bool], zstandard.ZstdCompressor] | None
    cache = getattr(_local, "compressors", None)
    if cache is None:
        cache = _local.compressors = {}
    found = cache.get((level, halved))
    if found is None:
        found = cache[level, halved] = _new_compressor(level, halved=halved)
    return found


def _new_compressor(level: int, *, halved: bool) -> zstandard.ZstdCompressor:
    if not halved:
        return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)
    parameters = zstandard.ZstdCompressionParameters(
        compression_level=level,
        strategy=zstandard.STRATEGY_DFAST,
        window_log=21,
        chain_log=16,
        hash_log=16,
        min_match=5,
        write_content_size=True,
        write_checksum=False,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def _decompressor() -> zstandard.ZstdDecompressor:
    found: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = zstandard.ZstdDecompressor(
            max_window_size=limits.MAX_ZSTD_WINDOW
        )
    return found
