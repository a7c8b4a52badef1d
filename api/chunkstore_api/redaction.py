"""A pack as a narrow caller sees it: only chunks that the caller may read are there. Pure.

A frame that holds a chunk which is not readable cannot be handed out, so none of its chunks stands
in the directory: in their place are ids that no chunk has, and sizes that say nothing. The
directory keeps its length and place, its checksum is made anew.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from blake3 import blake3

from chunkstore.format.index import IndexedPack
from chunkstore.format.pack import PackDirectory, encode_columns
from chunkstore.ids import ID_SIZE, ChunkKind
from chunkstore_api.prefix_file import Mask


def whole_frames(directory: PackDirectory, readable: Mask) -> Mask:
    """Return for each of F frames whether all its chunks are readable: (F,)."""
    hidden = np.bincount(directory.chunk_frames[~readable], minlength=len(directory.frame_lengths))
    whole: Mask = hidden == 0
    return whole


def redacted(pack: IndexedPack, frames: Mask) -> bytes:
    """Return directory and trailer of a pack of which only those frames are shown."""
    directory = pack.directory
    hidden = ~frames[directory.chunk_frames]
    if not hidden.any():
        return encode_columns(directory)
    ids = directory.ids.copy()
    numbers = np.flatnonzero(hidden).tolist()
    ids[hidden] = [_nobody(pack.pack_id, number) for number in numbers]
    # As even as the sizes of their frames allow: the rest goes to the first chunks of each.
    counts = directory.frame_chunks[directory.chunk_frames].astype(np.int64)
    totals = directory.frame_sizes[directory.chunk_frames].astype(np.int64)
    starts = np.cumsum(directory.frame_chunks) - directory.frame_chunks
    rank = np.arange(len(ids)) - starts[directory.chunk_frames]
    even = totals // counts + (rank < totals % counts)
    kind = ChunkKind.DATA if ChunkKind.DATA in directory.kinds else ChunkKind.LIST
    return encode_columns(
        dataclasses.replace(
            directory,
            ids=ids,
            sizes=np.where(hidden, even, directory.sizes).astype("<u4"),
            kinds=np.where(hidden, kind, directory.kinds).astype(np.uint8),
        )
    )


def _nobody(pack: bytes, number: int) -> bytes:
    """Return an id that no chunk has, always the same: a directory may be read in parts."""
    return blake3(b"redacted" + pack + number.to_bytes(4, "little")).digest(ID_SIZE)
