"""What a target already has: chunks of an older or half-finished file that need no fetching.

Nothing is believed: bytes count as a chunk only if they have its id. Neighbours: `gather`, which
takes what is found, and `restore`.
"""

from __future__ import annotations

import itertools
import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chunkstore.chunker import WINDOW_SIZE, Chunker
from chunkstore.format.blob import Blob
from chunkstore.format.manifest import Entry
from chunkstore.ids import ID_SIZE, ChunkKind, chunk_ids

_READ_SIZE: Final = 1024 * 1024

_SAMPLE_EVERY: Final = 8 * WINDOW_SIZE
"""Bytes of a large file of which one window is cut first: what moved in one piece of 18 MiB is seen
in any case."""

_ID: Final = f"S{ID_SIZE}"

Rows: TypeAlias = npt.NDArray[np.bool_]
Offsets: TypeAlias = npt.NDArray[np.int64]
Ids: TypeAlias = npt.NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class Run:
    """Verified bytes of the rows `start` to `end` of a blob, for `offset` in the restored file."""

    start: int
    end: int
    offset: int
    data: memoryview


def runs_in_place(handle: int, blob: Blob, base: int, missing: Rows) -> Iterator[Run]:
    """Yield those chunks of `blob`, of depth 0, that the open file has at their place.

    `base` is the blob's offset in the file; `missing` (n,) says which rows to look for.
    """
    places = blob.offsets(base)
    rows = np.flatnonzero(missing & (places < os.fstat(handle).st_size))
    yield from _runs(handle, blob, base, rows, places[rows])


class SeedFile:
    """The file that stands where one is restored: the same, or one that has some of its chunks.

    Where the sizes are equal, chunks are looked for at their place first. Moved ones are found by
    cutting the rest as the store cuts; that keeps 40 bytes for each of its chunks.

    Attributes:
        handle: the descriptor of the open file.
        size: its bytes.
    """

    def __init__(self, handle: int, chunker: Chunker, entry: Entry) -> None:
        """`handle` is that of the open file; `close` closes it."""
        self.handle = handle
        self._chunker = chunker
        self._entry = entry
        self.size = os.fstat(handle).st_size
        self._stopped = False
        self._gaps: list[tuple[int, int]] = []  # start and end of what is not at its place
        self._at = 0  # where the last that is at its place ends
        self._ids: Ids = np.empty(0, _ID)  # of what was cut, sorted
        self._offsets: Offsets = np.empty(0, np.int64)

    def is_same(self) -> bool:
        """Whether it has the size and the hash of the version's file."""
        if self.size != self._entry.size:
            return False
        hasher, at = blake3(), 0
        while not self._stopped and (data := os.pread(self.handle, _READ_SIZE, at)):
            hasher.update(data)
            at += len(data)
        return hasher.digest() == self._entry.file_hash

    def stop(self) -> None:
        """Have another thread that is comparing end soon, with whatever result."""
        self._stopped = True

    def close(self) -> None:
        """Close the file."""
        os.close(self.handle)

    def in_place(self, blob: Blob, base: int, missing: Rows) -> Iterator[Run]:
        """Yield what `runs_in_place` does; for each blob of the file in order, and to its end.

        Nothing where the sizes differ: what follows a change has most likely moved.
        """
        if self.size != self._entry.size:
            return
        for run in runs_in_place(self.handle, blob, base, missing):
            if run.offset > self._at:
                self._gaps.append((self._at, run.offset))
            self._at = run.offset + len(run.data)
            yield run

    def cut(self, wanted: Ids) -> None:
        """Cut what is not at its place, for `moved`; once `in_place` has seen all blobs.

        Of a large file the parts are cut where a sample has any of the `wanted` chunks: cutting
        takes nearly as long as fetching from a folder, and what is quite different is cut in vain.
        """
        gaps = [*self._gaps, (self._at, self.size)]
        if sum(end - start for start, end in gaps) > _SAMPLE_EVERY:
            gaps = self._promising(gaps, np.sort(wanted))
        self._ids, self._offsets = self._cut(gaps)

    def _promising(self, gaps: list[tuple[int, int]], wanted: Ids) -> list[tuple[int, int]]:
        """Return the parts of gaps around those windows of a sample that have wanted chunks."""
        promising: list[tuple[int, int]] = []
        for gap, end in gaps:
            before = gap  # the window before may have ended where what is wanted begins
            for at in range(gap, end, _SAMPLE_EVERY):
                ids, _ = self._cut([(at, min(at + WINDOW_SIZE, end))])
                if _rows_in(wanted, ids)[1].any():
                    if promising and promising[-1][1] >= before:
                        before, _ = promising.pop()
                    promising.append((before, min(at + _SAMPLE_EVERY, end)))
                before = at
        return promising

    def moved(self, blob: Blob, base: int, missing: Rows) -> Iterator[Run]:
        """Yield chunks that the older file has elsewhere, where it was cut."""
        if not len(self._ids):
            return
        rows = np.flatnonzero(missing)
        at, found = _rows_in(self._ids, ids_of(blob)[rows])
        yield from _runs(self.handle, blob, base, rows[found], self._offsets[at[found]])

    def _cut(self, parts: Iterable[tuple[int, int]]) -> tuple[Ids, Offsets]:
        """Return the ids of the chunks of parts of the file, sorted, and their offsets."""
        ids, offsets = bytearray(), array("q")
        for start, end in parts:
            for identifier, offset in _chunks(self.handle, self._chunker, start, end):
                ids += identifier
                offsets.append(offset)
        joined = np.frombuffer(ids, _ID)
        order = np.argsort(joined, kind="stable")
        return joined[order], np.frombuffer(offsets, np.int64)[order]


