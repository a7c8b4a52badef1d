"""The index segment: sorted, fixed-width columns that say where chunks lie.

Implements section 6, "Index segment", of docs/design/format.md. Pure; decoding raises only
CorruptObjectError and UnsupportedFormatError, whatever the bytes.

The bytes of a segment are searched as they lie, in memory or mapped from a cache file: the
columns below are views of them. The fan-out table lets one id be found with one small ranged
read of the stored object.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from chunkstore import limits
from chunkstore.format.document import check_version, corrupt
from chunkstore.format.pack import HEADER_LENGTH as PACK_HEADER_LENGTH
from chunkstore.format.pack import TRAILER_LENGTH as PACK_TRAILER_LENGTH
from chunkstore.format.pack import Codec, IdArray, PackDirectory, U32Array
from chunkstore.ids import ID_SIZE, PackId

MAGIC: Final = b"CSIX"
VERSION: Final = 2
NONCE_LENGTH: Final = 16
"""Version 1 has no nonce and is read still; all else is the same."""

HEADER_LENGTH: Final = 32
ENTRIES_A_SLOT: Final = 256

ROWS_AT_ONCE: Final = 1 << 16
"""Entries that are checked at once, so that a check takes little memory."""

_TABLES: Final = (
    *("pack_ids", "pack_lengths", "pack_directories", "pack_frames"),
    *("frame_offsets", "frame_lengths", "frame_sizes", "frame_codecs"),
)

_HEADER: Final = struct.Struct("<4sBB2xIIQQ")
_PACK_WIDTH: Final = 44
_FRAME_WIDTH: Final = 16
_ROW_WIDTH: Final = 12


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Counts of a segment; from them, where its parts begin and how many bytes it has."""

    fanout_bits: int
    packs: int
    frames: int
    entries: int
    version: int = VERSION

    @property
    def packs_at(self) -> int:
        """Offset of the table of packs, which follows the fan-out."""
        return HEADER_LENGTH + 4 * ((1 << self.fanout_bits) + 1)

    @property
    def frames_at(self) -> int:
        """Offset of the table of frames."""
        return self.packs_at + _PACK_WIDTH * self.packs

    @property
    def ids_at(self) -> int:
        """Offset of the ids of the entries."""
        return self.frames_at + _FRAME_WIDTH * self.frames

    @property
    def rows_at(self) -> int:
        """Offset of the entries' frames, which their offsets and sizes follow."""
        return self.ids_at + ID_SIZE * self.entries

    @property
    def length(self) -> int:
        """Bytes of the whole segment; the last are its nonce."""
        return self.rows_at + _ROW_WIDTH * self.entries + (NONCE_LENGTH if self.version > 1 else 0)


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """What stands before the frames of a segment of P packs, as columns over its bytes.

    Attributes: as those of an `IndexSegment`.
    """

    fanout: U32Array
    pack_ids: IdArray
    pack_lengths: U32Array
    pack_directories: U32Array
    pack_frames: U32Array


@dataclass(frozen=True, slots=True)
class IndexSegment:
    """A segment of P packs, F frames and N entries, as columns over its bytes.

    Attributes:
        fanout: entries before each slot of id prefixes, and N: uint32 (2**bits + 1,).
        pack_ids: `S32` (P,).
        pack_lengths: stored bytes of each pack, uint32 (P,).
        pack_directories: offset of each pack's directory, uint32 (P,).
        pack_frames: how many frames each pack has, in order, uint32 (P,).
        frame_packs: number of each frame's pack, uint32 (F,); derived, not stored.
        frame_offsets: offset of each frame in its pack, uint32 (F,).
        frame_lengths: stored bytes of each frame, uint32 (F,).
        frame_sizes: raw bytes of each frame, uint32 (F,).
        frame_codecs: a Codec for each frame, uint32 (F,).
        ids: chunk ids, ascending; an id stands twice where two packs hold it: `S32` (N,).
        frames: number of each entry's frame, uint32 (N,).
        offsets: where the chunk begins in the raw frame, uint32 (N,).
        sizes: raw bytes of the chunk, uint32 (N,).
    """

    fanout: U32Array
    pack_ids: IdArray
    pack_lengths: U32Array
    pack_directories: U32Array
    pack_frames: U32Array
    frame_packs: U32Array
    frame_offsets: U32Array
    frame_lengths: U32Array
    frame_sizes: U32Array
    frame_codecs: U32Array
    ids: IdArray
    frames: U32Array
    offsets: U32Array
    sizes: U32Array


