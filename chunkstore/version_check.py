"""A version that somebody else wants to commit, held against what a store has.

Nothing of a manifest is believed: pages and lists are read and decoded, their order, sizes and
totals compared, every chunk looked up. What another version of the same dataset has, which went
through here before, is not gone through again. Hints play no part: they promise nothing, and could
lead to a hundred thousand packs. Neighbours: `reader` gives pages and lists, the caller knows which
chunks there are.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from chunkstore.chunk_index import ABSENT
from chunkstore.errors import IntegrityError, MissingObjectError
from chunkstore.format.blob import Blob
from chunkstore.format.document import corrupt
from chunkstore.format.manifest import Entry, Manifest, PageRef
from chunkstore.ids import ID_SIZE
from chunkstore.reader import Reader

SizesOf: TypeAlias = Callable[[bytes, bool], npt.NDArray[np.int64]]
"""Takes n joined ids and gives the raw bytes of each chunk, or ABSENT: (n,).

The flag is set where they are of files: then lists and pages are none.
"""


class ChunkWalk:
    """Goes through the chunks that pages lead to; each list once, however often it is named.

    Lists may name one list many times, at every level: gone through as they stand, four of them
    would make 10^14 chunks.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lists: dict[bytes, tuple[int, int]] = {}

    def of_page(self, entries: Sequence[Entry]) -> Iterator[tuple[bytes, bytes]]:
        """Yield joined ids and sizes (u32, none for lists) of what a page's files consist of."""
        flat = [entry.blob for entry in entries if entry.blob.depth == 0]
        yield b"".join(blob.ids for blob in flat), b"".join(blob.sizes for blob in flat)
        for entry in entries:
            if entry.blob.depth:
                yield from self._of_blob(entry.blob)

    def _of_blob(self, blob: Blob) -> Iterator[tuple[bytes, bytes]]:
        if blob.depth == 0:
            yield blob.ids, blob.sizes
            return
        for row, size in enumerate(blob.size_array().tolist()):
            identifier = blob.ids[row * ID_SIZE : (row + 1) * ID_SIZE]
            known = self._lists.get(identifier)
            if known == (size, blob.depth):
                continue
            if known is not None:
                corrupt("it is named with two sizes or depths", f"list {identifier.hex()}")
            self._lists[identifier] = (size, blob.depth)
            yield identifier, b""
            single = Blob(size, blob.depth, identifier, size.to_bytes(8, "little"))
            for part in self._reader.children(single, ()):
                yield from self._of_blob(part)


def check_version(
    reader: Reader, manifest: Manifest, base: Manifest | None, sizes_of: SizesOf
) -> None:
    """Check all of a version that `base`, which was checked before, does not have.

    Takes time and requests in proportion to the pages that differ, and memory for one of them.

    Args:
        reader: reads pages and lists, by the index.
        manifest: the version, decoded.
        base: a version that is committed, or None.
        sizes_of: says which chunks there are, and how long they are.

    Raises:
        CorruptObjectError: the version contradicts itself, or what is stored.
        MissingObjectError: it needs a chunk that is not there.
    """
    manifest = without_hints(manifest)
    if base is not None:
        try:
            checked = _Check(reader, manifest, without_hints(base), sizes_of)
            left = checked.size_left_out()
        except IntegrityError:  # of the base's pages: then this one is looked at as a whole
            left = None
        if left is not None:
            checked.run(left)
            return
    _Check(reader, manifest, None, sizes_of).run(0)


