"""A local cache of index segments, mapped into memory; may be deleted at any time.

One folder a store, one file a segment, named by its id. A file is hashed before it is used: it may
lie there since a power failure, or on a bad disk, and what is wrong in it would be taken for
damage of the store. That costs 0.4 s a GB; a file that is damaged is removed and fetched again. A
cache that cannot be written costs speed, never correctness.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import secrets
import time
from collections.abc import Container
from typing import BinaryIO, Final

import platformdirs
from blake3 import blake3

from chunkstore.ids import SegmentId

log = logging.getLogger(__name__)

DEFAULT_BOUND: Final = 4 * 1024**3
"""Bytes of segments that are kept for one store."""

_TEMPORARY: Final = ".tmp"
_STALE_SECONDS: Final = 24 * 3600
_BLOCK: Final = 1024 * 1024


def root_folder(folder: str | os.PathLike[str] | None) -> str:
    """Return the folder of all stores' caches: the given one, by default the user's."""
    return os.fspath(folder) if folder is not None else platformdirs.user_cache_dir("chunkstore")


class SegmentCache:
    """Cached segments of one store in `folder`; None keeps nothing between processes."""

    def __init__(self, folder: str | None, *, bound: int = DEFAULT_BOUND) -> None:
        self._folder = folder
        self._bound = bound

    def get(self, segment: SegmentId, length: int | None) -> memoryview | None:
        """Return the mapped bytes of a cached segment, or None; `length` None takes any."""
        if self._folder is None:
            return None
        try:
            with open(self._path(segment), "rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found and length in (None, found) and _hash_of(file) == segment:
                    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            log.warning("the cached index segment %s was damaged and is dropped", segment.hex())
            os.unlink(self._path(segment))
        except OSError:
            return None
        return None

    def put(self, segment: SegmentId, data: bytes) -> memoryview:
        """Keep a segment that was checked; return its bytes, mapped where that is possible."""
        if self._folder is None:
            return memoryview(data)
        path = self._path(segment)
        temporary = f"{path}.{secrets.token_hex(8)}{_TEMPORARY}"
        try:
            os.makedirs(self._folder, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError as error:
            log.warning("cannot keep an index segment in %s: %s", self._folder, error)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return self.get(segment, len(data)) or memoryview(data)

    def trim(self, wanted: Container[str]) -> None:
        """Drop files whose names are not in `wanted`, then the oldest ones over the bound.

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
            if entry.name not in wanted or total > self._bound:
                with contextlib.suppress(OSError):  # another process may trim at the same time
                    os.unlink(entry.path)

    def _path(self, segment: SegmentId) -> str:
        assert self._folder is not None
        return os.path.join(self._folder, segment.hex())


def _hash_of(file: BinaryIO) -> bytes:
    """Return the BLAKE3 of a file, read rather than mapped, so that it takes no memory."""
    hasher = blake3()
    while block := file.read(_BLOCK):
        hasher.update(block)
    return hasher.digest()