@dataclass(frozen=True, slots=True)
class IndexedPack:
    """A pack as the index knows it: id, stored bytes, offset of its directory, the directory."""

    pack_id: PackId
    length: int
    directory_offset: int
    directory: PackDirectory


def encode_segment(packs: Sequence[IndexedPack], *, nonce: bytes | None = None) -> bytes:
    """Return the segment that lists every chunk of these packs.

    A pack is listed whole or not at all: half a pack's index is how chunks get lost. The nonce is
    drawn where none is given: no two segments have the same name, whatever they list.
    """
    frames_before = np.cumsum([0] + [len(p.directory.frame_lengths) for p in packs])
    directories = [pack.directory for pack in packs]
    frames = [
        d.chunk_frames + np.uint32(b) for d, b in zip(directories, frames_before, strict=False)
    ]
    return _encode(
        nonce,
        pack_ids=np.array([pack.pack_id for pack in packs], dtype=f"S{ID_SIZE}"),
        pack_lengths=np.array([pack.length for pack in packs], dtype="<u4"),
        pack_directories=np.array([pack.directory_offset for pack in packs], dtype="<u4"),
        pack_frames=np.array([len(d.frame_lengths) for d in directories], dtype="<u4"),
        frame_offsets=_join([d.frame_offsets for d in directories]),
        frame_lengths=_join([d.frame_lengths for d in directories]),
        frame_sizes=_join([d.frame_sizes for d in directories]),
        frame_codecs=_join([d.frame_codecs for d in directories]),
        ids=np.concatenate([d.ids for d in directories])
        if directories
        else np.zeros(0, f"S{ID_SIZE}"),
        frames=_join(frames),
        offsets=_join([d.chunk_offsets for d in directories]),
        sizes=_join([d.sizes for d in directories]),
    )


