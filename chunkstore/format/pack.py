"""The pack: header, frames, a directory of their chunks, trailer.

Implements section 5, "Pack", of docs/design/format.md. Pure; decoding raises only
CorruptObjectError and UnsupportedFormatError, whatever the bytes.

Frames follow one another without gaps, so the directory need not say where each begins, and
frames that overlap or leave the body cannot even be expressed.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chunkstore import limits
from chunkstore.format.document import check_version, corrupt
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind

U8Array: TypeAlias = npt.NDArray[np.uint8]
U32Array: TypeAlias = npt.NDArray[np.uint32]
IdArray: TypeAlias = npt.NDArray[np.bytes_]

MAGIC: Final = b"CSPK"
VERSION: Final = 1
NONCE_LENGTH: Final = 16
HEADER_LENGTH: Final = 24
TRAILER_MAGIC: Final = b"CSPT"
TRAILER_LENGTH: Final = 44

_HEADER: Final = struct.Struct("<4sBB2x16s")
_TRAILER: Final = struct.Struct("<II32s4s")
_COUNTS: Final = struct.Struct("<II")
_FRAME_WIDTH: Final = 13
_CHUNK_WIDTH: Final = 37


class Codec(IntEnum):
    """How the bytes of a frame are stored."""

    RAW = 0
    ZSTD = 1


class PackClass(IntEnum):
    """Chunks of files and chunks of metadata never share a pack."""

    DATA = 0
    METADATA = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One stored frame as a directory lists it.

    Attributes:
        length: stored bytes.
        codec: how they are stored.
        raw_size: bytes of the frame's chunks.
        ids: the chunks' ids, in order.
        sizes: the chunks' raw bytes, in the same order; their sum is `raw_size`.
        kinds: the chunks' kinds, in the same order.
    """

    length: int
    codec: Codec
    raw_size: int
    ids: Sequence[ChunkId]
    sizes: Sequence[int]
    kinds: Sequence[ChunkKind]


@dataclass(frozen=True, slots=True)
class PackDirectory:
    """The decoded directory of a pack of F frames and N chunks, as columns.

    Attributes:
        frame_offsets: offset of each frame in the pack, uint32 (F,).
        frame_lengths: stored bytes of each frame, uint32 (F,).
        frame_sizes: raw bytes of each frame, uint32 (F,).
        frame_chunks: how many chunks each frame has, uint32 (F,).
        frame_codecs: a Codec for each frame, uint8 (F,).
        ids: chunk ids in order, `S32` (N,).
        sizes: raw bytes of each chunk, uint32 (N,).
        kinds: a ChunkKind for each chunk, uint8 (N,).
        chunk_frames: number of the frame of each chunk, uint32 (N,).
        chunk_offsets: where each chunk begins in its raw frame, uint32 (N,).
    """

    frame_offsets: U32Array
    frame_lengths: U32Array
    frame_sizes: U32Array
    frame_chunks: U32Array
    frame_codecs: U8Array
    ids: IdArray
    sizes: U32Array
    kinds: U8Array
    chunk_frames: U32Array
    chunk_offsets: U32Array


def new_header(pack_class: PackClass) -> bytes:
    """Return the header of a new pack. Its random nonce makes the pack's id unique for ever."""
    return _HEADER.pack(MAGIC, VERSION, pack_class, secrets.token_bytes(NONCE_LENGTH))


def encode_directory(frames: Sequence[Frame]) -> bytes:
    """Return directory and trailer of a pack that has these frames after its header."""
    return _encode(
        HEADER_LENGTH + sum(frame.length for frame in frames),
        lengths=np.array([frame.length for frame in frames], "<u4"),
        frame_sizes=np.array([frame.raw_size for frame in frames], "<u4"),
        counts=np.array([len(frame.sizes) for frame in frames], "<u4"),
        codecs=bytes(frame.codec for frame in frames),
        ids=b"".join(b"".join(frame.ids) for frame in frames),
        sizes=np.array([size for frame in frames for size in frame.sizes], "<u4"),
        kinds=bytes(kind for frame in frames for kind in frame.kinds),
    )


def encode_columns(directory: PackDirectory) -> bytes:
    """Return directory and trailer of a pack with this directory: what was decoded, again."""
    return _encode(
        HEADER_LENGTH + int(directory.frame_lengths.sum(dtype=np.uint64)),
        lengths=directory.frame_lengths,
        frame_sizes=directory.frame_sizes,
        counts=directory.frame_chunks,
        codecs=directory.frame_codecs.tobytes(),
        ids=directory.ids.tobytes(),
        sizes=directory.sizes,
        kinds=directory.kinds.tobytes(),
    )


def _encode(
    offset: int,
    *,
    lengths: U32Array,
    frame_sizes: U32Array,
    counts: U32Array,
    codecs: bytes,
    ids: bytes,
    sizes: U32Array,
    kinds: bytes,
) -> bytes:
    numbers = _COUNTS.pack(len(codecs), len(kinds))
    frames = b"".join(column.tobytes() for column in (lengths, frame_sizes, counts))
    directory = b"".join((numbers, frames, codecs, ids, sizes.tobytes(), kinds))
    checksum = blake3(directory).digest()
    return directory + _TRAILER.pack(offset, len(directory), checksum, TRAILER_MAGIC)


