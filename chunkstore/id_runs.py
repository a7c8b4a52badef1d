"""Any number of ids in little memory: sorted runs in a temporary file.

`IdRuns` gives the different ones back, sorted, a range at a time; `IdSet` says of some ids whether
it has them; `MetIds` does that for few, in memory alone. A range is two numbers: the first 8 bytes
of an id, highest first, are at least the one and below the other. Neighbours: `planning` goes
through `IdRuns` beside `index_files`, `survey` and `copy` ask an `IdSet`, `marking` keeps `MetIds`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from chunkstore.format.pack import IdArray
from chunkstore.ids import ID_SIZE
from chunkstore.temporary import read_exactly, temporary_file, write_all

Mask: TypeAlias = npt.NDArray[np.bool_]
U64Array: TypeAlias = npt.NDArray[np.uint64]

END: Final = 1 << 64
"""The end of the last range."""

MOST_HELD: Final = 1 << 20
"""Ids that are sorted at once: 32 MB, and as much for the result."""

_BLOCK: Final = 1024

_SHORT: Final = 16


def as_ids(joined: bytes | memoryview) -> IdArray:
    """Return joined ids as a column."""
    return np.frombuffer(joined, f"S{ID_SIZE}")


def id_list(ids: IdArray) -> list[bytes]:
    """Return the ids of a column one by one, with the zeros at their ends."""
    joined = ids.tobytes()
    return [joined[at : at + ID_SIZE] for at in range(0, len(joined), ID_SIZE)]


def prefixes(ids: IdArray) -> U64Array:
    """Return the first 8 bytes of each id as a number, highest first."""
    words = np.ascontiguousarray(ids).view(">u8")[:: ID_SIZE // 8]
    return words.astype(np.uint64)


def ranges(entries: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield ranges that cover all ids, of about `most` each where there are `entries` in all."""
    parts = 1 << (entries // most).bit_length()
    for part in range(parts):
        yield part * END // parts, (part + 1) * END // parts


def in_range(ids: IdArray, first: int, end: int) -> Mask:
    """Return which of the ids are in a range."""
    found = prefixes(ids)
    inside: Mask = (found >= np.uint64(first)) & (found <= np.uint64(end - 1))
    return inside


def contained(wanted: IdArray, among: IdArray) -> Mask:
    """Return which of n ids, whole or short, stand in `among`, which is sorted: (n,)."""
    if not len(among):
        return np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    found: Mask = among[at] == wanted
    return found


def short_ids(ids: bytes) -> IdArray:
    """Return the first 16 bytes of each of n joined ids, in their order: `S16` (n,).

    They are as good as all 32: two that agree in them have never been seen, and to make them costs
    2^64 hashes.
    """
    whole = np.frombuffer(ids, np.uint8).reshape(-1, ID_SIZE)
    return np.ascontiguousarray(whole[:, :_SHORT]).view(f"S{_SHORT}").reshape(-1)


class _Run(NamedTuple):
    """A sorted run: where it begins in the file, its length, the prefix of each block's first."""

    at: int
    length: int
    firsts: U64Array


class IdRuns:
    """Any number of ids. Not thread-safe; `close` it."""

    def __init__(self, folder: str | None, *, most_held: int = MOST_HELD) -> None:
        """Keep the file in `folder`, None for the system's folder of temporary files."""
        self._file = temporary_file(folder)
        self._runs: list[_Run] = []
        self._waiting: list[bytes] = []
        self._held = 0
        self._most = most_held

    def __enter__(self) -> IdRuns:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back. Calling it twice is fine."""
        self._file.close()

    def __len__(self) -> int:
        """How many ids are kept; one that stands in several runs counts in each."""
        return sum(run.length for run in self._runs) + self._held

    def add(self, ids: bytes) -> None:
        """Take joined ids; the same one may come again and again."""
        self._waiting.append(ids)
        self._held += len(ids) // ID_SIZE
        if self._held >= self._most:
            self._spill()

    def between(self, first: int, end: int) -> IdArray:
        """Return the different ids of a range, sorted."""
        self._spill()
        parts = [self._read(run, first, end) for run in self._runs]
        return np.unique(np.concatenate(parts)) if parts else as_ids(b"")

    def _spill(self) -> None:
        if not self._held:
            return
        ids = np.unique(as_ids(b"".join(self._waiting)))
        self._waiting, self._held = [], 0
        at = self._file.seek(0, os.SEEK_END)
        write_all(self._file, ids.tobytes())
        self._runs.append(_Run(at, len(ids), prefixes(ids[::_BLOCK])))

    def _read(self, run: _Run, first: int, end: int) -> IdArray:
        low = max(0, int(np.searchsorted(run.firsts, np.uint64(first))) - 1) * _BLOCK
        high = int(np.searchsorted(run.firsts, np.uint64(end - 1), "right")) * _BLOCK
        count = min(high, run.length) - low
        if count <= 0:
            return as_ids(b"")
        ids = as_ids(read_exactly(self._file, count * ID_SIZE, run.at + low * ID_SIZE))
        return ids[in_range(ids, first, end)]


class MetIds:
    """Ids that were met, in memory, 32 bytes each: for what is few, such as pages and lists."""

    def __init__(self) -> None:
        self._levels: list[IdArray] = []  # sorted, the longest first

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def add(self, ids: IdArray) -> Mask:
        """Take ids; return for each whether it was met now for the first time."""
        fresh = ~self.has(ids)
        new, first = np.unique(ids, return_index=True)
        once = np.zeros(len(ids), bool)
        once[first] = True
        fresh &= once
        _pile(self._levels, new[fresh[first]])
        return fresh

    def has(self, ids: IdArray) -> Mask:
        """Return which of the ids were met."""
        known = np.zeros(len(ids), bool)
        for level in self._levels:
            known |= contained(ids, level)
        return known


class IdSet:
    """Ids that were added, 16 bytes of each. Not thread-safe; `close` it.

    Runs are mapped, of which the kernel keeps in memory what it likes.
    """

    def __init__(self, folder: str | None, *, most_held: int = MOST_HELD) -> None:
        """Keep the file in `folder`, None for the system's folder of temporary files."""
        self._file = temporary_file(folder)
        self._levels: list[IdArray] = []  # in memory, sorted, the longest first
        self._runs: list[IdArray] = []
        self._most = most_held
        self.added = 0
        """How many ids were added; one that was added twice counts twice."""

    def __enter__(self) -> IdSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back. Calling it twice is fine."""
        self._runs.clear()
        self._file.close()

    def add(self, ids: bytes) -> None:
        """Take n joined ids."""
        self._take(np.sort(short_ids(ids)))

    def update(self, other: IdSet) -> None:
        """Take all that another set has."""
        for part in (*other._levels, *other._runs):
            self._take(part)

    def contains(self, ids: bytes) -> Mask:
        """Return for each of n joined ids whether it was added, (n,)."""
        wanted = short_ids(ids)
        found = np.zeros(len(wanted), bool)
        for part in (*self._levels, *self._runs):
            left = np.flatnonzero(~found)
            if not len(left):
                break
            found[left] = contained(wanted[left], part)
        return found

    def _take(self, part: IdArray) -> None:
        self.added += len(part)
        _pile(self._levels, part)
        if sum(map(len, self._levels)) >= self._most:
            self._spill()

    def _spill(self) -> None:
        run = np.sort(np.concatenate(self._levels), kind="stable")
        self._levels.clear()
        at = self._file.seek(0, os.SEEK_END)
        at = self._file.seek(at + -at % mmap.ALLOCATIONGRANULARITY)
        write_all(self._file, run.tobytes())
        mapped = mmap.mmap(self._file.fileno(), run.nbytes, access=mmap.ACCESS_READ, offset=at)
        self._runs.append(np.frombuffer(mapped, run.dtype))


def _pile(levels: list[IdArray], part: IdArray) -> None:
    """Put a sorted part onto levels, each more than twice as long as the next: so they are few."""
    while levels and len(levels[-1]) <= 2 * len(part):
        part = np.sort(np.concatenate((levels.pop(), part)), kind="stable")
    if len(part):
        levels.append(part)
