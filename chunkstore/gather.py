"""A file of which something may be in the target already: the rest is found and has to be fetched.

Chunks come from the part file of an earlier pull, then from their place in the older file, then
from elsewhere in it. Neighbours: `restore` above has the whole version, `seeds` reads what is
there, `fetcher` has the rest fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from chunkstore.errors import CorruptObjectError
from chunkstore.fetcher import Fetcher
from chunkstore.format.blob import Blob
from chunkstore.format.manifest import PackHint
from chunkstore.ids import ID_SIZE
from chunkstore.reader import Reader
from chunkstore.restored_file import RestoredFile
from chunkstore.seeds import Rows, Run, SeedFile, ids_of, runs_in_place


class Gatherer:
    """Puts files together for one pull.

    Attributes:
        reused: bytes that the target had.
    """

    def __init__(self, reader: Reader, fetcher: Fetcher) -> None:
        """Begin with nothing."""
        self._reader = reader
        self._fetcher = fetcher
        self.reused = 0

    def gather(self, file: RestoredFile, hints: Sequence[PackHint], old: SeedFile | None) -> None:
        """Find which chunks of a file are missing and have them fetched."""
        resumed = self._fetcher.begin(file)
        lacking: list[tuple[Blob, int, Rows]] = []
        base = 0
        for blob in self._reader.lists(file.entry.blob, hints):
            missing = np.ones(blob.count, np.bool_)
            if resumed:
                for run in runs_in_place(file.handle, blob, base, missing):
                    file.keep(run.offset, len(run.data))
                    self._found(run, missing)
            if old:
                self._reuse(file, old.in_place(blob, base, missing), missing)
            if old or resumed:
                self._fetcher.looked_through(blob.size)
            if old is None:
                self._want(file, blob, base, missing, hints)
            elif missing.any():
                lacking.append((blob, base, missing))
            base += blob.size
        if base != file.entry.size:
            raise CorruptObjectError(f"{file.entry.path}: chunks of {base} bytes in all")
        if old and lacking:
            old.cut(np.concatenate([ids_of(blob)[missing] for blob, _, missing in lacking]))
            for blob, at, missing in lacking:
                self._reuse(file, old.moved(blob, at, missing), missing)
                self._want(file, blob, at, missing, hints)
        file.seal()

    def _reuse(self, file: RestoredFile, runs: Iterator[Run], missing: Rows) -> None:
        for run in runs:
            file.reuse(run.data, run.offset)
            self._found(run, missing)

    def _found(self, run: Run, missing: Rows) -> None:
        missing[run.start : run.end] = False
        self.reused += len(run.data)

    def _want(
        self,
        file: RestoredFile,
        blob: Blob,
        base: int,
        missing: Rows,
        hints: Sequence[PackHint],
    ) -> None:
        rows = np.flatnonzero(missing)
        file.expect(len(rows))
        sizes, places = blob.size_array()[rows].tolist(), blob.offsets(base)[rows].tolist()
        for row, size, place in zip(rows.tolist(), sizes, places, strict=True):
            identifier = blob.ids[row * ID_SIZE : (row + 1) * ID_SIZE]
            self._fetcher.want(file, identifier, place, size, hints)
