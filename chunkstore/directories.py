"""Directories of packs: fetched, kept for a while, and asked where chunks lie.

Neighbours: `reader` asks with the hints of a manifest, `objects` fetches and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from chunkstore.chunk_index import ABSENT, Places
from chunkstore.errors import IntegrityError
from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import PackDirectory
from chunkstore.ids import ID_SIZE, PackId
from chunkstore.objects import Objects
from chunkstore.recent import Recent
from chunkstore.spans import Wanted

_BOUND: Final = 12 * 1024 * 1024
"""About 64 bytes a chunk. Twice as much brought a pull of a million files to 114 MB."""


class Directories:
    """The directories of packs that were used last. Thread-safe."""

    def __init__(self, objects: Objects, on_fetched: Callable[[int], None]) -> None:
        """`on_fetched` is told of stored bytes."""
        self._objects = objects
        self._on_fetched = on_fetched
        self._kept: Recent[PackId, tuple[PackDirectory, np.ndarray]] = Recent(_BOUND)
        self._useless: set[PackId] = set()  # gone or damaged: not asked for again and again

    def locate(self, wanted: Wanted, *, ahead: int = 1) -> tuple[list[PackHint], Places]:
        """Return where the chunks lie, as far as the directories of the hinted packs say.

        Places name packs by their number in the list. Directories are fetched `ahead` at a time.

        Raises:
            BackendError: the storage failed. A directory that is gone or damaged is passed over.
        """
        ids = np.frombuffer(wanted.ids, f"S{ID_SIZE}")
        columns = np.full((7, len(ids)), ABSENT, np.int64)
        packs: list[PackHint] = []
        for number, hint in enumerate(wanted.hints):
            todo = np.flatnonzero(columns[0] == ABSENT)
            if not len(todo):
                break
            opened = self._kept.get(hint.pack_id)
            if opened is None and ahead > 1:
                self._fetch(wanted.hints[number : number + ahead])
            opened = opened or self._open(hint)
            if opened is None:
                continue
            directory, order = opened
            at = np.searchsorted(directory.ids, ids[todo], sorter=order)
            inside = at < len(order)
            todo, at = todo[inside], order[at[inside]]
            same = directory.ids[at] == ids[todo]
            todo, at = todo[same], at[same]
            frames = directory.chunk_frames[at]
            columns[0][todo] = len(packs)
            columns[1][todo] = directory.frame_offsets[frames]
            columns[2][todo] = directory.frame_lengths[frames]
            columns[3][todo] = directory.frame_sizes[frames]
            columns[4][todo] = directory.frame_codecs[frames]
            columns[5][todo] = directory.chunk_offsets[at]
            columns[6][todo] = directory.sizes[at]
            packs.append(hint)
        return packs, Places(*columns)

    def _fetch(self, hints: Sequence[PackHint]) -> None:
        """Fetch those directories that are not known yet side by side."""
        new = [hint for hint in hints if self._kept.get(hint.pack_id) is None]
        new = [hint for hint in new if hint.pack_id not in self._useless]
        if len(new) > 1:
            with ThreadPoolExecutor(len(new), "chunkstore-directories") as pool:
                list(pool.map(self._open, new))

    def _open(self, hint: PackHint) -> tuple[PackDirectory, np.ndarray] | None:
        """Return a pack's directory and the order of its ids; None where it is of no use."""
        found = self._kept.get(hint.pack_id)
        if found is None:
            if hint.pack_id in self._useless:
                return None
            try:
                directory = self._objects.read_directory(hint)
            except IntegrityError:
                self._useless.add(hint.pack_id)
                return None  # a hint promises nothing; the index is asked next
            self._on_fetched(hint.length - hint.directory_offset)
            found = (directory, np.argsort(directory.ids, kind="stable"))
            self._kept.put(hint.pack_id, found, len(directory.ids) * 64 + 256)
        return found
