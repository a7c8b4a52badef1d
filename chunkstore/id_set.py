"""A set of many ids in little memory: sorted runs in a temporary file that is mapped.

10 million ids take 160 MB of file, of which the kernel keeps in memory what it likes, and as much
memory as is needed for a run: 16 MB. Of each id 16 bytes are kept, which are as good as all 32: two
that agree in them have never been seen, and to make them costs 2^64 hashes. Neighbours: `verify`
and `repair`.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore.ids import ID_SIZE

_KEPT: Final = 16
_RUN: Final = 1_000_000
"""Ids of a run. Each look-up searches every run, so there should be few."""

_TYPE: Final = f"S{_KEPT}"


class IdSet:
    """Ids that were added. Not thread-safe; `close` it."""

    def __init__(self, *, run: int = _RUN) -> None:
        self._run = run
        self._waiting: list[npt.NDArray[np.bytes_]] = []
        self._waiting_count = 0
        self._fresh = np.zeros(0, _TYPE)
        self._file = tempfile.TemporaryFile(prefix="chunkstore-ids-")  # noqa: SIM115  # `close` does
        self._maps: list[mmap.mmap] = []
        self._runs: list[npt.NDArray[np.bytes_]] = []
        self.added = 0
        """How many ids were added; one that was added twice counts twice."""

    def add(self, ids: bytes) -> None:
        """Add n joined ids."""
        if ids:
            kept = short_ids(ids)
            self._waiting.append(kept)
            self._waiting_count += len(kept)
            self.added += len(kept)
            if self._waiting_count >= self._run:
                self._spill()

    def update(self, other: IdSet) -> None:
        """Add all that another set has."""
        for run in (*other._waiting, other._fresh, *other._runs):
            self._waiting.append(run)
            self._waiting_count += len(run)
            self.added += len(run)
        if self._waiting_count >= self._run:
            self._spill()

    def contains(self, ids: bytes) -> npt.NDArray[np.bool_]:
        """Return for each of n joined ids whether it was added, (n,)."""
        if self._waiting:
            self._fresh = np.sort(np.concatenate([self._fresh, *self._waiting]))
            self._waiting.clear()
        wanted = short_ids(ids)
        found = np.zeros(len(wanted), bool)
        for run in (self._fresh, *self._runs):
            left = np.flatnonzero(~found)
            if not len(left):
                break
            found[left] = contained(wanted[left], run)
        return found

    def _spill(self) -> None:
        run = np.sort(np.concatenate([self._fresh, *self._waiting]))
        self._waiting.clear()
        self._waiting_count, self._fresh = 0, np.zeros(0, _TYPE)
        start = self._file.seek(0, 2)
        start += -start % mmap.ALLOCATIONGRANULARITY
        self._file.seek(start)
        self._file.write(run.tobytes())
        self._file.flush()
        length = run.nbytes
        mapped = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ, offset=start)
        self._maps.append(mapped)
        self._runs.append(np.frombuffer(mapped, _TYPE))

    def close(self) -> None:
        """Let go of the file."""
        self._runs.clear()
        self._file.close()

    def __enter__(self) -> IdSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def short_ids(ids: bytes) -> npt.NDArray[np.bytes_]:
    """Return the first 16 bytes of each of n joined ids, in their order: `S16` (n,)."""
    whole = np.frombuffer(ids, np.uint8).reshape(-1, ID_SIZE)
    return np.ascontiguousarray(whole[:, :_KEPT]).view(_TYPE).reshape(-1)


def contained(
    wanted: npt.NDArray[np.bytes_], among: npt.NDArray[np.bytes_]
) -> npt.NDArray[np.bool_]:
    """Return which of n ids, whole or short, stand in `among`, which is sorted: (n,)."""
    if not len(among):
        return np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    found: npt.NDArray[np.bool_] = among[at] == wanted
    return found
