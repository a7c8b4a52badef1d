"""The version before, read beside the walk: what stood at each path, and is it still stored.

Neighbours: `reader` gives the pages, `chunk_index` says which chunks the store has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.format.manifest import Entry, EntryKind, Manifest
from chunkstore.reader import Reader


class ParentVersion:
    """The entries of the parent version, asked for in ascending order of paths."""

    def __init__(self, manifest: Manifest | None, reader: Reader, index: ChunkIndex) -> None:
        self._manifest = manifest
        self._reader = reader
        self._index = index
        self._pages = self._read_pages()
        self._page: list[Entry] = []
        self._at = 0
        self._packs: dict[str, frozenset[int]] | None = None

    def _read_pages(self) -> Iterator[list[Entry]]:
        if self._manifest is not None:
            for number in range(len(self._manifest.pages)):
                yield self._reader.page(self._manifest, number)

    def _peek(self) -> Entry | None:
        if self._at == len(self._page):
            page = next(self._pages, None)
            if page is None:
                return None
            self._page, self._at, self._packs = page, 0, None
        return self._page[self._at]

    def seek(self, path: str, passed: Callable[[Entry], None]) -> Entry | None:
        """Return the entry at `path`, or None; give `passed` those before it nobody sought."""
        wanted = path.encode()
        while (entry := self._peek()) is not None:
            here = entry.path.encode()
            if here > wanted:
                break
            self._at += 1
            if here == wanted:
                return entry
            passed(entry)
        return None

    def rest(self) -> Iterator[Entry]:
        """Yield the entries that were not asked for."""
        while (entry := self._peek()) is not None:
            self._at += 1
            yield entry

    def packs_of(self, entry: Entry) -> frozenset[int] | None:
        """Return the numbers of packs that hold all chunks of `entry`, the last one sought.

        None where the index lacks one of them.
        """
        if entry.blob.depth:
            return self._packs_of_lists(entry)
        if self._packs is None:  # one look-up for a whole page
            self._packs = self._packs_of_page()
        return self._packs.get(entry.path)

    def _packs_of_page(self) -> dict[str, frozenset[int]]:
        files = [e for e in self._page if e.kind == EntryKind.FILE and not e.blob.depth]
        numbers = self._index.find(b"".join(file.blob.ids for file in files)).tolist()
        packs: dict[str, frozenset[int]] = {}
        at = 0
        for file in files:
            found = frozenset(numbers[at : at + file.blob.count])
            at += file.blob.count
            if ABSENT not in found:
                packs[file.path] = found
        return packs

    def _packs_of_lists(self, entry: Entry) -> frozenset[int] | None:
        assert self._manifest is not None
        packs: set[int] = set()
        for ids in self._reader.all_ids(entry.blob, self._manifest.packs):
            found = np.unique(self._index.find(ids))
            if ABSENT in found:
                return None
            packs.update(found.tolist())
        return frozenset(packs)