def check_header(data: bytes, where: str) -> PackClass:
    """Return the class of the pack that begins with `data`.

    Raises:
        CorruptObjectError: no pack begins so.
        UnsupportedFormatError: a pack of another format version.
    """
    if len(data) < HEADER_LENGTH or data[:4] != MAGIC:
        corrupt("this is no pack", where)
    _, version, pack_class, _ = _HEADER.unpack(data[:HEADER_LENGTH])
    check_version("pack", version, (VERSION,), where)
    if data[6:8] != b"\0\0" or pack_class not in (PackClass.DATA, PackClass.METADATA):
        corrupt("the header has a class or reserved bytes unknown to version 1", where)
    return PackClass(pack_class)


def decode_trailer(data: bytes, pack_length: int, where: str) -> tuple[int, int, bytes]:
    """Return (directory offset, directory length, checksum) from the last 44 bytes of a pack.

    Raises:
        CorruptObjectError: no trailer, or one that does not fit a pack of `pack_length` bytes.
    """
    if len(data) != TRAILER_LENGTH or data[-4:] != TRAILER_MAGIC:
        corrupt("no trailer at the end of the pack", where)
    offset, length, checksum, _ = _TRAILER.unpack(data)
    if pack_length > limits.MAX_PACK_LENGTH or length > limits.MAX_DIRECTORY_LENGTH:
        corrupt("the pack or its directory is longer than allowed", where)
    if offset < HEADER_LENGTH or offset + length + TRAILER_LENGTH != pack_length:
        corrupt("the trailer does not fit the pack's length", where)
    return offset, length, checksum


def decode_directory(tail: bytes, directory_offset: int, where: str) -> PackDirectory:
    """Return the directory in `tail`: the pack's bytes from `directory_offset` to its end.

    Raises:
        CorruptObjectError: not a directory with its trailer, or one that contradicts itself.
    """
    pack_length = directory_offset + len(tail)
    offset, length, checksum = decode_trailer(tail[-TRAILER_LENGTH:], pack_length, where)
    if offset != directory_offset:
        corrupt(f"the directory begins at {offset}, not at {directory_offset}", where)
    directory = tail[:length]
    if blake3(directory).digest() != checksum:
        corrupt("the directory's checksum does not match", where)
    return _columns(directory, directory_offset, where)


def _columns(directory: bytes, directory_offset: int, where: str) -> PackDirectory:
    if len(directory) < _COUNTS.size:
        corrupt("the directory is cut off", where)
    frames, chunks = _COUNTS.unpack_from(directory)
    if chunks > limits.MAX_PACK_CHUNKS or frames > chunks:
        corrupt(f"{frames} frames and {chunks} chunks are more than allowed", where)
    if len(directory) != _COUNTS.size + frames * _FRAME_WIDTH + chunks * _CHUNK_WIDTH:
        corrupt("the directory's length does not fit its counts", where)
    at = _COUNTS.size
    lengths, at = _u32(directory, at, frames)
    frame_sizes, at = _u32(directory, at, frames)
    counts, at = _u32(directory, at, frames)
    codecs = np.frombuffer(directory, np.uint8, frames, at)
    at += frames
    ids = np.frombuffer(directory, f"S{ID_SIZE}", chunks, at)
    sizes, at = _u32(directory, at + chunks * ID_SIZE, chunks)
    kinds = np.frombuffer(directory, np.uint8, chunks, at)
    offsets = _frame_offsets(lengths, directory_offset, where)
    chunk_frames, chunk_offsets = _chunk_places(frame_sizes, counts, sizes, where)
    if frames and (int(codecs.max()) > Codec.ZSTD or int(kinds.max()) > ChunkKind.PAGE):
        corrupt("a codec or chunk kind unknown to version 1", where)
    return PackDirectory(
        frame_offsets=offsets,
        frame_lengths=lengths,
        frame_sizes=frame_sizes,
        frame_chunks=counts,
        frame_codecs=codecs,
        ids=ids,
        sizes=sizes,
        kinds=kinds,
        chunk_frames=chunk_frames,
        chunk_offsets=chunk_offsets,
    )


def _u32(data: bytes, at: int, count: int) -> tuple[U32Array, int]:
    return np.frombuffer(data, "<u4", count, at), at + 4 * count


def _frame_offsets(lengths: U32Array, directory_offset: int, where: str) -> U32Array:
    ends = np.cumsum(lengths, dtype=np.uint64) + HEADER_LENGTH
    body_end = int(ends[-1]) if len(ends) else HEADER_LENGTH
    if body_end != directory_offset or (len(lengths) and int(lengths.min()) == 0):
        corrupt("the frames do not fill the pack's body", where)
    return (ends - lengths).astype(np.uint32)


def _chunk_places(
    frame_sizes: U32Array, counts: U32Array, sizes: U32Array, where: str
) -> tuple[U32Array, U32Array]:
    """Return the frame number of each chunk and its offset in the raw frame."""
    if int(counts.sum(dtype=np.uint64)) != len(sizes) or (len(counts) and int(counts.min()) == 0):
        corrupt("the frames' chunk counts do not add up", where)
    if len(sizes) == 0:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint32)
    if int(sizes.min()) == 0:
        corrupt("a chunk is empty", where)
    if int(sizes.max()) > limits.MAX_CHUNK_SIZE or int(frame_sizes.max()) > limits.MAX_FRAME_SIZE:
        corrupt("a chunk or frame is larger than allowed", where)
    ends = np.cumsum(sizes, dtype=np.uint64)
    last = np.cumsum(counts, dtype=np.int64) - 1
    frame_ends = ends[last]
    frame_starts = np.concatenate((np.zeros(1, np.uint64), frame_ends[:-1]))
    if not np.array_equal(frame_ends - frame_starts, frame_sizes):
        corrupt("the chunks do not fill their frames", where)
    frames = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
    return frames, (ends - sizes - frame_starts[frames]).astype(np.uint32)
