"""What deduplication and compression save of versions, by kind of file.

Goes through entries and counts each different chunk once: for the kind and version that need it
first. A bit for each entry of the index remembers which were counted, so memory is an eighth of a
byte for each chunk of the store, whatever the version. Neighbours: `inspection` above, `reader`
and `chunk_index` below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.format.manifest import EntryKind, Manifest, PackHint
from chunkstore.ids import ID_SIZE
from chunkstore.kinds import counted_as, kind_of
from chunkstore.reader import Reader
from chunkstore.values import KindStat

_BATCH_IDS: Final = 16_384

_LINK: Final = "link"
_FOLDER: Final = "folder"


class Savings:
    """A tally of versions; `add` them, oldest first, then take the `kinds`."""

    def __init__(self, reader: Reader, index: ChunkIndex) -> None:
        """`index` must have loaded what the versions need; chunks that it lacks count as none."""
        self._reader = reader
        self.index = index
        self._counted = np.zeros(index.entries // 8 + 1, np.uint8)
        self._codes: dict[str, int] = {}
        self._files: list[int] = []
        self._sizes: list[int] = []
        self._unique = np.zeros(0)
        self._stored = np.zeros(0)
        self._pages: dict[bytes, list[tuple[int, int, int]]] = {}
        self._ids: list[bytes] = []
        self._owners: list[tuple[int, int]] = []  # code, number of ids
        self._waiting = 0

    def add(self, manifest: Manifest) -> None:
        """Count one version. A page that an earlier one had too is not read again."""
        for number, ref in enumerate(manifest.pages):
            tally = self._pages.get(ref.page_id)
            if tally is None:
                hints = [manifest.packs[pack] for pack in ref.packs]
                tally = self._pages[ref.page_id] = self._page(manifest, number, hints)
            for code, files, size in tally:
                self._files[code] += files
                self._sizes[code] += size
        self._count()

    def kinds(self) -> tuple[KindStat, ...]:
        """Return what was counted, the kinds that take up most first."""
        found = [
            KindStat(
                kind=kind,
                files=self._files[code],
                size=self._sizes[code],
                unique_bytes=round(self._unique[code]),
                stored_bytes=round(self._stored[code]),
            )
            for kind, code in self._codes.items()
        ]
        return tuple(sorted(found, key=lambda kind: (-kind.stored_bytes, -kind.size, kind.kind)))

    def _page(
        self, manifest: Manifest, number: int, hints: Sequence[PackHint]
    ) -> list[tuple[int, int, int]]:
        """Take the chunks of a page; return (code of a kind, files, bytes of them)."""
        tally: dict[int, tuple[int, int]] = {}
        for entry in self._reader.page(manifest, number):
            if entry.kind == EntryKind.FILE:
                code = self._code(kind_of(entry.path))
                for part in self._reader.lists(entry.blob, hints):
                    self._take(code, part.ids)
            else:
                code = self._code(_LINK if entry.kind == EntryKind.LINK else _FOLDER)
            files, size = tally.get(code, (0, 0))
            tally[code] = files + 1, size + entry.size
        return [(code, files, size) for code, (files, size) in tally.items()]

    def _code(self, kind: str) -> int:
        kind = counted_as(kind, self._codes)
        code = self._codes.setdefault(kind, len(self._codes))
        if code == len(self._files):
            self._files.append(0)
            self._sizes.append(0)
            self._unique = np.append(self._unique, 0)
            self._stored = np.append(self._stored, 0)
        return code

    def _take(self, code: int, ids: bytes) -> None:
        self._ids.append(ids)
        self._owners.append((code, len(ids) // ID_SIZE))
        self._waiting += len(ids) // ID_SIZE
        if self._waiting >= _BATCH_IDS:
            self._count()

    def _count(self) -> None:
        """Count those of the chunks that wait which were not counted before."""
        if not self._waiting:
            return
        numbers, sizes, stored = self.index.measure(b"".join(self._ids))
        codes = np.repeat(*np.array(self._owners).T)
        self._ids, self._owners, self._waiting = [], [], 0
        numbers, rows = np.unique(numbers, return_index=True)
        bits = (1 << (numbers & 7)).astype(np.uint8)
        fresh = (numbers != ABSENT) & ((self._counted[numbers >> 3] & bits) == 0)
        np.bitwise_or.at(self._counted, numbers[fresh] >> 3, bits[fresh])
        rows = rows[fresh]
        most = len(self._codes)
        self._unique += np.bincount(codes[rows], sizes[rows], minlength=most)
        self._stored += np.bincount(codes[rows], stored[rows], minlength=most)
