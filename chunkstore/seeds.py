"""What a target already has: chunks of an older or half-finished file that need no fetching.

Nothing is believed: bytes count as a chunk only if they have its id. Neighbour: `restore`.
"""

from __future__ import annotations

import os
import stat
from typing import Final

import numpy as np
from blake3 import blake3

from chunkstore.chunker import WINDOW_SIZE, Chunker
from chunkstore.format.blob import Blob
from chunkstore.format.manifest import Entry
from chunkstore.ids import ID_SIZE, ChunkKind, chunk_id, chunk_ids

_READ_SIZE: Final = 1024 * 1024


def open_seed(folder: int, name: str) -> int | None:
    """Open the file `name` in an open folder for reading; None where it cannot serve.

    It may be another user's, who lets nobody read it: then it is replaced, if the folder allows.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=folder)
    except (PermissionError, FileNotFoundError):
        return None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    return None


def has_content(handle: int, entry: Entry) -> bool:
    """Whether an open file has the size and the hash of the version's file."""
    if os.fstat(handle).st_size != entry.size:
        return False
    hasher, at = blake3(), 0
    while data := os.pread(handle, _READ_SIZE, at):
        hasher.update(data)
        at += len(data)
    return hasher.digest() == entry.file_hash


def rows_in_place(handle: int, blob: Blob, base: int) -> list[int]:
    """Return the rows of `blob`, of depth 0, whose chunks the open file has at their place.

    `base` is the blob's offset in the file.
    """
    rows: list[int] = []
    length = os.fstat(handle).st_size
    for row, size in enumerate(blob.size_array().tolist()):
        if base + size > length:
            break
        data = os.pread(handle, size, base)
        if chunk_id(ChunkKind.DATA, data) == blob.ids[row * ID_SIZE : (row + 1) * ID_SIZE]:
            rows.append(row)
        base += size
    return rows


class SeedFile:
    """An older file, cut into chunks as the store cuts, so that moved ones are found too.

    Keeps 44 bytes for each chunk of the file.
    """

    def __init__(self, handle: int, chunker: Chunker) -> None:
        """Cut the open file; the handle must stay open while the seed is used."""
        self._handle = handle
        ids, sizes = _cut(handle, chunker)
        joined = np.frombuffer(b"".join(ids), f"S{ID_SIZE}")
        ends = np.cumsum(np.array(sizes, np.int64))
        self._order = np.argsort(joined, kind="stable")
        self._ids = joined[self._order]
        self._offsets = (ends - np.array(sizes, np.int64))[self._order]

    def find(self, blob: Blob) -> list[tuple[int, int]]:
        """Return (row, offset in the older file) of the chunks of `blob` that it has."""
        if not len(self._ids) or not blob.count:
            return []
        wanted = np.frombuffer(blob.ids, f"S{ID_SIZE}")
        at = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        rows = np.flatnonzero(self._ids[at] == wanted)
        return list(zip(rows.tolist(), self._offsets[at[rows]].tolist(), strict=True))

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the older file, to be verified by the caller."""
        return os.pread(self._handle, size, offset)


def _cut(handle: int, chunker: Chunker) -> tuple[list[bytes], list[int]]:
    ids: list[bytes] = []
    sizes: list[int] = []
    carry, at, ended = b"", 0, False
    while not ended:
        data = os.pread(handle, WINDOW_SIZE, at)
        at += len(data)
        ended = len(data) < WINDOW_SIZE
        window = memoryview(carry + data)
        pieces, start = [], 0
        for size in chunker.cut(window, final=ended):
            pieces.append(window[start : start + size])
            sizes.append(size)
            start += size
        ids += chunk_ids(ChunkKind.DATA, pieces)
        carry = bytes(window[start:])
    return ids, sizes
