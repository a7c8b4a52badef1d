"""A local cache of index segments; may be deleted at any time.

One folder a store, one file a segment, named by its id: the segment's bytes, which were held
against that id and checked, and the tail of `lookup`, whose sums are held against what is read
later. So a file that lies there since a power failure, or on a bad disk, is noticed where it is
read, without hashing all of it at each start; it is removed and fetched again. A cache that cannot
be written costs speed, never correctness.

The sums are no secret: who can write the files can make them lie. So the folder is the user's own,
closed to others, and one that is not is left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Container, Iterator
from typing import BinaryIO, Final

import platformdirs
from blake3 import blake3

from chunkstore.ids import SegmentId
from chunkstore.lookup import CachedSegment, DamagedSegmentError, write_tail

log = logging.getLogger(__name__)

DEFAULT_BOUND: Final = 4 * 1024**3
"""Bytes of files that are kept for one store."""

_TEMPORARY: Final = ".tmp"
_STALE_SECONDS: Final = 24 * 3600


def root_folder(folder: str | os.PathLike[str] | None) -> str:
    """Return the folder of all stores' caches: the given one, by default the user's."""
    return os.fspath(folder) if folder is not None else platformdirs.user_cache_dir("chunkstore")


class SegmentCache:
    """Cached segments of one store in `folder`; None keeps nothing between processes."""

    def __init__(self, folder: str | None, *, bound: int = DEFAULT_BOUND) -> None:
        self._folder = folder
        self.bound = bound

    def open(self, segment: SegmentId, length: int) -> CachedSegment | None:
        """Return a cached segment of `length` bytes, to be searched in its file, or None."""
        if not self._is_own():
            return None
        path = self._path(segment)
        try:
            found = CachedSegment(path, segment, length)
            os.utime(path)  # used now: `trim` removes what was not used for longest
        except DamagedSegmentError:
            self.drop(segment)
            return None
        except OSError:
            return None
        return found

    def read(self, segment: SegmentId, length: int) -> bytes | None:
        """Return the bytes of a cached segment, all of them hashed, or None."""
        if not self._is_own():
            return None
        try:
            with open(self._path(segment), "rb") as file:
                data = file.read(length)
                os.utime(file.fileno())
        except OSError:
            return None
        if blake3(data).digest() != segment:
            self.drop(segment)
            return None
        return data

    def keep(self, segment: SegmentId, data: bytes, where: str) -> None:
        """Keep a segment whose bytes have that id.

        Raises:
            CorruptObjectError, UnsupportedFormatError: it is no right segment; it is not kept.
        """

        def fill(file: BinaryIO) -> None:
            file.write(data)
            file.flush()
            write_tail(file, segment, len(data), where)

        self._write(segment, fill)

    def receive(
        self, segment: SegmentId, length: int, pieces: Iterator[bytes], where: str
    ) -> CachedSegment | None:
        """Keep a segment that comes in pieces, held against its id, and open it.

        Returns None where that is impossible. What `pieces` raises passes through.

        Raises:
            CorruptObjectError, UnsupportedFormatError: it is no right segment; it is not kept.
        """

        def fill(file: BinaryIO) -> None:
            for piece in pieces:
                file.write(piece)
            file.flush()
            write_tail(file, segment, length, where)

        return self.open(segment, length) if self._write(segment, fill) else None

    def _write(self, segment: SegmentId, fill: Callable[[BinaryIO], None]) -> bool:
        """Have a segment's file filled; return whether it is there, whole."""
        if self._folder is None or not self._is_own(make=True):
            return False
        path = self._path(segment)
        temporary = f"{path}.{secrets.token_hex(8)}{_TEMPORARY}"
        try:
            with open(temporary, "w+b") as file:
                fill(file)
            os.replace(temporary, path)
        except OSError as error:
            log.warning(
                "cannot keep an index segment in %s: %s", self._folder, error.strerror or error
            )
            return False
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return True

    def drop(self, segment: SegmentId) -> None:
        """Remove a segment whose file is damaged."""
        log.warning("the cached index segment %s was damaged and is dropped", segment.hex())
        with contextlib.suppress(OSError):
            os.unlink(self._path(segment))

    def trim(self, wanted: Container[str]) -> None:
        """Drop files whose names are not in `wanted`, then over the bound those not used longest.

        What another process is writing stays, unless it was begun a day ago.
        """
        if self._folder is None:
            return
        try:
            with os.scandir(self._folder) as entries:
                files = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in entries]
        except OSError:
            return
        total, stale = 0, time.time() - _STALE_SECONDS
        for modified, size, entry in sorted(files, key=lambda file: file[0], reverse=True):
            if entry.name.endswith(_TEMPORARY) and modified > stale:
                continue
            total += size
            if entry.name not in wanted or total > self.bound:
                with contextlib.suppress(OSError):  # another process may trim at the same time
                    os.unlink(entry.path)

    def _is_own(self, *, make: bool = False) -> bool:
        """Whether the folder is there and nobody but its user can write to it."""
        if self._folder is None:
            return False
        try:
            if make:
                os.makedirs(os.path.dirname(self._folder), exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._folder, 0o700)
            found = os.stat(self._folder)
            mine = os.geteuid() in (found.st_uid, 0)
            if mine and stat.S_IMODE(found.st_mode) & 0o022:
                os.chmod(self._folder, stat.S_IMODE(found.st_mode) & ~0o022)
        except OSError as error:
            if make:
                log.warning(
                    "cannot keep index segments in %s: %s", self._folder, error.strerror or error
                )
            return False
        if not mine:
            log.warning("%s is another user's folder: no index segments are kept", self._folder)
        return mine

    def _path(self, segment: SegmentId) -> str:
        assert self._folder is not None
        return os.path.join(self._folder, segment.hex())
