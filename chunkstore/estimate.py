"""About what a dry run's new chunks would take up: frames are filled, and some are compressed.

Frames are those that a push would make. The first 64 are all compressed, of the others every
eighth; what the others take up is told from these, kind by kind. So up to 64 MiB of new data are
compressed whole, and of more about an eighth. Neighbour: `chunk_writer` gives the chunks.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from concurrent.futures import Executor, Future
from typing import Final

from chunkstore.compression import FrameCompressor
from chunkstore.format.config import Config
from chunkstore.packer import FRAME_CHUNKS

_ALL_OF_THE_FIRST: Final = 64
_ONE_IN: Final = 8
_AHEAD: Final = 4

CHUNK_OVERHEAD: Final = 37 + 44
"""Bytes of a chunk in the directory of its pack and in the index, docs/design/format.md."""

PAGE_OVERHEAD: Final = 64
"""Bytes of a page's name in the root."""

PACK_OVERHEAD: Final = 512
"""Bytes of a first pack, its segment and a manifest, but for what they list."""


class FrameEstimate:
    """Estimates what chunks of one class take up. Its methods are called by one thread."""

    def __init__(self, config: Config, level: int, compressors: Executor) -> None:
        self._frame_size = config.frame_size
        self._compress = FrameCompressor(level).compress
        self._compressors = compressors
        self._raw: Counter[str] = Counter()
        self._sampled: Counter[str] = Counter()
        self._stored: defaultdict[str, float] = defaultdict(float)
        self._again: defaultdict[str, float] = defaultdict(float)
        self._running: deque[tuple[Future[int], Counter[str], int]] = deque()
        self._pieces: list[bytes] = []
        self._shares: Counter[str] = Counter()
        self._chunks_of_frame = 0
        self._size = 0
        self._frames = 0
        self.chunks = 0

    def add(self, data: bytes | memoryview, kind: str) -> None:
        """Take a new chunk of a file of that kind."""
        self._raw[kind] += len(data)
        self._shares[kind] += len(data)
        self._size += len(data)
        self.chunks += 1
        self._chunks_of_frame += 1
        if self._frames < _ALL_OF_THE_FIRST or self._frames % _ONE_IN == 0:
            self._pieces.append(bytes(data))
        if self._size >= self._frame_size or self._chunks_of_frame >= FRAME_CHUNKS:
            self._close_frame()

    def add_again(self, stored: float, kind: str) -> None:
        """Take a chunk that is in the store, in about so many bytes, and will be once more."""
        self._again[kind] += stored
        self.chunks += 1

    def finish(self) -> dict[str, int]:
        """Return about how many stored bytes the chunks of each kind take up."""
        self._close_frame()
        while self._running:
            self._settle()
        size, stored = self._sampled.total(), sum(self._stored.values())
        overall = stored / size if size else 1.0
        found = {
            kind: raw * (self._stored[kind] / sampled if sampled else overall)
            for kind, raw in self._raw.items()
            for sampled in [self._sampled[kind]]
        }
        for kind, again in self._again.items():
            found[kind] = found.get(kind, 0.0) + again
        return {kind: round(size) for kind, size in found.items()}

    def _close_frame(self) -> None:
        if self._pieces:
            joined = b"".join(self._pieces)
            future = self._compressors.submit(lambda: len(self._compress(joined)[1]))
            weight = 1 if self._frames < _ALL_OF_THE_FIRST else _ONE_IN
            self._running.append((future, self._shares, weight))
            while len(self._running) > _AHEAD:
                self._settle()
        self._frames += 1
        self._pieces, self._shares, self._size, self._chunks_of_frame = [], Counter(), 0, 0

    def _settle(self) -> None:
        future, shares, weight = self._running.popleft()
        ratio = future.result() / shares.total()
        for kind, raw in shares.items():
            self._sampled[kind] += raw * weight
            self._stored[kind] += raw * weight * ratio
