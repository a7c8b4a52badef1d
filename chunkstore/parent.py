"""The version before, read beside the walk: what stood at each path, and is it still stored.

Neighbours: `reader` gives the pages, `chunk_index` says which chunks the store has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.errors import MissingObjectError
from chunkstore.format.manifest import Entry, EntryKind, Manifest, PackHint
from chunkstore.reader import Reader


class ParentPage:
    """One page of the parent version."""

    def __init__(self, entries: list[Entry], manifest: Manifest, reader: Reader, index: ChunkIndex):
        """Take the decoded entries of a page."""
        self.entries = entries
        self._manifest = manifest
        self._reader = reader
        self._index = index
        self._packs: dict[str, frozenset[int]] | None = None

    def packs_of(self, entry: Entry) -> frozenset[int] | None:
        """Return the numbers of packs that hold all chunks of an entry of this page.

        None where the index lacks one of them.
        """
        if entry.blob.depth:
            return _packs_of_lists(entry, self._manifest.packs, self._reader, self._index)
        if self._packs is None:  # one look-up for a whole page
            self._packs = self._packs_of_files()
        return self._packs.get(entry.path)

    def _packs_of_files(self) -> dict[str, frozenset[int]]:
        files = [e for e in self.entries if e.kind == EntryKind.FILE and not e.blob.depth]
        numbers = self._index.find(b"".join(file.blob.ids for file in files)).tolist()
        packs: dict[str, frozenset[int]] = {}
        at = 0
        for file in files:
            found = frozenset(numbers[at : at + file.blob.count])
            at += file.blob.count
            if ABSENT not in found:
                packs[file.path] = found
        return packs


class ParentVersion:
    """The entries of the parent version, asked for in ascending order of paths."""

    def __init__(self, manifest: Manifest | None, reader: Reader, index: ChunkIndex) -> None:
        self.manifest = manifest
        """Its root, None where there is no parent version."""
        self._reader = reader
        self._index = index
        self._page: ParentPage | None = None
        self._next = 0  # number of the page after `_page`
        self._at = 0

    def page(self, number: int) -> ParentPage:
        """Return one page, wherever the asking has come to."""
        assert self.manifest is not None
        entries = self._reader.page(self.manifest, number)
        return ParentPage(entries, self.manifest, self._reader, self._index)

    def page_data(self, number: int) -> bytes:
        """Return the raw bytes of one page."""
        assert self.manifest is not None
        return self._reader.page_data(self.manifest, number)

    def _peek(self, path: str | None = None) -> Entry | None:
        """Return the next entry, None after the last; with `path` None too where it comes later."""
        if self._page is None or self._at == len(self._page.entries):
            if self.manifest is None or self._next == len(self.manifest.pages):
                return None
            if path is not None and self.manifest.pages[self._next].first_path > path:
                return None  # its page may not be needed at all
            self._page, self._at = self.page(self._next), 0
            self._next += 1
        entry = self._page.entries[self._at]
        return None if path is not None and entry.path > path else entry

    def seek(self, path: str, passed: Callable[[Entry], None]) -> Entry | None:
        """Return the entry at `path`, or None; give `passed` those before it nobody sought.

        Strings are compared by code points, which have the order of their UTF-8.
        """
        while (entry := self._peek(path)) is not None:
            self._at += 1
            if entry.path == path:
                return entry
            passed(entry)
        return None

    def pass_page(self, number: int, passed: Callable[[Entry], None]) -> None:
        """Go on after a page that was not begun; give `passed` what before it nobody sought."""
        while self._next < number or (self._page and self._at < len(self._page.entries)):
            entry = self._peek()
            assert entry is not None
            self._at += 1
            passed(entry)
        self._page, self._next, self._at = None, number + 1, 0

    def rest(self) -> Iterator[Entry]:
        """Yield the entries that were not asked for."""
        while (entry := self._peek()) is not None:
            self._at += 1
            yield entry

    def packs_of(self, entry: Entry) -> frozenset[int] | None:
        """Return the numbers of packs that hold all chunks of `entry`, the last one sought.

        None where the index lacks one of them.
        """
        assert self._page is not None
        return self._page.packs_of(entry)

    def packs_of_stored(self, entry: Entry) -> frozenset[int]:
        """Return the numbers of packs that hold all chunks of an entry of any version.

        Raises:
            MissingObjectError: the index lacks one of them.
        """
        hints = self.manifest.packs if self.manifest is not None else ()
        packs = _packs_of_lists(entry, hints, self._reader, self._index)
        if packs is None:
            raise MissingObjectError(f"the index lacks chunks of {entry.path!r}")
        return packs


def _packs_of_lists(
    entry: Entry, hints: Sequence[PackHint], reader: Reader, index: ChunkIndex
) -> frozenset[int] | None:
    """Return the numbers of packs that hold all chunks of an entry, None where one is lacking."""
    packs: set[int] = set()
    for ids in reader.all_ids(entry.blob, hints):
        found = np.unique(index.find(ids))
        if ABSENT in found:
            return None
        packs.update(found.tolist())
    return frozenset(packs)
