"""The server's own view of the index, by which it judges what clients say is stored.

A view is what `docs/design/consistency.md` calls so: loaded after `gc/current` was read. It serves
until that changes, since nothing is deleted before; and until it lacks what is asked for and the
store lists other segments than it has. Neighbours: `commits` and `segments` ask.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore.chunk_index import ABSENT, ALL, ChunkIndex
from chunkstore.format.gc import GcState
from chunkstore.format.pack import HEADER_LENGTH, PackClass, check_header
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.layout import pack_key
from chunkstore.opened import Opened
from chunkstore.reader import Reader
from chunkstore.recent import Recent

_PACKS: Final = 1 << 20
"""Of so many packs it is known whether they hold data."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    state: GcState
    segments: frozenset[SegmentId]
    index: ChunkIndex


class Views:
    """The newest view that was loaded, for all requests. Thread-safe."""

    def __init__(self, store: Opened) -> None:
        self._objects = store.objects
        self._cache = store.caches.segments
        self._lock = threading.Lock()
        self._last: _Loaded | None = None
        self._data: Recent[PackId, bool] = Recent(_PACKS)

    def index(self, state: GcState, *, other_than: ChunkIndex | None = None) -> ChunkIndex:
        """Return an index that was loaded after `state` was read and still is the state.

        Where it would be `other_than`, it is loaded anew if the store has other segments by now.

        Raises:
            CorruptObjectError: a segment is damaged.
        """
        with self._lock:
            last = self._last
            if last and last.state == state and last.index is not other_than:
                return last.index
            listed = frozenset(self._objects.list_segments())
            if last and last.state == state and last.segments == listed:
                return last.index
            index = ChunkIndex(self._objects, self._cache)
            index.load(state, ALL)
            self._last = _Loaded(state, listed, index)
            return index

    def reader(self, state: GcState) -> Reader:
        """Return a reader that goes by the view, and by a newer one where that lacks something."""
        opened: list[ChunkIndex] = []

        def index() -> ChunkIndex:
            opened.append(self.index(state, other_than=opened[-1] if opened else None))
            return opened[-1]

        return Reader(self._objects, index)

    def sizes(self, state: GcState, ids: bytes) -> npt.NDArray[np.int64]:
        """Return the raw bytes of each of n joined ids, ABSENT for what is not stored: (n,)."""
        index = self.index(state)
        found = _sizes(index, ids)
        lacking = np.flatnonzero(found == ABSENT)
        if len(lacking):
            newer = self.index(state, other_than=index)
            if newer is not index:
                left = np.frombuffer(ids, f"S{ID_SIZE}")[lacking].tobytes()
                found[lacking] = _sizes(newer, left)
        return found

    def are_of_files(self, state: GcState, ids: bytes) -> npt.NDArray[np.bool_]:
        """Return for each of n joined ids whether it lies in a pack of data: (n,).

        A pack has chunks of its class only, and an id is of one kind, so one copy says it.
        """
        index = self.index(state)
        numbers = index.find(ids)
        different, rows = np.unique(numbers, return_inverse=True)
        found = [number != ABSENT and self._holds_data(index, number) for number in different]
        here: npt.NDArray[np.bool_] = np.array(found, bool)[rows]
        return here

    def _holds_data(self, index: ChunkIndex, number: int) -> bool:
        pack = index.pack(number).pack_id
        known = self._data.get(pack)
        if known is None:
            header = self._objects.read_pack(pack, 0, HEADER_LENGTH)
            known = check_header(header, pack_key(pack)) == PackClass.DATA
            self._data.put(pack, known, 1)
        return known

    def lists(self, state: GcState, packs: list[PackId]) -> npt.NDArray[np.bool_]:
        """Return for each of n packs whether a stored segment lists it, and it is there: (n,)."""
        index = self.index(state)
        found = index.find_packs(packs)
        if (found == ABSENT).any():
            newer = self.index(state, other_than=index)
            found = found if newer is index else newer.find_packs(packs)
        here: npt.NDArray[np.bool_] = found != ABSENT
        return here


def _sizes(index: ChunkIndex, ids: bytes) -> npt.NDArray[np.int64]:
    entries, sizes, _ = index.measure(ids)
    return np.where(entries == ABSENT, ABSENT, sizes)
