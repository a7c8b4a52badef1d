"""A pack as a narrow caller sees it: what may be seen stays, nothing else can be told."""

from __future__ import annotations

import numpy as np
from chunkstore_api.redaction import redacted, whole_frames
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.format.index import IndexedPack
from chunkstore.format.pack import decode_directory, encode_columns
from chunkstore.ids import ID_SIZE
from chunkstore.testing.strategies import indexed_packs


@given(packs=indexed_packs(), data=st.data())
def test_a_redacted_directory(packs: list[IndexedPack], data: st.DataObject) -> None:
    """It decodes, in its place and length; open frames are as they are, others tell no id."""
    for pack in packs:
        directory = pack.directory
        count = len(directory.ids)
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
        frames = whole_frames(directory, mask)
        tail = redacted(pack, frames)
        assert len(tail) == len(encode_columns(directory))
        seen = decode_directory(tail, pack.directory_offset, "seen")
        for name in ("frame_offsets", "frame_lengths", "frame_sizes", "frame_chunks"):
            assert np.array_equal(getattr(seen, name), getattr(directory, name))
        shown = frames[directory.chunk_frames]
        for name in ("ids", "sizes", "kinds", "chunk_offsets"):
            assert np.array_equal(getattr(seen, name)[shown], getattr(directory, name)[shown])
        true = {directory.ids.tobytes()[at : at + ID_SIZE] for at in range(0, count * ID_SIZE, 32)}
        hidden = seen.ids[~shown].tobytes()
        assert not true & {hidden[at : at + ID_SIZE] for at in range(0, len(hidden), ID_SIZE)}
        for frame in np.flatnonzero(~frames):
            sizes = seen.sizes[seen.chunk_frames == frame]
            assert int(sizes.max()) - int(sizes.min()) <= 1