def ids_of(blob: Blob) -> Ids:
    """Return the chunk ids of a blob (n,)."""
    return np.frombuffer(blob.ids, _ID)


def _rows_in(known: Ids, ids: Ids) -> tuple[npt.NDArray[np.intp], Rows]:
    """Return at which row of `known`, sorted and not empty, each id is, and whether it is there."""
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return at, known[at] == ids


def open_seed(folder: int, name: str, chunker: Chunker, entry: Entry) -> SeedFile | None:
    """Open the file `name` in an open folder, where `entry` goes; None where it cannot serve.

    It may be another user's, who lets nobody read it: then it is replaced, if the folder allows.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=folder)
    except (PermissionError, FileNotFoundError):
        return None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return SeedFile(handle, chunker, entry)
    os.close(handle)
    return None


def _runs(
    handle: int, blob: Blob, base: int, rows: npt.NDArray[np.intp], offsets: Offsets
) -> Iterator[Run]:
    """Yield those of `rows` that the open file has at `offsets`, neighbours together."""
    sizes, places = blob.size_array()[rows].tolist(), blob.offsets(base)[rows].tolist()
    follows = (np.diff(rows) == 1) & (np.diff(offsets) == sizes[:-1])
    for first, last in _groups(sizes, follows.tolist()):
        ends = list(itertools.accumulate(sizes[first:last], initial=0))
        data = memoryview(os.pread(handle, ends[-1], int(offsets[first])))
        pieces = [data[start:end] for start, end in itertools.pairwise(ends)]
        row, place = int(rows[first]), places[first]
        same = [
            identifier == blob.ids[number * ID_SIZE : (number + 1) * ID_SIZE]
            for number, identifier in enumerate(chunk_ids(ChunkKind.DATA, pieces), row)
        ]
        for there, group in itertools.groupby(range(len(same)), same.__getitem__):
            if there:
                inside = list(group)
                start, end = inside[0], inside[-1] + 1
                part = data[ends[start] : ends[end]]
                yield Run(row + start, row + end, place + ends[start], part)


def _groups(sizes: Sequence[int], follows: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last + 1 of neighbours, up to `_READ_SIZE` or a single one.

    `follows` says of each but the first whether it is a neighbour of the one before.
    """
    first = size = 0
    for number, more in enumerate(sizes):
        if number > first and (not follows[number - 1] or size + more > _READ_SIZE):
            yield first, number
            first, size = number, 0
        size += more
    if sizes:
        yield first, len(sizes)


def _chunks(handle: int, chunker: Chunker, start: int, stop: int) -> Iterator[tuple[bytes, int]]:
    """Yield the id and the offset of each chunk of this part of the open file."""
    window = min(WINDOW_SIZE, stop - start)
    buffer = np.empty(chunker.spec.max_size + window, np.uint8).data
    carry, at = 0, start  # bytes in the buffer that are not cut, offset of those to be read
    while at < stop:
        wanted = min(window, stop - at)
        length = os.preadv(handle, [buffer[carry : carry + wanted]], at)
        ended = not length or at + length == stop  # no bytes: someone cuts the file off
        filled = buffer[: carry + length]
        ends = list(itertools.accumulate(chunker.cut(filled, final=ended), initial=0))
        ids = chunk_ids(ChunkKind.DATA, [filled[a:b] for a, b in itertools.pairwise(ends)])
        yield from zip(ids, (at - carry + end for end in ends[:-1]), strict=True)
        carry = len(filled) - ends[-1]
        buffer[:carry] = bytes(filled[ends[-1] :])
        at = stop if ended else at + length
