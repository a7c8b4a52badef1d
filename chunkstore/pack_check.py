"""One pack held against what it promises: its directory, every frame, every chunk, its name.

Reads the pack in order by ranges and holds little of it, so a pack may lie in a backend or in a
file. Implements the checks of section 5, "Pack", of docs/design/format.md. Neighbours: `verify` and
`repair` check packs of a store; who takes packs from strangers checks them before they are stored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chunkstore import limits
from chunkstore.compression import decompress_frame
from chunkstore.errors import CorruptObjectError, IntegrityError, UnsupportedFormatError
from chunkstore.format.document import corrupt
from chunkstore.format.pack import (
    HEADER_LENGTH,
    TRAILER_LENGTH,
    PackClass,
    PackDirectory,
    check_header,
    decode_directory,
    decode_trailer,
)
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, PackId, chunk_id

ReadRange: TypeAlias = Callable[[int, int], bytes]
"""Returns the pack's bytes from an offset to another, exactly those."""

SPAN: Final = 4 * limits.MIB
"""Bytes that are asked for at once, where frames are not longer."""

_LONGEST_FRAME: Final = limits.MAX_FRAME_SIZE + limits.MAX_FRAME_SIZE // 128
"""Stored bytes that a frame can have: more than zstd makes of what does not shrink."""


@dataclass(frozen=True, slots=True)
class PackCheck:
    """What was found of a pack of N chunks.

    Attributes:
        directory: its directory, None where that is damaged.
        directory_offset: where it begins, 0 where that is not known.
        bad: for each chunk whether it cannot be read, bool (N,).
        problems: what is wrong, in words; empty where everything is right.
    """

    directory: PackDirectory | None
    directory_offset: int
    bad: npt.NDArray[np.bool_]
    problems: tuple[str, ...]

    @property
    def good_ids(self) -> bytes:
        """The joined ids of the chunks that can be read."""
        return b"" if self.directory is None else self.directory.ids[~self.bad].tobytes()

    @property
    def bad_ids(self) -> bytes:
        """The joined ids of the chunks that cannot be read, as far as a directory names them."""
        return b"" if self.directory is None else self.directory.ids[self.bad].tobytes()


def read_directory(
    read: ReadRange, length: int, where: str, *, directory_offset: int | None = None
) -> tuple[int, PackDirectory]:
    """Return offset and content of the directory of a pack of `length` bytes.

    Where `directory_offset` is right one range is read, else two.

    Raises:
        CorruptObjectError, UnsupportedFormatError: as `decode_directory`.
    """
    if not HEADER_LENGTH + TRAILER_LENGTH <= length <= limits.MAX_PACK_LENGTH:
        corrupt(f"no pack has {length} bytes", where)
    if directory_offset is not None and HEADER_LENGTH <= directory_offset < length - TRAILER_LENGTH:
        tail = read(directory_offset, length)
        offset, _, _ = decode_trailer(tail[-TRAILER_LENGTH:], length, where)
        if offset == directory_offset:
            return offset, decode_directory(tail, offset, where)
    trailer = read(length - TRAILER_LENGTH, length)
    offset, _, _ = decode_trailer(trailer, length, where)
    return offset, decode_directory(read(offset, length), offset, where)


def check_directory(
    read: ReadRange, length: int, where: str, *, directory_offset: int | None = None
) -> PackCheck:
    """Check length, trailer and directory of a pack, and nothing of its chunks."""
    try:
        found = read_directory(read, length, where, directory_offset=directory_offset)
    except (IntegrityError, UnsupportedFormatError) as error:
        return _without_directory(error)
    offset, directory = found
    return PackCheck(directory, offset, np.zeros(len(directory.ids), bool), ())


