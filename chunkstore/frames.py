"""Raw frames: filled chunk by chunk, compressed, and proved to be readable before upload.

Implements the write side of section 5.2, "Frames", of docs/design/format.md. Neighbours: `packer`
fills frames and lays the stored ones down.
"""

from __future__ import annotations

import mmap
from collections import Counter
from dataclasses import dataclass, field

from chunkstore.compression import FrameCompressor, decompress_frame
from chunkstore.errors import IntegrityError
from chunkstore.format.config import Config
from chunkstore.format.pack import Codec, Frame
from chunkstore.ids import ChunkId, ChunkKind, chunk_id
from chunkstore.limits import MAX_LIST_LENGTH, MAX_PAGE_LENGTH
from chunkstore.profile import OFF, Clock


@dataclass(slots=True)
class RawFrame:
    """A frame that is filled with chunks.

    Attributes:
        room: memory for its bytes, uint8 (capacity,); the first `size` are in use.
        size: raw bytes of its chunks.
        ids: their ids, in order.
        sizes: their raw bytes, in the same order.
        kinds: their kinds, in the same order.
        shares: raw bytes for each label.
    """

    room: memoryview
    size: int = 0
    ids: list[ChunkId] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    kinds: list[ChunkKind] = field(default_factory=list)
    shares: Counter[str] = field(default_factory=Counter)

    def add(
        self, kind: ChunkKind, identifier: ChunkId, data: bytes | memoryview, label: str
    ) -> None:
        """Append a copy of a chunk."""
        size, start = len(data), self.size
        self.size = start + size
        self.room[start : self.size] = data
        self.ids.append(identifier)
        self.sizes.append(size)
        self.kinds.append(kind)
        self.shares[label] += size


class FrameRooms:
    """Memory for the frames of a push, used again and again; one thread at a time may ask."""

    def __init__(self, config: Config) -> None:
        largest = max(config.chunker.max_size, MAX_PAGE_LENGTH, MAX_LIST_LENGTH)
        self._capacity = config.frame_size + largest  # its last chunk may go over the target
        self._free: list[memoryview] = []

    def take(self) -> RawFrame:
        """Return an empty frame."""
        if not self._free:
            return RawFrame(memoryview(mmap.mmap(-1, self._capacity)))
        return RawFrame(self._free.pop())

    def free(self, frame: RawFrame) -> None:
        """Let the memory of a frame be used again, by which the frame is void."""
        self._free.append(frame.room)


class FrameWriter:
    """Compresses frames and checks each; may be used by many threads."""

    def __init__(self, level: int, clock: Clock = OFF) -> None:
        """`level` is zstd's."""
        compress = FrameCompressor(level).compress
        self._compress = clock.timed("compress", compress, lambda _, raw: len(raw))
        self._check = clock.timed("check", check_frame, lambda _, frame, *_more: frame.size)

    def store(self, frame: RawFrame) -> tuple[Frame, bytes | memoryview]:
        """Return a frame as directories list it, and its stored bytes.

        They may lie in the room of the frame.

        Raises:
            IntegrityError: it does not give its chunks back.
        """
        codec, data = self._compress(frame.room[: frame.size])
        self._check(frame, codec, data)
        return Frame(len(data), codec, frame.size, frame.ids, frame.sizes, frame.kinds), data


def check_frame(frame: RawFrame, codec: Codec, data: bytes | memoryview) -> None:
    """Hold the bytes that a stored frame gives against the ids of its chunks.

    A zstd bug and bad memory have each corrupted other stores without a trace; checking costs
    about a third of compressing.

    Raises:
        IntegrityError: it does not give them back.
    """
    raw = memoryview(decompress_frame(codec, data, frame.size, "frame before upload"))
    at = 0
    for kind, identifier, size in zip(frame.kinds, frame.ids, frame.sizes, strict=True):
        if chunk_id(kind, raw[at : at + size]) != identifier:
            raise IntegrityError(
                f"chunk {identifier.hex()} does not come back from its compressed frame",
                hint="nothing was committed; test this machine's memory, then push again",
            )
        at += size
