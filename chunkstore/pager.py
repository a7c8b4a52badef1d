"""Entries in, pages and the root of the manifest out.

Takes the entries of a new version in order and makes pages of them, in constant memory but for
the list of pages. Neighbours: `writer` gives the entries and stores what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chunkstore.compression import compress_frame
from chunkstore.errors import InvalidInputError
from chunkstore.format.document import HEAD_LENGTH
from chunkstore.format.manifest import INLINE_PAGES, Entry, ends_page, join_page, pack_entry
from chunkstore.format.path import PathOrder
from chunkstore.ids import ChunkId, ChunkKind, chunk_id
from chunkstore.limits import MAX_PAGE_LENGTH, MAX_VERSION_FILES

_SPARE = 64  # bytes of a page that are not entries

_TRIED_FROM = 8 * 1024  # bytes of inline pages; fewer are not worth a pack of their own
_SHRINKS_WELL = 1 / 4


@dataclass(slots=True)
class Page:
    """A finished page.

    Attributes:
        page_id: its id.
        first_path: path of its first entry.
        entries: how many it has.
        places: where its files' chunks lie, in the order of the entries that first need them.
        data: its bytes, None where it is stored outside the root.
        size: bytes of its files.
        length: its raw bytes.
        ends: whether it ends with its last entry whatever comes next.
        place: where it lies itself once it was stored outside the root.
        fetch: gives its bytes where it was stored before this version.
    """

    page_id: ChunkId
    first_path: str
    entries: int
    places: dict[int, None]
    data: bytes | None
    size: int
    length: int
    ends: bool
    place: int | None = None
    fetch: Callable[[], bytes] | None = None


@dataclass(slots=True)
class _OpenPage:
    packed: list[bytes] = field(default_factory=list)
    first_path: str = ""
    length: int = 0
    size: int = 0
    places: dict[int, None] = field(default_factory=dict)


class Pager:
    """Makes the pages of one version."""

    def __init__(
        self,
        put_page: Callable[[ChunkId, bytes], int],
        on_page: Callable[[Page], None] = lambda _: None,
    ) -> None:
        """`put_page` stores a page chunk and returns its place, a number as entries have them.

        `on_page` gets each page that was made of entries.
        """
        self._put_page = put_page
        self._on_page = on_page
        self._order = PathOrder()
        self._open = _OpenPage()
        self._inline_length = 0
        self._stored = 0  # pages that are stored outside the root
        self.pages: list[Page] = []
        self.files = 0
        self.size = 0

    def add(self, entry: Entry, places: set[int] | frozenset[int]) -> None:
        """Append an entry whose chunks lie at `places`.

        Raises:
            InvalidInputError: the version cannot hold it: not in order, below a file, too many.
        """
        problem = self._order.problem(entry.path)
        if problem:
            raise InvalidInputError(f"cannot take {entry.path!r}: {problem}")
        if self.files == MAX_VERSION_FILES:
            raise InvalidInputError(f"more than {MAX_VERSION_FILES} files in one version")
        packed = pack_entry(entry)
        length = HEAD_LENGTH + len(packed)
        if self._open.length + length + _SPARE > MAX_PAGE_LENGTH:
            self._close(ends=False)
        page = self._open
        page.first_path = page.first_path or entry.path
        page.packed.append(packed)
        page.length += length
        page.size += entry.size
        page.places.update(dict.fromkeys(sorted(places, reverse=True)))  # tickets count downwards
        self.files += 1
        self.size += entry.size
        if ends_page(entry, length):
            self._close(ends=True)

    @property
    def between_pages(self) -> bool:
        """Whether a whole page can be taken."""
        return not self._open.packed

    def add_page(self, page: Page, last_path: str) -> None:
        """Append a page that was made before, whose last entry is `last_path`.

        Between pages only. Its data may be None if it has a place and can be fetched.

        Raises:
            InvalidInputError: as `add`.
        """
        assert self.between_pages
        for path in dict.fromkeys((page.first_path, last_path)):
            problem = self._order.problem(path)
            if problem:
                raise InvalidInputError(f"cannot take {path!r}: {problem}")
        if self.files + page.entries > MAX_VERSION_FILES:
            raise InvalidInputError(f"more than {MAX_VERSION_FILES} files in one version")
        self.files += page.entries
        self.size += page.size
        self._append(page)

    def finish(self) -> None:
        """End the last page."""
        self._close(ends=False)
        if self._inline_length <= INLINE_PAGES:  # the version before may have had more of them
            for page in self.pages:
                if page.data is None:
                    assert page.fetch is not None
                    page.data, page.place = page.fetch(), None
            if self._shrink_well():
                self._store()

    def _close(self, *, ends: bool) -> None:
        page, self._open = self._open, _OpenPage()
        if not page.packed:
            return
        data = join_page(page.packed)
        done = Page(
            chunk_id(ChunkKind.PAGE, data),
            page.first_path,
            len(page.packed),
            page.places,
            data,
            page.size,
            len(data),
            ends,
        )
        self._append(done)
        self._on_page(done)

    def _append(self, page: Page) -> None:
        self.pages.append(page)
        self._inline_length += page.length
        if self._inline_length > INLINE_PAGES:
            self._store()

    def _store(self) -> None:
        """Store the pages outside the root that are not yet."""
        for done in self.pages[self._stored :]:
            if done.place is None:
                assert done.data is not None
                done.place = self._put_page(done.page_id, done.data)
            done.data = None
        self._stored = len(self.pages)

    def _shrink_well(self) -> bool:
        """Whether the inline pages are far shorter in a frame: a chunk that comes again and again.

        The root is not compressed, since ids do not shrink. A file of 2 GB of zeros, however, has
        one id 1,024 times in each list: 37 KB in the root, 0.2 KB in a frame.
        """
        if self._inline_length < _TRIED_FROM:
            return False
        raw = b"".join(page.data for page in self.pages if page.data is not None)
        return len(compress_frame(raw)[1]) < len(raw) * _SHRINKS_WELL
