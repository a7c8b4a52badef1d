"""zstd frames: compress where it pays, decompress within bounds. No input or output.

Implements section 5.2, "Frames", of docs/design/format.md.
"""

from __future__ import annotations

import itertools
import threading
from enum import Enum, auto
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

_TRIAL_PERIOD: Final = 32
_WORTH_CHANGING: Final = 0.995

_local = threading.local()  # zstd contexts serve one thread at a time and are dear to make


class FrameCompressor:
    """Compresses the frames of one push; may be used by many threads.

    At the default level two of 32 frames are also compressed in the two other ways, and where one
    is smaller by 0.5 % the next are compressed so. Rows of numbers come out 5 to 8 % smaller by
    level 1 at half the cost, logs and CSV 1 to 2 % smaller by longer matches: the short ones that
    level 3 prefers cost their literals more. Unpacked wheels, where that hardly ever wins, pay 4 %
    more.
    """

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        self._level = level
        self._numbers = itertools.count()
        self._way = _Way.USUAL

    def compress(self, raw: bytes | memoryview) -> tuple[Codec, bytes | memoryview]:
        """Return how a frame is best stored, and its stored bytes: `raw` itself where raw."""
        if self._level != DEFAULT_LEVEL:
            return compress_frame(raw, self._level)
        way, turn = self._way, next(self._numbers) % _TRIAL_PERIOD
        others = [other for other in _Way if other != way]
        codec, stored = _compress(raw, way)
        if turn >= len(others) or codec == Codec.RAW:
            return codec, stored
        tried = _compress(raw, others[turn])
        if len(tried[1]) >= len(stored):
            return codec, stored
        if others[turn] == _Way.USUAL or len(tried[1]) < len(stored) * _WORTH_CHANGING:
            self._way = others[turn]
        return tried


class _Way(Enum):
    """How a frame is compressed at the default level."""

    USUAL = auto()
    FAST = auto()
    LONG_MATCHES = auto()


def compress_frame(
    raw: bytes | memoryview, level: int = DEFAULT_LEVEL
) -> tuple[Codec, bytes | memoryview]:
    """Return how the frame is best stored, and its stored bytes: `raw` itself where raw.

    A frame that hardly shrinks is kept raw, so that reading it costs nothing. Media and random
    data are recognised by a few samples before the whole frame is tried.
    """
    return _compress(raw, _Way.USUAL if level == DEFAULT_LEVEL else level)


def _compress(raw: bytes | memoryview, way: _Way | int) -> tuple[Codec, bytes | memoryview]:
    if _looks_incompressible(raw):
        return Codec.RAW, raw
    if len(raw) <= _HALVED_ABOVE and way == _Way.USUAL:
        way = DEFAULT_LEVEL
    stored = _compressor(way).compress(raw)
    if len(stored) > len(raw) * _WORTH_KEEPING:
        return Codec.RAW, raw
    return Codec.ZSTD, stored


def _looks_incompressible(raw: bytes | memoryview) -> bool:
    if len(raw) < 2 * _SAMPLES * _SAMPLE_SIZE:
        return False
    step = (len(raw) - _SAMPLE_SIZE) // (_SAMPLES - 1)
    sample = b"".join(raw[i * step : i * step + _SAMPLE_SIZE] for i in range(_SAMPLES))
    return len(_compressor(_Way.FAST).compress(sample)) > len(sample) * _WORTH_TRYING


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


def _compressor(way: _Way | int) -> zstandard.ZstdCompressor:
    """Return this thread's compressor of a way, or of a level of zstd as it is."""
    cache: dict[_Way | int, zstandard.ZstdCompressor] | None
    cache = getattr(_local, "compressors", None)
    if cache is None:
        cache = _local.compressors = {}
    found = cache.get(way)
    if found is None:
        found = cache[way] = zstandard.ZstdCompressor(compression_params=_parameters(way))
    return found


def _parameters(way: _Way | int) -> zstandard.ZstdCompressionParameters:
    options = {"write_content_size": True, "write_checksum": False}
    if way == _Way.USUAL:
        tables = {"window_log": 21, "chain_log": 16, "hash_log": 16, "min_match": 5}
    elif way == _Way.LONG_MATCHES:
        tables = {"window_log": 21, "chain_log": 16, "hash_log": 17, "min_match": 6}
    else:
        level = 1 if way == _Way.FAST else way
        return zstandard.ZstdCompressionParameters.from_level(level, **options)
    return zstandard.ZstdCompressionParameters(
        compression_level=DEFAULT_LEVEL, strategy=zstandard.STRATEGY_DFAST, **tables, **options
    )


def _decompressor() -> zstandard.ZstdDecompressor:
    found: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = zstandard.ZstdDecompressor(
            max_window_size=limits.MAX_ZSTD_WINDOW
        )
    return found
