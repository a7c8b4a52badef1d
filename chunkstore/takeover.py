"""Pages of the parent version that are taken over as they are.

A walk that shows between the first path of a page and that of the next one what the page was made
from at the last push has shown the page: it is neither decoded nor made again, nothing of it is
looked up chunk by chunk. That is so where the file-state cache knows the page and has seen all of
it settled, and the view holds every pack in which that push found or put what the page needs;
section 3 of docs/design/consistency.md says why that is enough. Who wants files of a page to be
looked at one by one although they have not changed declines it in `_candidate`. Neighbours: `walk`
finds, `filestate` knows, `slicer` takes what comes out.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.filestate import FileStates, KnownPage, Seen
from chunkstore.format.manifest import Manifest, PageRef
from chunkstore.ids import PackId
from chunkstore.walk import Found, LeftOut


@dataclass(frozen=True, slots=True)
class SamePage:
    """A page of the parent version of which nothing changed.

    Attributes:
        number: which one.
        ref: as the parent's root names it.
        known: what the cache knows of it.
        paths: of its entries.
        seen: what the walk saw of them.
        own: number in the index of the pack that it lies in, None where it is inside the root.
        packs: of those that hold what it needs.
    """

    number: int
    ref: PageRef
    known: KnownPage
    paths: Sequence[str]
    seen: Sequence[Seen]
    own: int | None
    packs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SameStart:
    """The first `count` entries of `page`, which are the same although not all of it is."""

    page: SamePage
    count: int


class TakeOver:
    """Finds the pages that can be taken over."""

    def __init__(self, manifest: Manifest | None, index: ChunkIndex, states: FileStates) -> None:
        """`manifest` is the parent version's root."""
        self._pages = manifest.pages if manifest is not None else ()
        self._firsts = [page.first_path for page in self._pages]
        self._index = index
        self._states = states
        known = {page.page_id: page for page in states.pages if page.needed is not None}
        self._known = {
            ref.page_id: known[ref.page_id] for ref in self._pages if ref.page_id in known
        }
        self._held: dict[PackId | None, int] | None = None  # number in the index, or ABSENT

    def sift(
        self, found: Iterator[Found | LeftOut]
    ) -> Iterator[Found | LeftOut | SamePage | SameStart]:
        """Yield what a walk found, with the pages that it showed in place of what is in them."""
        end: str | None = ""  # what is found from here on is part of another page
        page: SamePage | None = None
        paths: Sequence[str] = ()
        seen: Sequence[Seen] = ()
        at = 0  # so many entries of the page were the same
        for item in found:
            if isinstance(item, LeftOut):
                yield item
                continue
            path = item.path
            if end is not None and path >= end:
                if page is not None and at:
                    yield page if at == len(paths) else SameStart(page, at)
                page, end = self._page_at(path)
                paths, seen = (page.paths, page.seen) if page is not None else ((), ())
                at = 0
            if page is not None:
                same = at < len(paths) and paths[at] == path
                if same and (item.state or item.target) == seen[at]:
                    at += 1
                    continue
                if at:
                    yield SameStart(page, at)
                page, at = None, 0
            yield item
        if page is not None and at:
            yield page if at == len(paths) else SameStart(page, at)

    def _page_at(self, path: str) -> tuple[SamePage | None, str | None]:
        """Return the page that `path` begins if it is a candidate, and where the next begins."""
        number = bisect.bisect_right(self._firsts, path) - 1
        end = self._firsts[number + 1] if number + 1 < len(self._firsts) else None
        if number < 0 or self._firsts[number] != path:
            return None, end
        return self._candidate(number), end

    def _candidate(self, number: int) -> SamePage | None:
        ref = self._pages[number]
        known = self._known.get(ref.page_id)
        if known is None or known.needed is None:
            return None
        if not (known.ends or number + 1 == len(self._pages)):
            return None  # it ended because of what came next, which may have changed
        if self._held is None:
            self._held = self._held_packs()
        own = None if ref.inline is not None else self._held.get(known.needed.own, ABSENT)
        packs = [self._held.get(pack, ABSENT) for pack in known.needed.packs]
        if own == ABSENT or ABSENT in packs:
            return None
        entries = self._states.entries_of(known)
        if entries is None:
            return None
        return SamePage(number, ref, known, entries.paths, entries.seen, own, tuple(packs))

    def _held_packs(self) -> dict[PackId | None, int]:
        """Ask the view for the packs of all pages at once, which costs one LIST at most."""
        wanted: dict[PackId, None] = {}
        for page in self._known.values():
            assert page.needed is not None
            wanted.update(dict.fromkeys(page.needed.packs))
            if page.needed.own is not None:
                wanted[page.needed.own] = None
        packs = list(wanted)
        return dict(zip(packs, self._index.find_packs(packs).tolist(), strict=True))
