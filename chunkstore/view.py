"""The view of one push: as much of the index as its source is worth.

A push of one small file must not even list the index of a large store: what is not found is sent
again, which costs less than looking it up. Part of W0 of docs/design/consistency.md, and of W6.
`chunk_index` loads and looks up; `writer` asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from blake3 import blake3

from chunkstore.chunk_index import ABSENT, ALL, Budget, ChunkIndex
from chunkstore.compaction import is_due
from chunkstore.errors import BackendError, IntegrityError
from chunkstore.format.gc import GcState
from chunkstore.format.manifest import PackHint
from chunkstore.limits import KIB
from chunkstore.objects import Objects
from chunkstore.sampling import indexed
from chunkstore.segment_cache import SegmentCache

log = logging.getLogger(__name__)

_TINY: Final = 64 * KIB
_TINY_PACKS: Final = 2
_SMALL: Final = 4 * 1024 * KIB
_LOOKUP_WORTH: Final = 256 * KIB
_BYTES_A_BYTE: Final = 8
_DIRECTORIES: Final = 8


class View:
    """What a push knows of the index.

    Attributes:
        index: where it is looked up.
        complete: whether it has every segment of the store.
    """

    def __init__(self, objects: Objects, cache: SegmentCache, budget: int) -> None:
        """Begin with nothing; `budget` is how many bytes of segments a push may download."""
        self._objects = objects
        self._budget = budget
        self._listed = True  # whether the segments of the store were listed
        self.index = ChunkIndex(objects, cache)
        self.complete = False

    def load(
        self,
        state: GcState,
        packs: Sequence[PackHint],
        size_below: Callable[[int], int | None],
        *,
        keep: bool,
    ) -> None:
        """Load what the source is worth, after `state` was read.

        Args:
            state: what `gc/current` says.
            packs: those that the parent version names.
            size_below: gives the bytes of the source, None where they may be as many as its
                argument.
            keep: files of the parent version are kept unread. W1 holds for them too, and nobody
                could send what is not found: unless the packs are few and here, all is loaded,
                whatever that costs.

        Raises:
            CorruptObjectError: a segment is damaged.
        """
        size = size_below(_SMALL)
        few = len(packs) <= _TINY_PACKS
        tiny = size is not None and size < _TINY
        if self._objects.backend.access().narrow and (keep or few or not tiny):
            self.load_large(state, packs)
        elif keep and not (tiny and few and packs):  # hints may have been left out
            self.complete = self.index.load(state, ALL)
        elif size is None:
            self.load_large(state, packs)
        elif not tiny:
            budget = Budget(size * _BYTES_A_BYTE, max(1, size // _LOOKUP_WORTH))
            self.complete = self.index.load(state, budget)
        else:
            self._listed = False
            self.index.start(state)
            if few:
                self._add_directories(packs)
            if keep and ABSENT in self.index.find_packs([hint.pack_id for hint in packs]):
                self._listed = True
                self.complete = self.index.load(state, ALL)

    def load_large(self, state: GcState, packs: Sequence[PackHint]) -> None:
        """Load the index within the budget, else what its share has and the parent's packs.

        Who sees only some datasets gets of the index what was sent for them and not committed yet,
        and has the packs to go by.

        Raises:
            CorruptObjectError: a segment is damaged.
        """
        left = self._budget
        narrow = self._objects.backend.access().narrow
        self.complete = self.index.load(state, Budget(left, sampled=True)) and not narrow
        if self.complete or not packs:
            return
        numbers = self.index.find_packs([hint.pack_id for hint in packs]).tolist()
        wanted: list[PackHint] = []
        for hint, number in zip(packs, numbers, strict=True):
            left -= hint.length - hint.directory_offset if number == ABSENT else 0
            if number == ABSENT and left >= 0:
                wanted.append(hint)
        self._add_directories(wanted)

    def _add_directories(self, hints: Sequence[PackHint]) -> None:
        with ThreadPoolExecutor(_DIRECTORIES, "chunkstore-start") as pool:
            found = list(pool.map(lambda hint: indexed(self._objects, hint), hints))
        self.index.add_packs([pack for pack in found if pack is not None])

    def compact(self, dataset: str, version: int) -> None:
        """Merge index segments where they have become many, after that version was committed.

        A failure fails no push.
        """
        try:
            if self._listed:
                self.index.compact()
            elif is_due(blake3(dataset.encode()).digest()[0], version):
                self.index.compact(relist=True)
        except (BackendError, IntegrityError) as error:
            log.warning("the index was not compacted: %s", error)
