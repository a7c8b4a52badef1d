"""The Blob: the content of a file as chunks, or as lists of chunks when there are many.

Implements section 7, "Blob and list", of docs/design/format.md. Pure. A file of 1 TB and an
empty file use the same code: nothing ever holds the whole list of a large file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore import limits
from chunkstore.format.document import DocumentKind, corrupt, decode_document, encode_document
from chunkstore.ids import ID_SIZE, ChunkId

LIST: Final = DocumentKind("list", b"CSLS", 1, limits.MAX_LIST_LENGTH, sealed=False)

_BOUNDARY_MASK: Final = np.uint32(1024 - 1)
_SHORTEST_LIST: Final = 256


@dataclass(frozen=True, slots=True)
class Blob:
    """`size` bytes of content, as n chunks in order.

    Attributes:
        size: bytes of the content; the sum of `sizes`.
        depth: 0 where the chunks are the data; d where they are lists of depth d - 1.
        ids: n chunk ids of 32 bytes, joined.
        sizes: bytes of content that each chunk stands for, little-endian, joined: 4 bytes each
            at depth 0, 8 bytes each above.
    """

    size: int
    depth: int
    ids: bytes
    sizes: bytes

    @property
    def count(self) -> int:
        """How many chunks the blob names directly."""
        return len(self.ids) // ID_SIZE

    def size_array(self) -> npt.NDArray[np.uint64]:
        """Return the sizes as integers (n,)."""
        return np.frombuffer(self.sizes, "<u8" if self.depth else "<u4").astype(np.uint64)

    def offsets(self, base: int = 0) -> npt.NDArray[np.int64]:
        """Return where each chunk begins (n,), for content that begins at `base`."""
        sizes = self.size_array().astype(np.int64)
        return base + np.cumsum(sizes) - sizes


EMPTY: Final = Blob(0, 0, b"", b"")


def make_blob(depth: int, ids: bytes, sizes: Sequence[int]) -> Blob:
    """Return the blob of these chunks."""
    packed = struct.pack(f"<{len(sizes)}{'Q' if depth else 'I'}", *sizes)
    return Blob(sum(sizes), depth, ids, packed)


def check_blob(blob: Blob, where: str) -> Blob:
    """Return `blob` if its fields fit one another and the limits.

    Raises:
        CorruptObjectError: they do not.
    """
    count = blob.count
    width = 8 if blob.depth else 4
    if not 0 <= blob.depth <= limits.MAX_BLOB_DEPTH or count > limits.MAX_INLINE_CHUNKS:
        corrupt("a blob is deeper or longer than allowed", where)
    if len(blob.ids) != count * ID_SIZE or len(blob.sizes) != count * width:
        corrupt("a blob's ids and sizes do not fit each other", where)
    if count == 0:
        if blob.size or blob.depth:
            corrupt("a blob without chunks has a size or depth", where)
        return blob
    # Not numpy: most blobs have one chunk, and its sums of 64 bits wrap.
    sizes = struct.unpack(f"<{count}{'Q' if blob.depth else 'I'}", blob.sizes)
    most = limits.MAX_CHUNK_SIZE if blob.depth == 0 else limits.MAX_FILE_SIZE
    if min(sizes) == 0 or max(sizes) > most or sum(sizes) != blob.size:
        corrupt("a blob's sizes do not add up", where)
    if blob.size > limits.MAX_FILE_SIZE:
        corrupt("a blob is larger than allowed", where)
    return blob


def encode_list(blob: Blob) -> bytes:
    """Return the raw bytes of the list chunk that stands for `blob` one level up."""
    return encode_document(LIST, [blob.depth, blob.size, blob.ids, blob.sizes])


def decode_list(data: bytes, where: str) -> Blob:
    """Return the blob that a list chunk holds.

    Raises:
        CorruptObjectError: not a list.
        UnsupportedFormatError: a list of another format version.
    """
    fields = decode_document(LIST, data, where)
    fields.record(4)
    depth = fields.integer(0, limits.MAX_BLOB_DEPTH - 1)
    size = fields.integer(1, limits.MAX_FILE_SIZE)
    ids = fields.bounded_binary(limits.MAX_INLINE_CHUNKS * ID_SIZE)
    sizes = fields.bounded_binary(limits.MAX_INLINE_CHUNKS * 8)
    fields.end()
    return check_blob(Blob(size, depth, ids, sizes), where)


def _list_ends(ids: bytes, *, final: bool) -> list[int]:
    """Return after how many of these chunks each list ends.

    A list ends after a chunk whose id has a multiple of 1,024 in its last four bytes, read as a
    little-endian integer (one chunk in 1,024 on average), but not before 256 chunks, and after
    4,096 at the latest: cut by content like the data, so that an
    edit in a large file makes one or two new lists, not all that follow it. The least length
    keeps a file of one repeated chunk from getting a list for each of its chunks.

    Without `final` the last, perhaps unfinished list is left out.
    """
    count = len(ids) // ID_SIZE
    last_words = np.frombuffer(ids, "<u4").reshape(count, ID_SIZE // 4)[:, -1]
    marks = (np.flatnonzero((last_words & _BOUNDARY_MASK) == 0) + 1).tolist()
    ends: list[int] = []
    start = 0
    for mark in [*marks, count]:
        while mark - start > limits.MAX_INLINE_CHUNKS:
            start += limits.MAX_INLINE_CHUNKS
            ends.append(start)
        if mark - start >= _SHORTEST_LIST and mark != count:
            ends.append(mark)
            start = mark
    if final and start < count:
        ends.append(count)
    return ends


class BlobBuilder:
    """Collects the chunks of one file into its Blob, storing lists as they fill up.

    Holds at most about 8,192 ids a level, whatever the size of the file.
    """

    __slots__ = ("_depth", "_ids", "_put_list", "_sizes", "_upper")

    def __init__(self, put_list: Callable[[bytes], ChunkId], *, depth: int = 0) -> None:
        """`put_list` stores the raw bytes of a list chunk and returns its id."""
        self._put_list = put_list
        self._depth = depth
        self._ids = bytearray()
        self._sizes: list[int] = []
        self._upper: BlobBuilder | None = None

    def add(self, ids: Sequence[bytes], sizes: Sequence[int]) -> None:
        """Append chunks and the bytes of content that each stands for."""
        self._ids += b"".join(ids)
        self._sizes += sizes
        if len(self._sizes) >= 2 * limits.MAX_INLINE_CHUNKS:
            self._spill(final=False)

    def finish(self) -> Blob:
        """Return the blob of all that was added."""
        long = len(self._sizes) > limits.MAX_INLINE_CHUNKS
        if long or (self._upper is not None and self._sizes):
            self._spill(final=True)
        if self._upper is not None:
            return self._upper.finish()
        return make_blob(self._depth, bytes(self._ids), self._sizes)

    def _spill(self, *, final: bool) -> None:
        if self._upper is None:
            self._upper = BlobBuilder(self._put_list, depth=self._depth + 1)
        ids, start = bytes(self._ids), 0
        for end in _list_ends(ids, final=final):
            sizes = self._sizes[start:end]
            part = make_blob(self._depth, ids[start * ID_SIZE : end * ID_SIZE], sizes)
            self._upper.add([self._put_list(encode_list(part))], [part.size])
            start = end
        del self._ids[: start * ID_SIZE]
        del self._sizes[:start]
