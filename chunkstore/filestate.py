"""The file-state cache: what a folder's files were at the last push, page by page.

For each page of the version it keeps the page's id, the packs in which this very push found or put
all that the page needs, and for each entry what the walk saw: of a file its size, mtime, ctime,
inode and x bit with the file's hash, of a link its target. A file with the same state has the
content with that hash; a run of the walk that shows what a page was made from is that page. That a
pack holds something stays true for ever, so all of this may be old; whether the packs are still
there is asked of the view. A table of the pages stands at the end of the file, what belongs to a
page is read where it is needed. Everything is hashed: what is damaged or of another version is not
used. May be deleted at any time. Neighbours: `takeover` and `slicer` ask, `ingest` keeps.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import struct
import time
from collections.abc import Sequence
from typing import IO, Final, NamedTuple, TypeAlias

import msgpack
from blake3 import blake3

from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.ids import ID_SIZE, ChunkId, FileHash, PackId
from chunkstore.walk import FileState

log = logging.getLogger(__name__)

_HEADER: Final = b"CSFS\x02"
_FOOTER: Final = struct.Struct("<Q32s")  # offset and hash of the table
_SETTLED_NS: Final = 2_000_000_000
"""A file that changed less than this before it was read may change again without a trace: clocks
of file systems tick in steps of up to two seconds (FAT). Such files are read again next time."""

Seen: TypeAlias = FileState | tuple[int, ...] | str | None
"""What the walk saw: of a file its state, of a link its target, of an empty folder ""; None: what
was seen may change without a trace."""


class Needed(NamedTuple):
    """Where a page lies itself, None inside the root, and the packs that hold what it needs."""

    own: PackId | None
    packs: tuple[PackId, ...]


class KnownPage(NamedTuple):
    """A page of the version that was pushed last from the folder.

    Attributes:
        page_id: its id.
        first_path: path of its first entry.
        entries: how many it has.
        size: bytes of its files.
        length: its raw bytes.
        ends: whether it ends with its last entry whatever comes next.
        needed: None where that is not known, or not all of it could be seen to be settled.
        offset: where in the cache its entries are.
        stored: bytes that those take up there.
        seal: hash of these.
    """

    page_id: ChunkId
    first_path: str
    entries: int
    size: int
    length: int
    ends: bool
    needed: Needed | None
    offset: int
    stored: int
    seal: bytes


class SeenEntries(NamedTuple):
    """The entries of a page: their paths, what was seen, and the hashes of all, joined."""

    paths: list[str]
    seen: list[Seen]
    hashes: bytes


class FileStates:
    """The cache for one folder; `path` None keeps nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._old: IO[bytes] | None = None
        self.pages: Sequence[KnownPage] = ()
        """What the last push kept, in the order of paths."""
        self._read_table()
        self._at = -1  # the page in which hash_of looked last
        self._hashes: dict[str, tuple[Seen, FileHash]] = {}
        self._waiting: list[tuple[str, Seen, FileHash]] = []  # entries of pages that are not ended
        self._kept: list[KnownPage] = []
        self._new: IO[bytes] | None = None
        self._temporary = ""
        self._started_ns = time.time_ns()

    @staticmethod
    def path_for(folder: str, root: str) -> str:
        """Return the cache file in the cache folder `folder` for the user's folder `root`."""
        name = blake3(os.fsencode(os.path.realpath(root))).hexdigest(16)
        return os.path.join(folder, "files", name)

    # asking

    def hash_of(self, path: str, state: FileState) -> FileHash | None:
        """Return the hash of the file's content if it is as it was; ask in ascending order."""
        at = self._at
        while at + 1 < len(self.pages) and self.pages[at + 1].first_path <= path:
            at += 1
        if at != self._at:
            self._at, self._hashes = at, {}
            found = self.entries_of(self.pages[at])
            if found is not None:
                for row, (name, seen) in enumerate(zip(found.paths, found.seen, strict=True)):
                    file_hash = found.hashes[row * ID_SIZE : (row + 1) * ID_SIZE]
                    self._hashes[name] = seen, FileHash(file_hash)
        known = self._hashes.get(path)
        return known[1] if known is not None and known[0] == state else None

    def entries_of(self, page: KnownPage) -> SeenEntries | None:
        """Return what was seen of the entries of one of `pages`, None where that is damaged."""
        assert self._old is not None
        try:
            stored = self._read_old(page)
            if blake3(stored).digest() != page.seal:
                raise ValueError("a page does not have its hash")
            return SeenEntries(*msgpack.unpackb(stored, use_list=False))
        except (OSError, ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            log.warning("a part of the file-state cache %s is not used: %s", self._path, error)
            return None

    def _read_old(self, page: KnownPage) -> bytes:
        assert self._old is not None
        self._old.seek(page.offset)
        return self._old.read(page.stored)

    def _read_table(self) -> None:
        """Read the old cache's table of pages."""
        if self._path is None:
            return
        try:
            self._old = open(self._path, "rb")  # noqa: SIM115  # closed by finish or discard
            self.pages = _table_of(self._old)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            log.warning("the file-state cache %s is not used: %s", self._path, error)

    # keeping

    def keep(self, entry: Entry, state: FileState | None) -> None:
        """Remember an entry of the new version for the next push; call it for each, in order."""
        if self._path is None:
            return
        seen: Seen = state if entry.kind == EntryKind.FILE else entry.target
        if state is not None:
            newest = max(state.mtime_ns, state.ctime_ns)
            if newest > self._started_ns - _SETTLED_NS:
                seen = None
        self._waiting.append((entry.path, seen, entry.file_hash))

    def end_page(self, page_id: ChunkId, entries: int, size: int, length: int, ends: bool) -> None:
        """Make a page of the first `entries` entries of those that were kept."""
        if self._path is None:
            return
        members, self._waiting = self._waiting[:entries], self._waiting[entries:]
        paths = [path for path, _, _ in members]
        seen = [seen for _, seen, _ in members]
        hashes = b"".join(file_hash or bytes(ID_SIZE) for _, _, file_hash in members)
        stored = msgpack.packb([paths, seen, hashes])
        settled = Needed(None, ()) if None not in seen else None
        seal = blake3(stored).digest()
        self._write(
            KnownPage(
                page_id, paths[0], entries, size, length, ends, settled, 0, len(stored), seal
            ),
            stored,
        )

    def keep_page(self, page: KnownPage) -> None:
        """Remember one of `pages`, which the new version has too; its bytes are copied."""
        if self._path is None:
            return
        if self._new is None:
            self._kept.append(page)
        else:
            self._write(page, None)

    def _write(self, page: KnownPage, stored: bytes | None) -> None:
        try:
            if stored is None:
                stored = self._read_old(page)
            if self._new is None:
                self._begin()
            assert self._new is not None
            self._kept.append(page._replace(offset=self._new.tell()))
            self._new.write(stored)
        except OSError as error:
            self._give_up(error)

    def _begin(self) -> None:
        """Open the new cache and put into it what was kept of the old one so far."""
        assert self._path is not None
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        self._temporary = f"{self._path}.{secrets.token_hex(8)}.tmp"
        self._new = open(self._temporary, "wb")  # noqa: SIM115  # closed by finish or discard
        self._new.write(_HEADER)
        for row, page in enumerate(self._kept):
            self._kept[row] = page._replace(offset=self._new.tell())
            self._new.write(self._read_old(page))

    def finish(self, needed: Sequence[Needed | None]) -> None:
        """Put what was kept in place of the old cache; `needed` is that of each page."""
        unchanged = self._new is None and self._kept == list(self.pages)
        if self._path is None or unchanged:
            self.discard()
            return
        try:
            if self._new is None:
                self._begin()
            assert self._new is not None
            table = _table(self._kept, needed)
            offset = self._new.tell()
            self._new.write(table + _FOOTER.pack(offset, blake3(table).digest()))
            self._new.close()
            os.replace(self._temporary, self._path)
            self._new = None
        except OSError as error:
            self._give_up(error)
        self.discard()

    def _give_up(self, error: OSError) -> None:
        log.warning("cannot keep the file-state cache %s: %s", self._path, error.strerror or error)
        self._discard_new()
        self._path = None

    def discard(self) -> None:
        """Forget what was kept; the old cache stays."""
        self._discard_new()
        if self._old is not None:
            self._old.close()

    def _discard_new(self) -> None:
        if self._new is not None:
            with contextlib.suppress(OSError):  # what is buffered may find no room either
                self._new.close()
            self._new = None
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)


