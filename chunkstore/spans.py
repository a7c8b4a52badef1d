"""Where chunks lie becomes what is fetched: frames that lie close together are one span.

Pure. Neighbours: `directories` and `chunk_index` say where chunks lie; `reader` fetches spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from chunkstore.chunk_index import ABSENT, Places
from chunkstore.format.manifest import PackHint
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, PackId

SPAN_LENGTH: Final = 4 * 1024 * 1024
"""Stored bytes that are fetched with one request, where so many lie together."""

_GAP: Final = 64 * 1024
"""Unneeded bytes that are fetched along rather than asking twice: about what a request costs."""


@dataclass(frozen=True, slots=True)
class FrameRead:
    """A frame to be read, and the rows of the chunks that are wanted from it."""

    offset: int
    length: int
    size: int
    codec: int
    rows: tuple[tuple[int, int, int], ...]  # (row, offset in the raw frame, size)

    @property
    def wanted(self) -> int:
        """Bytes of the chunks that are wanted."""
        return sum(size for _, _, size in self.rows)


@dataclass(frozen=True, slots=True)
class Span:
    """Frames that lie close together in one pack and are fetched with one request."""

    pack: PackHint
    frames: tuple[FrameRead, ...]

    @property
    def lone(self) -> bool:
        """Whether it is a chunk that is got by its id alone, from no pack that is known."""
        return self.pack.length == 0

    @property
    def start(self) -> int:
        """Offset of its first byte in the pack."""
        return self.frames[0].offset

    @property
    def end(self) -> int:
        """Offset after its last byte."""
        return self.frames[-1].offset + self.frames[-1].length


@dataclass(frozen=True, slots=True)
class Wanted:
    """Chunks to be read: n joined ids of one kind, and packs in which they may lie."""

    kind: ChunkKind
    ids: bytes
    hints: Sequence[PackHint]

    def id(self, row: int) -> ChunkId:
        """Return the id in that row."""
        return ChunkId(self.ids[row * ID_SIZE : (row + 1) * ID_SIZE])


def spans_of(
    packs: Sequence[PackHint],
    places: Places,
    rows: np.ndarray,
    names: np.ndarray | None = None,
) -> list[Span]:
    """Group `rows` of `places` by frame, and neighbouring frames by span.

    `names` has the caller's row number for each row, where that is another one.
    """
    order = rows[np.lexsort((places.offsets[rows], places.frame_offsets[rows], places.packs[rows]))]
    rows_of = (getattr(places, field.name)[order] for field in fields(places))
    columns = np.stack(list(rows_of)).T.tolist()
    labels = (order if names is None else names[order]).tolist()
    spans: list[Span] = []
    frames: list[FrameRead] = []
    wanted: list[tuple[int, int, int]] = []
    for number, (pack, offset, length, size, codec, at, chunk) in enumerate(columns):
        wanted.append((labels[number], at, chunk))
        following = columns[number + 1][:2] if number + 1 < len(columns) else [ABSENT, ABSENT]
        if following == [pack, offset]:
            continue
        frames.append(FrameRead(offset, length, size, codec, tuple(wanted)))
        wanted = []
        end = offset + length
        near = following[0] == pack and following[1] - end <= _GAP
        if not near or end - frames[0].offset >= SPAN_LENGTH:
            spans.append(Span(packs[pack], tuple(frames)))
            frames = []
    return spans


def lone_span(wanted: Wanted, row: int) -> Span:
    """Return the span of a chunk that is got by its id alone; its size is not known yet."""
    return Span(PackHint(PackId(wanted.id(row)), 0, 0), (FrameRead(0, 0, 0, 0, ((row, 0, 0),)),))
