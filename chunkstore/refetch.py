"""Where lost chunks may still be had: another store, folders that still have the files.

Whatever comes out has the id that was asked for. Neighbour: `repair` asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import numpy as np

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.chunker import WINDOW_SIZE, Chunker
from chunkstore.errors import FilesystemError, IntegrityError
from chunkstore.events import Notice, ProgressCallback
from chunkstore.format.blob import BlobBuilder
from chunkstore.ids import ChunkId, ChunkKind, chunk_id
from chunkstore.limits import MAX_CHUNK_SIZE
from chunkstore.reader import Reader
from chunkstore.spans import Wanted

_BATCH: Final = 512


class Supply(Protocol):
    """Something that may have chunks."""

    def fetch(
        self, kind: ChunkKind, ids: Sequence[bytes]
    ) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """Yield (id, bytes) of those of the chunks that it has, each verified.

        What comes is valid until the next one is taken. An id may come several times.

        Raises:
            BackendError, FilesystemError: it cannot be read.
        """

    def has(self, kind: ChunkKind, ids: Sequence[bytes]) -> set[bytes]:
        """Return which of the chunks it seems to have."""


class OtherStore:
    """Another store; implements `Supply`."""

    def __init__(self, reader: Reader, index: ChunkIndex) -> None:
        self._reader = reader
        self._index = index

    def has(self, kind: ChunkKind, ids: Sequence[bytes]) -> set[bytes]:
        """Return which of the chunks its index lists."""
        del kind
        found = self._index.find(b"".join(ids)) != ABSENT
        return {ids[row] for row in np.flatnonzero(found).tolist()}

    def fetch(
        self, kind: ChunkKind, ids: Sequence[bytes]
    ) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """Yield those of the chunks that it has and that are not damaged there too."""
        there = sorted(self.has(kind, ids))
        for start in range(0, len(there), _BATCH):
            batch = there[start : start + _BATCH]
            given: set[bytes] = set()
            try:
                for found, data in self._read(kind, batch):
                    given.add(found)
                    yield found, data
            except IntegrityError:  # one of them is damaged; the others one by one
                for one in batch:
                    if one not in given:
                        yield from self._one(kind, one)

    def _one(self, kind: ChunkKind, one: bytes) -> Iterator[tuple[bytes, bytes | memoryview]]:
        try:
            yield from self._read(kind, [one])
        except IntegrityError:
            return

    def _read(
        self, kind: ChunkKind, ids: Sequence[bytes]
    ) -> Iterator[tuple[bytes, bytes | memoryview]]:
        wanted = Wanted(kind, b"".join(ids), ())
        for span in self._reader.plan(wanted):
            for row, data in self._reader.read(span, wanted):
                yield wanted.id(row), data


class Folder:
    """A folder that may still have the files; they are cut again. Implements `Supply`.

    Lists of chunks come out of it too; pages do not, since they have names and times that the files
    may no longer have.
    """

    def __init__(
        self, root: str, chunker: Chunker, on_unreadable: Callable[[str, str], object]
    ) -> None:
        """Take a folder, or a single file; `on_unreadable` is told path and reason.

        Raises:
            FilesystemError: there is none.
        """
        if not os.path.exists(root):
            raise FilesystemError(f"no folder or file {root}")
        self._root = root
        self._chunker = chunker
        self._on_unreadable = on_unreadable

    def has(self, kind: ChunkKind, ids: Sequence[bytes]) -> set[bytes]:
        """Return which of the chunks come out of its files: reads all of them."""
        return {found for found, _ in self.fetch(kind, ids)}

    def fetch(
        self, kind: ChunkKind, ids: Sequence[bytes]
    ) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """Cut every file, and yield the chunks that are wanted; stops when it has all."""
        left = set(ids)
        if kind == ChunkKind.PAGE:
            return
        for path in self._files():
            if not left:
                return
            for found, data in self._cut(path, kind, left):
                yield found, data
                left.discard(found)

    def _files(self) -> Iterator[str]:
        if os.path.isfile(self._root):
            yield self._root
        for folder, folders, names in os.walk(self._root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path

    def _cut(
        self, path: str, kind: ChunkKind, wanted: set[bytes]
    ) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """Yield chunks of a file that are wanted."""
        lists: list[bytes] = []

        def put_list(data: bytes) -> ChunkId:
            lists.append(data)
            return chunk_id(ChunkKind.LIST, data)

        builder = BlobBuilder(put_list)
        for data in self._chunks(path):
            identifier = chunk_id(ChunkKind.DATA, data)
            if kind == ChunkKind.DATA:
                if identifier in wanted:
                    yield identifier, data
            else:
                builder.add([identifier], [len(data)])
        if kind == ChunkKind.LIST:
            builder.finish()
            for each in lists:
                identifier = chunk_id(ChunkKind.LIST, each)
                if identifier in wanted:
                    yield identifier, each

    def _chunks(self, path: str) -> Iterator[memoryview]:
        buffer = bytearray(WINDOW_SIZE + MAX_CHUNK_SIZE)
        view, filled = memoryview(buffer), 0
        try:
            with open(path, "rb", buffering=0) as file:
                while True:
                    count = file.readinto(view[filled:])
                    filled += count or 0
                    at = 0
                    for size in self._chunker.cut(view[:filled], final=not count):
                        yield view[at : at + size]
                        at += size
                    if not count:
                        return
                    rest = bytes(view[at:filled])
                    filled = len(rest)
                    view[:filled] = rest
        except OSError as error:
            self._on_unreadable(path, error.strerror or str(error))


def unread(progress: ProgressCallback) -> Callable[[str, str], object]:
    """Return what tells `progress` of files that cannot be read."""
    return lambda path, reason: progress(Notice(message=f"cannot read {path}: {reason}"))
