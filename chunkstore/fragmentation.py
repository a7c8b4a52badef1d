"""Which chunks of a stretch of a version are stored again, so that a pull reads few frames for it.

Pure. A frame is fetched whole, however few of its chunks are needed, so what a pull reads grows
with every version that replaces some of them. This is capping (Lillibridge et al., FAST 2013) by
frame: where a stretch of the version would read more than `MOST_READ` times what it needs, the
frames of which it needs least are given up for it, whole: what it needs of them is stored again.
`stretch` collects the stretches; docs/decisions/0014 has the reasons and what it costs.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from chunkstore.limits import MIB

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

STRETCH_SIZE: Final = 256 * MIB
STRETCH_CHUNKS: Final = 4096
STRETCH_FILES: Final = 2048
"""How much of a version a pull fetches at a time, in raw bytes, and a push looks at. Of that only
the ids are held. A frame is fetched once for each stretch that needs it, so the longer these are,
the less is read of a version whose chunks are scattered: of 64 MB after 50 versions 1.64 to 2.59
times its bytes instead of 2.21 to 3.79 with 32 MiB, for 4 MB of memory."""

MOST_READ: Final = 1.4
"""Stored bytes that a stretch may read for each one that it needs. What a whole version reads comes
to a little more, since no pull begins and ends its batches where stretches do."""

WELL_USED: Final = 0.8
"""A frame of which more is needed is not given up: it would cost four times what it saves."""


def to_store_again(
    frames: IntArray, lengths: IntArray, shares: FloatArray, new: float
) -> BoolArray:
    """Return which of the n different chunks that a stretch found in the store are stored again.

    Only as many are as the stretch has new ones, so that no push sends much more than twice what is
    new, and one without new chunks nothing; the frame with which that is passed is the last.

    Args:
        frames: the number of each chunk's frame, (n,); any numbers will do.
        lengths: stored bytes of that frame, (n,).
        shares: the chunk's part of them, (n,).
        new: stored bytes of the chunks that the stretch did not find in the store.

    Returns:
        True for each chunk of the frames that are given up, (n,).
    """
    _, first, frame_of = np.unique(frames, return_index=True, return_inverse=True)
    costs = lengths[first].astype(np.float64)
    needed = np.bincount(frame_of, shares, len(first))
    too_many = costs.sum() + new - MOST_READ * (needed.sum() + new)
    if too_many <= 0:
        return np.zeros(len(frames), bool)
    use = needed / costs
    order = np.argsort(use, kind="stable")
    saved = np.cumsum((costs - needed)[order])
    stored_before = np.cumsum(needed[order]) - needed[order]
    count = min(
        int(np.searchsorted(saved, too_many)) + 1,
        int(np.searchsorted(stored_before, new)),
        int(np.searchsorted(use[order], WELL_USED, "right")),
    )
    given_up = np.zeros(len(first), bool)
    given_up[order[:count]] = True
    return given_up[frame_of]