class _Check:
    """One version on its way through."""

    def __init__(
        self, reader: Reader, manifest: Manifest, base: Manifest | None, sizes_of: SizesOf
    ) -> None:
        self._reader = reader
        self._manifest = manifest
        self._base = base
        self._sizes_of = sizes_of
        self._walk = ChunkWalk(reader)
        self._firsts = [page.first_path.encode() for page in manifest.pages]
        pages = base.pages if base else ()
        ends = [page.first_path.encode() for page in pages]
        known = dict(zip(map(_identity, pages), itertools.chain(ends[1:], [None]), strict=False))
        self._same = [_identity(page) in known for page in manifest.pages]
        self._ends = [known.get(_identity(page)) for page in manifest.pages]

    def size_left_out(self) -> int | None:
        """Return the bytes of all files in pages that are the base's; None where few are.

        Raises:
            IntegrityError: a page of the base is damaged or gone.
        """
        assert self._base is not None
        kept = set(map(_identity, itertools.compress(self._manifest.pages, self._same)))
        dropped = [n for n, page in enumerate(self._base.pages) if _identity(page) not in kept]
        if len(dropped) > len(kept):
            return None
        lost = sum(_size(self._reader.page(self._base, number)) for number in dropped)
        return self._base.size - lost

    def run(self, size: int) -> None:
        """Check every page that is not the base's; those have `size` bytes of files in all.

        Raises:
            CorruptObjectError, MissingObjectError: as `check_version`.
        """
        for number, page in enumerate(self._manifest.pages):
            if self._same[number]:
                self._check_end(number)
                continue
            if page.inline is None:
                self._need(page.page_id, b"")  # before it is read: it may be there for others only
            entries = self._reader.page(self._manifest, number)
            size += _size(entries)
            for ids, sizes in self._walk.of_page(entries):
                self._need(ids, sizes)
            self._check_above(number, entries)
            self._check_below(number, entries)
        if size != self._manifest.size:
            corrupt(
                f"its files have {size} bytes, it says {self._manifest.size}",
                f"manifest of {self._manifest.dataset!r}",
            )

    def _need(self, ids: bytes, sizes: bytes) -> None:
        """Raise where a chunk is not there, or not of the size that stands beside its id."""
        if not ids:
            return
        found = self._sizes_of(ids, bool(sizes))
        lost = np.flatnonzero(found == ABSENT)
        if len(lost):
            lacking = ids[lost[0] * ID_SIZE : (lost[0] + 1) * ID_SIZE].hex()
            raise MissingObjectError(f"chunk {lacking} is not there", key=lacking)
        if sizes:
            wrong = np.flatnonzero(found != np.frombuffer(sizes, "<u4"))
            if len(wrong):
                which = ids[wrong[0] * ID_SIZE : (wrong[0] + 1) * ID_SIZE].hex()
                corrupt(f"chunk {which} has {found[wrong[0]]} bytes, not as many", "manifest")

    def _check_end(self, number: int) -> None:
        """Hold the end of a page that is the base's against the page that follows now."""
        if number + 1 < len(self._firsts):
            end = self._ends[number]
            if end is None or self._firsts[number + 1] < end:
                self._reader.page(self._manifest, number)

    def _check_above(self, number: int, entries: Sequence[Entry]) -> None:
        """Raise where a path lies below a file or an empty folder of an earlier page.

        Paths between a name and what lies below it all begin with the name, so it begins the first
        path of this page.
        """
        first = entries[0].path
        names = {
            entry.path[:end]
            for entry in entries
            for end in _slashes(entry.path)
            if first.startswith(entry.path[:end])
        }
        for name in names:
            for path in (name, f"{name}/"):
                page = bisect.bisect_right(self._firsts, path.encode()) - 1
                if 0 <= page < number and path in self._paths(page):
                    corrupt(f"a path lies below {path!r}", f"page {number}")

    def _check_below(self, number: int, entries: Sequence[Entry]) -> None:
        """Raise where a later page that is the base's has a path below a name in this one."""
        last = entries[-1].path
        for entry in entries:
            if not last.startswith(entry.path):
                continue
            below = entry.path if entry.path.endswith("/") else f"{entry.path}/"
            page = bisect.bisect_right(self._firsts, below.encode()) - 1
            for later in (page, page + 1):
                kept = number < later < len(self._firsts) and self._same[later]
                if kept and any(path.startswith(below) for path in self._paths(later)):
                    corrupt(f"a path lies below {entry.path!r}", f"page {later}")

    def _paths(self, number: int) -> list[str]:
        return [entry.path for entry in self._reader.page(self._manifest, number)]


def _identity(page: PageRef) -> tuple[bytes, str, int, bool]:
    return page.page_id, page.first_path, page.entries, page.inline is None


def _size(entries: Sequence[Entry]) -> int:
    return sum(entry.size for entry in entries)


def _slashes(path: str) -> Iterator[int]:
    at = path.find("/")
    while at >= 0:
        yield at
        at = path.find("/", at + 1)


def without_hints(manifest: Manifest) -> Manifest:
    """Return a manifest whose pages and chunks are looked for in the index alone."""
    pages = tuple(page._replace(packs=()) for page in manifest.pages)
    return dataclasses.replace(manifest, packs=(), pages=pages)
