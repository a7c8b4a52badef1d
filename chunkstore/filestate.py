"""The file-state cache: which files of a folder are as they were at the last push.

For each path it keeps size, mtime, ctime, inode and the file's hash, in the order of the walk, so
that it is read and written as a stream beside it. A file whose four numbers are the same has
the content with that hash; where that content lies, the parent version says. May be deleted at
any time. Neighbours: `slicer` asks, `writer` keeps.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple

import msgpack
from blake3 import blake3

from chunkstore.ids import ID_SIZE, FileHash

log = logging.getLogger(__name__)

_HEADER: Final = b"CSFS\x01"
_SETTLED_NS: Final = 2_000_000_000
"""A file that changed less than this before it was read may change again without a trace: clocks
of file systems tick in steps of up to two seconds (FAT). Such files are read again next time."""


class FileState(NamedTuple):
    """What the file system says of a file that nobody touched: bytes, and times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def state_of(status: os.stat_result) -> FileState:
    """Return the state that `status` shows."""
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class FileStates:
    """The cache for one folder; `path` None keeps nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._known = self._read()
        self._next: tuple[bytes, FileState, FileHash] | None = None
        self._new: IO[bytes] | None = None
        self._temporary = ""
        self._started_ns = time.time_ns()

    @staticmethod
    def path_for(folder: str, root: str) -> str:
        """Return the cache file in the cache folder `folder` for the user's folder `root`."""
        name = blake3(os.fsencode(os.path.realpath(root))).hexdigest(16)
        return os.path.join(folder, "files", name)

    def hash_of(self, path: str, state: FileState) -> FileHash | None:
        """Return the hash of the file's content if it is as it was; ask in ascending order."""
        wanted = path.encode()
        while self._next is None or self._next[0] < wanted:
            found = next(self._known, None)
            if found is None:
                return None
            self._next = found
        if self._next[0] == wanted and self._next[1] == state:
            return self._next[2]
        return None

    def keep(self, path: str, state: FileState, file_hash: FileHash) -> None:
        """Remember a file for the next push; call in ascending order."""
        newest = max(state.mtime_ns, state.ctime_ns)
        if self._path is None or newest > self._started_ns - _SETTLED_NS:
            return
        try:
            if self._new is None:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                self._temporary = f"{self._path}.{secrets.token_hex(8)}.tmp"
                self._new = open(self._temporary, "wb")  # noqa: SIM115  # closed by finish or discard
                self._new.write(_HEADER)
            self._new.write(msgpack.packb([path.encode(), *state, file_hash]))
        except OSError as error:
            log.warning("cannot keep the file-state cache %s: %s", self._path, error)
            self.discard()
            self._path = None

    def finish(self) -> None:
        """Put what was kept in place of the old cache."""
        if self._new is None or self._path is None:
            return
        try:
            self._new.close()
            os.replace(self._temporary, self._path)
            self._new = None
        except OSError as error:
            log.warning("cannot keep the file-state cache %s: %s", self._path, error)
            self.discard()

    def discard(self) -> None:
        """Forget what was kept; the old cache stays."""
        if self._new is not None:
            with contextlib.suppress(OSError):  # what is buffered may find no room either
                self._new.close()
            self._new = None
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)

    def _read(self) -> Iterator[tuple[bytes, FileState, FileHash]]:
        """Yield the records of the old cache; a damaged one ends where the damage begins."""
        if self._path is None:
            return
        try:
            with open(self._path, "rb") as file:
                if file.read(len(_HEADER)) != _HEADER:
                    return
                # One record is small; the bound keeps a damaged length from being believed.
                records = msgpack.Unpacker(file, max_buffer_size=1 << 20, raw=True)
                for record in records:
                    yield _record(record)
        except FileNotFoundError:
            return
        except (OSError, ValueError, msgpack.exceptions.UnpackException) as error:
            log.warning("the file-state cache %s is not used: %s", self._path, error)


def _record(record: Any) -> tuple[bytes, FileState, FileHash]:
    if not isinstance(record, list) or len(record) != 6:
        raise ValueError("a record is not an array of six fields")
    path, *numbers, file_hash = record
    if type(path) is not bytes or type(file_hash) is not bytes or len(file_hash) != ID_SIZE:
        raise ValueError("a record's path or hash is not binary")
    if any(type(number) is not int for number in numbers):
        raise ValueError("a record's numbers are not integers")
    return path, FileState(*numbers), FileHash(file_hash)