def merge_segments(segments: Sequence[IndexSegment], *, without: frozenset[PackId]) -> bytes:
    """Return one segment with every entry of `segments`, but for the packs in `without`.

    A pack that several segments list is taken from the first, and of two copies of a chunk that
    of the first segment stands first.
    """
    if not segments:
        return encode_segment([])
    taken: set[bytes] = set(without)
    parts: list[dict[str, np.ndarray]] = []
    frames_before = 0
    for segment in segments:
        ids = [pack.ljust(ID_SIZE, b"\0") for pack in segment.pack_ids.tolist()]
        keep_pack = np.array([pack not in taken for pack in ids], dtype=bool)
        taken.update(ids)
        keep_frame = keep_pack[segment.frame_packs]
        keep_entry = keep_frame[segment.frames]
        frame_numbers = (np.cumsum(keep_frame) - 1 + frames_before).astype("<u4")
        frames_before += int(keep_frame.sum())
        part = {
            name: getattr(segment, name)[keep]
            for names, keep in (
                (("pack_ids", "pack_lengths", "pack_directories", "pack_frames"), keep_pack),
                (("frame_offsets", "frame_lengths", "frame_sizes", "frame_codecs"), keep_frame),
                (("ids", "offsets", "sizes"), keep_entry),
            )
            for name in names
        }
        part["frames"] = frame_numbers[segment.frames[keep_entry]]
        parts.append(part)
    return _encode(
        None, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


def _join(columns: Sequence[np.ndarray]) -> U32Array:
    return np.concatenate(columns).astype("<u4") if columns else np.zeros(0, "<u4")


def _encode(
    nonce: bytes | None,
    *,
    ids: IdArray,
    frames: U32Array,
    offsets: U32Array,
    sizes: U32Array,
    **tables: np.ndarray,
) -> bytes:
    order = np.argsort(ids, kind="stable")
    bits = fanout_bits(len(ids))
    columns = [_fanout(ids, bits), *(tables[name] for name in _TABLES)]
    entries = (ids, frames, offsets, sizes)
    length = HEADER_LENGTH + sum(column.nbytes for column in (*columns, *entries)) + NONCE_LENGTH
    packs, frame_count = len(tables["pack_ids"]), len(tables["frame_offsets"])
    data = bytearray(length)
    _HEADER.pack_into(data, 0, MAGIC, VERSION, bits, packs, frame_count, len(ids), length)
    at = HEADER_LENGTH
    for column in columns:
        np.frombuffer(data, column.dtype, len(column), at)[:] = column
        at += column.nbytes
    for column in entries:  # sorted into their place, without a copy between
        np.take(column, order, out=np.frombuffer(data, column.dtype, len(column), at), mode="clip")
        at += column.nbytes
    data[at:] = secrets.token_bytes(NONCE_LENGTH) if nonce is None else nonce
    return bytes(data)


def fanout_bits(entries: int) -> int:
    """Return how many leading bits of an id the fan-out resolves: about 256 entries a slot."""
    return min(max(0, (entries // ENTRIES_A_SLOT).bit_length()), limits.MAX_FANOUT_BITS)


def slot_of(chunk: bytes, bits: int) -> int:
    """Return the fan-out slot of an id: its first `bits` bits."""
    return int.from_bytes(chunk[:4], "big") >> (32 - bits)


def _slots(ids: IdArray, bits: int) -> np.ndarray:
    return ids.view(">u4")[:: ID_SIZE // 4].astype(np.int64) >> (32 - bits)


def _fanout(ids: IdArray, bits: int) -> U32Array:
    counts = np.bincount(_slots(ids, bits), minlength=1 << bits)
    return np.concatenate((np.zeros(1, "<u4"), np.cumsum(counts).astype("<u4")))


def decode_header(data: bytes, length: int, where: str) -> SegmentHeader:
    """Return the header in the first 32 bytes of a segment of `length` stored bytes.

    Raises:
        CorruptObjectError: no segment, or one of another length than it says.
        UnsupportedFormatError: a segment of another format version.
    """
    if len(data) < HEADER_LENGTH or data[:4] != MAGIC:
        corrupt("this is no index segment", where)
    _, version, bits, packs, frames, entries, stated = _HEADER.unpack(data[:HEADER_LENGTH])
    check_version("index segment", version, (1, VERSION), where)
    if entries > limits.MAX_SEGMENT_ENTRIES or bits != fanout_bits(entries) or data[6:8] != b"\0\0":
        corrupt("counts, fan-out or reserved bytes are not those of an index segment", where)
    header = SegmentHeader(bits, packs, frames, entries, version)
    if not header.length == stated == length:
        corrupt(
            f"{length} bytes, but the header says {stated} and its counts {header.length}", where
        )
    return header


def decode_head(data: bytes | memoryview, header: SegmentHeader, where: str) -> SegmentHead:
    """Return the columns over the bytes of a segment before `frames_at`.

    Raises:
        CorruptObjectError: the packs have another number of frames than the header says.
    """
    fanout = np.frombuffer(data, "<u4", (1 << header.fanout_bits) + 1, HEADER_LENGTH)
    at, packs = header.packs_at, header.packs
    ids = np.frombuffer(data, f"S{ID_SIZE}", packs, at)
    numbers = np.frombuffer(data, "<u4", 3 * packs, at + ids.nbytes).reshape(3, packs)
    if int(numbers[2].sum(dtype=np.uint64)) != header.frames:
        corrupt("the packs' frame counts do not add up", where)
    return SegmentHead(fanout, ids, *numbers)


def open_segment(data: bytes | memoryview, where: str) -> IndexSegment:
    """Return the columns over `data`, which must be a whole segment; checks the header only.

    For bytes that `decode_segment` has passed before, such as a local cache.

    Raises:
        CorruptObjectError: the header does not fit the bytes.
        UnsupportedFormatError: a segment of another format version.
    """
    header = decode_header(bytes(data[:HEADER_LENGTH]), len(data), where)
    head = decode_head(data, header, where)
    at, frames, entries = header.frames_at, header.frames, header.entries

    def column(count: int, dtype: str = "<u4") -> np.ndarray:
        nonlocal at
        view = np.frombuffer(data, dtype, count, at)
        at += view.nbytes
        return view

    return IndexSegment(
        fanout=head.fanout,
        pack_ids=head.pack_ids,
        pack_lengths=head.pack_lengths,
        pack_directories=head.pack_directories,
        pack_frames=head.pack_frames,
        frame_packs=np.repeat(np.arange(header.packs, dtype=np.uint32), head.pack_frames),
        frame_offsets=column(frames),
        frame_lengths=column(frames),
        frame_sizes=column(frames),
        frame_codecs=column(frames),
        ids=column(entries, f"S{ID_SIZE}"),
        frames=column(entries),
        offsets=column(entries),
        sizes=column(entries),
    )


def decode_segment(data: bytes | memoryview, where: str) -> IndexSegment:
    """Return the segment in `data`, every number of it checked against the others.

    Raises:
        CorruptObjectError: not a segment, or one that contradicts itself.
        UnsupportedFormatError: a segment of another format version.
    """
    segment = open_segment(data, where)
    check_tables(segment, where)
    for start in range(0, len(segment.ids), ROWS_AT_ONCE):
        check_rows(segment, start, start + ROWS_AT_ONCE, where)
    return segment


def check_tables(segment: IndexSegment, where: str) -> None:
    """Check everything of a segment but its entries.

    Raises:
        CorruptObjectError: the fan-out, a pack or a frame contradicts the rest.
    """
    check_head(segment, len(segment.ids), where)
    _check_frames(segment, where)


def check_head(head: SegmentHead | IndexSegment, entries: int, where: str) -> None:
    """Check the fan-out and the packs of a segment of so many entries.

    Raises:
        CorruptObjectError: the fan-out does not fit, or a pack contradicts itself.
    """
    fanout = head.fanout
    ends = int(fanout[0]) == 0 and int(fanout[-1]) == entries
    if not ends or bool((fanout[1:] < fanout[:-1]).any()):
        corrupt("the fan-out does not fit the entries", where)
    if len(head.pack_ids):
        tails = head.pack_lengths.astype(np.int64) - head.pack_directories
        if (
            int(head.pack_lengths.max()) > limits.MAX_PACK_LENGTH
            or int(head.pack_directories.min()) < PACK_HEADER_LENGTH
            or int(tails.min()) <= PACK_TRAILER_LENGTH
            or int(tails.max()) > limits.MAX_DIRECTORY_LENGTH + PACK_TRAILER_LENGTH
        ):
            corrupt("a pack's length and directory do not fit", where)


def check_rows(segment: IndexSegment, start: int, end: int, where: str) -> None:
    """Check the entries from `start` to `end`, and that the one before does not come after them.

    Every entry of a segment was checked where all its rows were, in any steps.

    Raises:
        CorruptObjectError: an entry contradicts the rest.
    """
    end = min(end, len(segment.ids))
    if start >= end:
        return
    ids = segment.ids[max(0, start - 1) : end]
    if not bool((ids[:-1] <= ids[1:]).all()):
        corrupt("the entries are not sorted", where)
    slots = _slots(segment.ids[start:end], (len(segment.fanout) - 1).bit_length() - 1)
    rows = np.arange(start, end)
    if bool((segment.fanout[slots] > rows).any()) or bool(
        (segment.fanout[slots + 1] <= rows).any()
    ):
        corrupt("the fan-out does not fit the entries", where)
    frames, sizes = segment.frames[start:end], segment.sizes[start:end]
    if int(frames.max()) >= len(segment.frame_packs):
        corrupt("an entry names a frame that is not there", where)
    if int(sizes.min()) == 0 or int(sizes.max()) > limits.MAX_CHUNK_SIZE:
        corrupt("an entry's chunk is empty or larger than allowed", where)
    ends = segment.offsets[start:end].astype(np.uint64) + sizes
    if bool((ends > segment.frame_sizes[frames]).any()):
        corrupt("an entry leaves its frame", where)


def _check_frames(segment: IndexSegment, where: str) -> None:
    if not len(segment.frame_packs):
        return
    ends = segment.frame_offsets.astype(np.uint64) + segment.frame_lengths
    if (
        int(segment.frame_offsets.min()) < PACK_HEADER_LENGTH
        or bool((ends > segment.pack_directories[segment.frame_packs]).any())
        or int(segment.frame_sizes.max()) > limits.MAX_FRAME_SIZE
        or int(segment.frame_codecs.max()) > Codec.ZSTD
    ):
        corrupt("a frame leaves its pack or is larger than allowed", where)
