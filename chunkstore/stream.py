"""One file of a version as a stream: sequential with reading ahead, or seekable.

Neighbours: `reader` gives verified chunks; `store` opens the files.
"""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from chunkstore.address import Address
from chunkstore.entries import entries_below
from chunkstore.errors import CorruptObjectError, InvalidInputError, NotFoundError
from chunkstore.format.blob import Blob
from chunkstore.format.manifest import Entry, EntryKind, Manifest, PackHint
from chunkstore.ids import ID_SIZE, ChunkKind
from chunkstore.reader import Reader
from chunkstore.spans import Wanted

_READ_BUFFER: Final = 256 * 1024
GROUP_SIZE: Final = 4 * 1024 * 1024
"""Raw bytes that are fetched at once while a file is read in order."""

_GROUPS_AHEAD: Final = 3


class FileContent:
    """The verified bytes of one file, by ranges."""

    def __init__(self, reader: Reader, entry: Entry, hints: Sequence[PackHint]) -> None:
        self._reader = reader
        self._entry = entry
        self._hints = hints

    @property
    def entry(self) -> Entry:
        """The file's entry in its version."""
        return self._entry

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._entry.size

    def blocks(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` to `end` in order, reading ahead in threads.

        Raises:
            IntegrityError: bytes are damaged or missing in every copy; nothing wrong is yielded.
            InvalidInputError: the file does not have that range.
        """
        self._check_range(start, end)
        groups = self._groups(self._entry.blob, 0, start, end)
        pending: deque[Future[list[memoryview]]] = deque()
        done = start
        with ThreadPoolExecutor(_GROUPS_AHEAD, "chunkstore-read") as pool:
            try:
                for group in groups:
                    pending.append(pool.submit(self._read_group, *group, start, end))
                    if len(pending) >= _GROUPS_AHEAD:
                        for block in pending.popleft().result():
                            done += len(block)
                            yield block
                while pending:
                    for block in pending.popleft().result():
                        done += len(block)
                        yield block
            finally:
                for future in pending:
                    future.cancel()
        if done != end:
            raise CorruptObjectError(f"{self._entry.path}: {done - start} of {end - start} bytes")

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`, for small ranges.

        Raises: as `blocks`.
        """
        self._check_range(start, end)
        parts = [
            block
            for group in self._groups(self._entry.blob, 0, start, end)
            for block in self._read_group(*group, start, end)
        ]
        data = b"".join(parts)
        if len(data) != end - start:
            raise CorruptObjectError(f"{self._entry.path}: {len(data)} of {end - start} bytes")
        return data

    def _check_range(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.size:
            raise InvalidInputError(f"{self._entry.path} has {self.size} bytes, not {start}-{end}")

    def _groups(
        self, blob: Blob, base: int, start: int, end: int
    ) -> Iterator[tuple[bytes, list[int], int]]:
        """Yield (ids, sizes, offset in the file) of chunks in the range, about 4 MiB at a time.

        Lists outside the range are never read.
        """
        sizes = blob.size_array()
        ends = np.cumsum(sizes) + np.uint64(base)
        first = int(np.searchsorted(ends, start, side="right"))
        last = (
            min(int(np.searchsorted(ends, end, side="left")) + 1, blob.count) if end > start else 0
        )
        if blob.depth:
            for row in range(first, last):
                one = Blob(
                    int(sizes[row]),
                    blob.depth,
                    blob.ids[row * ID_SIZE : (row + 1) * ID_SIZE],
                    blob.sizes[row * 8 : (row + 1) * 8],
                )
                offset = int(ends[row]) - int(sizes[row])
                for part in self._reader.children(one, self._hints):
                    yield from self._groups(part, offset, start, end)
            return
        while first < last:
            offset = int(ends[first]) - int(sizes[first])
            stop = int(np.searchsorted(ends, offset + GROUP_SIZE, side="left")) + 1
            stop = min(max(stop, first + 1), last)
            yield blob.ids[first * ID_SIZE : stop * ID_SIZE], sizes[first:stop].tolist(), offset
            first = stop

    def _read_group(
        self, ids: bytes, sizes: list[int], offset: int, start: int, end: int
    ) -> list[memoryview]:
        """Return the chunks of a group in order, cut to the range from `start` to `end`."""
        wanted = Wanted(ChunkKind.DATA, ids, self._hints)
        found: list[memoryview] = [memoryview(b"")] * len(sizes)
        small = len(sizes) == 1
        for span in self._reader.plan(wanted):
            for row, data in self._reader.read(span, wanted, keep=small):
                found[row] = data
        at = offset
        for row, (data, size) in enumerate(zip(found, sizes, strict=True)):
            if len(data) != size:
                raise CorruptObjectError(
                    f"{self._entry.path}: chunk {wanted.id(row).hex()} has {len(data)} bytes, "
                    f"the manifest says {size}"
                )
            found[row] = data[max(0, start - at) : max(0, min(size, end - at))]
            at += size
        return found


def read_whole(contents: Sequence[FileContent]) -> list[bytes]:
    """Return the bytes of small files, which are fetched together where they lie together.

    Raises:
        IntegrityError: bytes of one are damaged or missing.
    """
    found: list[bytes] = []
    for _, group in itertools.groupby(contents, lambda content: id(content._hints)):
        found += _read_page(list(group))
    return found


def _read_page(contents: Sequence[FileContent]) -> list[bytes]:
    """Return the bytes of small files of one page, or of a part of one."""
    if any(content.entry.blob.depth for content in contents):
        return [content.read(0, content.size) for content in contents]
    blobs = [content.entry.blob for content in contents]
    wanted = Wanted(ChunkKind.DATA, b"".join(blob.ids for blob in blobs), contents[0]._hints)
    chunks: list[memoryview] = [memoryview(b"")] * sum(blob.count for blob in blobs)
    reader = contents[0]._reader
    for span in reader.plan(wanted):
        for row, data in reader.read(span, wanted):
            chunks[row] = data
    found, at = [], 0
    for content, blob in zip(contents, blobs, strict=True):
        found.append(b"".join(chunks[at : at + blob.count]))
        at += blob.count
        if len(found[-1]) != content.size:
            raise CorruptObjectError(
                f"{content.entry.path}: {len(found[-1])} of {content.size} bytes"
            )
    return found


def buffered(content: FileContent, name: str) -> io.BufferedReader:
    """Return a file object over `content`, called `name`, for reads of any size."""
    return io.BufferedReader(StoredFile(content, name), _READ_BUFFER)


def open_content(reader: Reader, manifest: Manifest, where: Address) -> FileContent:
    """Return the content of the file that an address names.

    Raises:
        NotFoundError: nothing is there, or a folder or link.
    """
    for entry, hints in entries_below(reader, manifest, where.path):
        if entry.path == where.path and entry.kind == EntryKind.FILE:
            return FileContent(reader, entry, hints)
        break
    raise NotFoundError(f"{where} is not a file", hint="list what is there with ls")


class StoredFile(io.RawIOBase):
    """A file of a version, read-only and seekable; every byte is verified before it is given.

    `buffered` wraps it, for small reads.
    """

    def __init__(self, content: FileContent, name: str) -> None:
        self._content = content
        self._at = 0
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size}
        if whence not in base or base[whence] + offset < 0:
            raise InvalidInputError(f"cannot seek to {offset} from {whence}")
        self._at = base[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._content.size)
        if end <= self._at:
            return 0
        data = self._content.read(self._at, end)
        buffer[: len(data)] = data
        self._at = end
        return len(data)