def check_pack(
    read: ReadRange,
    length: int,
    pack: PackId,
    where: str,
    *,
    on_read: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> PackCheck:
    """Check every byte of a pack: hash it, decompress every frame, hash every chunk.

    Holds about 4 MiB of it, at most one frame more. A frame that is damaged costs its own chunks
    only. `on_read` is told bytes as they come. What `read` raises but IntegrityError passes
    through; where `stop` is set, what was found so far is returned.
    """
    try:
        offset, directory = read_directory(read, length, where)
    except (IntegrityError, UnsupportedFormatError) as error:
        return _without_directory(error)
    problems: list[str] = []
    bad = np.zeros(len(directory.ids), bool)
    hasher = blake3()
    try:
        _check_body(_Body(read, offset, directory, where, on_read, stop), bad, problems, hasher)
        hasher.update(read(offset, length))
    except IntegrityError as error:  # cut off while it was read, or gone
        return PackCheck(directory, offset, np.ones(len(bad), bool), (error.message,))
    stopped = stop is not None and stop.is_set()
    if not problems and not stopped and hasher.digest() != pack:
        problems.append("its bytes do not have that id, though every chunk in it is right")
    return PackCheck(directory, offset, bad, tuple(problems))


def chunks_of(
    read: ReadRange, directory: PackDirectory, wanted: npt.NDArray[np.bool_], where: str
) -> Iterator[tuple[ChunkKind, ChunkId, memoryview]]:
    """Yield what can still be read of the wanted chunks of a damaged pack, wanted (N,).

    Each has its id. Where the directory does not know a chunk's kind, that is found out.
    """
    for frame in np.unique(directory.chunk_frames[wanted]).tolist():
        start, length = int(directory.frame_offsets[frame]), int(directory.frame_lengths[frame])
        codec, size = int(directory.frame_codecs[frame]), int(directory.frame_sizes[frame])
        try:
            raw = memoryview(decompress_frame(codec, read(start, start + length), size, where))
        except IntegrityError:
            continue
        for row in np.flatnonzero(wanted & (directory.chunk_frames == frame)).tolist():
            at = int(directory.chunk_offsets[row])
            data = raw[at : at + int(directory.sizes[row])]
            stated = int(directory.kinds[row])
            identifier = directory.ids[row : row + 1].tobytes()
            for kind in [ChunkKind(stated)] if stated in list(ChunkKind) else list(ChunkKind):
                if chunk_id(kind, data) == identifier:
                    yield kind, ChunkId(identifier), data


@dataclass(frozen=True, slots=True)
class _Body:
    read: ReadRange
    end: int
    directory: PackDirectory
    where: str
    on_read: Callable[[int], None]
    stop: threading.Event | None


def _check_body(
    body: _Body, bad: npt.NDArray[np.bool_], problems: list[str], hasher: blake3
) -> None:
    """Hash header and frames; mark the chunks in `bad` that do not come back."""
    directory = body.directory
    header = body.read(0, HEADER_LENGTH)
    hasher.update(header)
    try:
        pack_class = check_header(header, body.where)
    except (CorruptObjectError, UnsupportedFormatError) as error:
        problems.append(error.message)
    else:
        data = directory.kinds == ChunkKind.DATA
        if not bool((data if pack_class == PackClass.DATA else ~data).all()):
            problems.append("chunks of files and of metadata lie in one pack")
    ends = np.cumsum(directory.frame_chunks, dtype=np.int64)
    for first, stored in _spans(body):
        hasher.update(stored)
        body.on_read(len(stored))
        base, frame, view = int(directory.frame_offsets[first]), first, memoryview(stored)
        while frame < len(ends) and int(directory.frame_offsets[frame]) < base + len(stored):
            at = int(directory.frame_offsets[frame]) - base
            end = at + int(directory.frame_lengths[frame])
            rows = slice(int(ends[frame] - directory.frame_chunks[frame]), int(ends[frame]))
            lost = _check_frame(directory, frame, view[at:end], rows, body.where)
            if lost is not None:
                bad[rows] = lost[0]
                problems.append(lost[1])
            frame += 1


def _spans(body: _Body) -> Iterator[tuple[int, bytes]]:
    """Yield runs of whole frames: number of the first, stored bytes."""
    lengths, first = body.directory.frame_lengths, 0
    bounds = np.append(body.directory.frame_offsets.astype(np.int64), body.end)
    while first < len(lengths) and not (body.stop is not None and body.stop.is_set()):
        if int(lengths[first]) > _LONGEST_FRAME:
            corrupt("a frame has more stored bytes than any can have", body.where)
        start = int(bounds[first])
        after = max(first + 1, int(np.searchsorted(bounds, start + SPAN, "right")) - 1)
        yield first, body.read(start, int(bounds[after]))
        first = after


def _check_frame(
    directory: PackDirectory, frame: int, stored: memoryview, rows: slice, where: str
) -> tuple[npt.NDArray[np.bool_], str] | None:
    """Return which chunks of a frame do not come back, and why; None where all do."""
    count = rows.stop - rows.start
    place = f"{where} frame at {directory.frame_offsets[frame]}"
    codec, size = int(directory.frame_codecs[frame]), int(directory.frame_sizes[frame])
    try:
        raw = memoryview(decompress_frame(codec, stored, size, place))
    except CorruptObjectError as error:
        return np.ones(count, bool), error.message
    ids = directory.ids[rows].tobytes()
    wrong = np.zeros(count, bool)
    columns = (directory.chunk_offsets[rows], directory.sizes[rows], directory.kinds[rows])
    for row, (at, length, kind) in enumerate(np.stack(columns).T.tolist()):
        found = chunk_id(ChunkKind(kind), raw[at : at + length])
        wrong[row] = found != ids[row * ID_SIZE : (row + 1) * ID_SIZE]
    if not wrong.any():
        return None
    first = int(np.flatnonzero(wrong)[0])
    lost = ids[first * ID_SIZE : (first + 1) * ID_SIZE].hex()
    return wrong, f"corrupt object {place}: chunk {lost} does not have its id"


def _without_directory(error: IntegrityError | UnsupportedFormatError) -> PackCheck:
    return PackCheck(None, 0, np.zeros(0, bool), (error.message,))