def _table(pages: Sequence[KnownPage], needed: Sequence[Needed | None]) -> bytes:
    """Return the table of pages, which names each pack once."""
    numbers: dict[PackId, int] = {}

    def number(pack: PackId) -> int:
        return numbers.setdefault(pack, len(numbers))

    rows = []
    for page, found in zip(pages, needed, strict=True):
        own = packs = None
        if page.needed is not None and found is not None:
            own = None if found.own is None else number(found.own)
            packs = [number(pack) for pack in found.packs]
        rows.append([*page._replace(needed=None), own, packs])
    table: bytes = msgpack.packb([list(numbers), rows])
    return table


def _table_of(file: IO[bytes]) -> list[KnownPage]:
    """Read the table of pages of a cache.

    Raises:
        OSError, ValueError, TypeError, UnpackException: it is damaged, or of another version.
    """
    if file.read(len(_HEADER)) != _HEADER:
        raise ValueError("it is of another version")
    end = file.seek(-_FOOTER.size, os.SEEK_END)
    offset, seal = _FOOTER.unpack(file.read(_FOOTER.size))
    if offset > end:
        raise ValueError("it is cut off")
    file.seek(offset)
    table = file.read(end - offset)
    if blake3(table).digest() != seal:
        raise ValueError("its table does not have its hash")
    packs, rows = msgpack.unpackb(table, use_list=False)
    pages = []
    for *fields, own, numbers in rows:
        page = KnownPage(*fields)
        if numbers is not None:
            place = None if own is None else packs[own]
            needed = Needed(place, tuple(packs[number] for number in numbers))
            page = page._replace(needed=needed)
        pages.append(page)
    return pages
