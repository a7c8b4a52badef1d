"""An index segment as the store has it, checked whole and mapped from a file without a name.

Unlike what `chunk_index` searches it never comes from a local cache, so that what is found out
about it holds for the store. Pages of the mapping are let go of after each use: memory does not
grow with the index. Neighbour: `survey`.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from chunkstore import layout
from chunkstore.format.index import ROWS_AT_ONCE, decode_segment
from chunkstore.format.pack import PackDirectory
from chunkstore.id_runs import id_list
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.lookup import SegmentInMemory
from chunkstore.objects import Objects
from chunkstore.temporary import temporary_file, write_all

IntArray: TypeAlias = npt.NDArray[np.int64]

UNKNOWN: Final = 255
"""In place of the kind of a chunk, which a segment does not know."""


class MappedSegment:
    """One segment of a store.

    Attributes:
        identifier: its id.
        segment: its columns, mapped.
        packs: the ids of its packs, in its order.
    """

    def __init__(
        self, objects: Objects, identifier: SegmentId, length: int, folder: str | None
    ) -> None:
        """Fetch a segment of `length` bytes into a file in `folder` and check all of it.

        Raises:
            KeyAbsentError: it is gone.
            FilesystemError: there is no room for it in `folder`.
            CorruptObjectError, UnsupportedFormatError: it is damaged.
        """
        with temporary_file(folder) as file:
            for piece in objects.segment_pieces(identifier, length):
                write_all(file, piece)
            self._mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
        self.identifier = identifier
        self.segment = columns = decode_segment(
            memoryview(self._mapped), layout.segment_key(identifier)
        )
        self._searched = SegmentInMemory(columns)
        self.packs = [PackId(pack) for pack in id_list(columns.pack_ids)]
        self._frames_before = np.cumsum(columns.pack_frames, dtype=np.int64) - columns.pack_frames
        self._entries = np.zeros(len(self.packs), np.int64)
        for rows in self._row_slices():
            numbers = columns.frame_packs[columns.frames[rows]]
            self._entries += np.bincount(numbers, minlength=len(self.packs))
        self._let_go()

    def packs_of(self, ids: bytes) -> Iterator[tuple[int, PackId]]:
        """Yield (which of the joined ids, a pack that holds it) for every entry of them."""
        found = self._searched.matches(ids)
        for row, number in zip(found.rows.tolist(), found.packs.tolist(), strict=True):
            yield row, self.packs[number]

    def ids_in(self, packs: Collection[PackId]) -> Iterator[bytes]:
        """Yield the ids of all chunks of these packs, some thousands joined at a time."""
        chosen = np.array([pack in packs for pack in self.packs], bool)
        if chosen.any():
            for rows in self._row_slices():
                keep = chosen[self.segment.frame_packs[self.segment.frames[rows]]]
                yield self.segment.ids[rows][keep].tobytes()
            self._let_go()

    def directory(self, row: int) -> PackDirectory:
        """Return the directory of its pack `row` as it knows it: all kinds are `UNKNOWN`."""
        segment, first = self.segment, int(self._frames_before[row])
        frames = slice(first, first + int(segment.pack_frames[row]))
        found: list[IntArray] = []
        ids: list[bytes] = []
        for rows in self._row_slices():
            mine = segment.frame_packs[segment.frames[rows]] == row
            columns = (segment.frames[rows], segment.offsets[rows], segment.sizes[rows])
            found.append(_stacked(*(column[mine] for column in columns)))
            ids.append(segment.ids[rows][mine].tobytes())
        numbers, offsets, sizes = np.concatenate([np.zeros((3, 0), np.int64), *found], axis=1)
        order = np.lexsort((offsets, numbers))
        self._let_go()
        return PackDirectory(
            frame_offsets=segment.frame_offsets[frames].copy(),
            frame_lengths=segment.frame_lengths[frames].copy(),
            frame_sizes=segment.frame_sizes[frames].copy(),
            frame_chunks=np.bincount(
                numbers - first, minlength=len(segment.frame_sizes[frames])
            ).astype(np.uint32),
            frame_codecs=segment.frame_codecs[frames].astype(np.uint8),
            ids=np.frombuffer(b"".join(ids), f"S{ID_SIZE}")[order],
            sizes=sizes[order].astype(np.uint32),
            kinds=np.full(len(sizes), UNKNOWN, np.uint8),
            chunk_frames=(numbers[order] - first).astype(np.uint32),
            chunk_offsets=offsets[order].astype(np.uint32),
        )

    def differs(self, row: int, length: int, offset: int, directory: PackDirectory) -> str:
        """Return what it says of its pack `row` other than the pack, "" where all is the same.

        The pack has `length` bytes, and its directory begins at `offset`.
        """
        segment = self.segment
        stated = int(segment.pack_lengths[row]), int(segment.pack_directories[row])
        if stated != (length, offset):
            return "states another length, or another place of the directory"
        first = int(self._frames_before[row])
        frames = slice(first, first + int(segment.pack_frames[row]))
        pairs = (
            (segment.frame_offsets, directory.frame_offsets),
            (segment.frame_lengths, directory.frame_lengths),
            (segment.frame_sizes, directory.frame_sizes),
            (segment.frame_codecs, directory.frame_codecs),
        )
        if not all(np.array_equal(theirs[frames], ours) for theirs, ours in pairs):
            return "lists other frames"
        same = int(self._entries[row]) == len(directory.ids) and self._same(row, first, directory)
        self._let_go()
        return "" if same else "lists other chunks"

    def _same(self, row: int, first_frame: int, directory: PackDirectory) -> bool:
        """Whether every chunk of a directory stands here where the directory has it."""
        segment = self.segment
        unique, inverse = np.unique(directory.ids, return_inverse=True)
        found = self._searched.matches(unique.tobytes())
        mine = found.packs == row
        at = found.at[mine]
        frames = segment.frames[at].astype(np.int64) - first_frame
        theirs = _stacked(found.rows[mine], frames, segment.offsets[at], segment.sizes[at])
        ours = _stacked(inverse, directory.chunk_frames, directory.chunk_offsets, directory.sizes)
        if theirs.shape != ours.shape:
            return False
        return np.array_equal(theirs[:, np.lexsort(theirs)], ours[:, np.lexsort(ours)])

    def _row_slices(self) -> Iterator[slice]:
        for start in range(0, len(self.segment.ids), ROWS_AT_ONCE):
            yield slice(start, start + ROWS_AT_ONCE)

    def _let_go(self) -> None:
        self._mapped.madvise(mmap.MADV_DONTNEED)


def _stacked(*columns: np.ndarray) -> IntArray:
    return np.stack([column.astype(np.int64) for column in columns])
