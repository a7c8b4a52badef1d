"""What this machine keeps of a store, and where: index segments, file states, notes of pushes.

Neighbours: `segment_cache`, `filestate` and `unlisted` keep it; `writer` and `upkeep` ask.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from blake3 import blake3

from chunkstore.filestate import FileStates
from chunkstore.segment_cache import SegmentCache

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caches:
    """Local caches of one store.

    Attributes:
        segments: of its index.
        folder: where all that is kept of it lies; None keeps nothing.
        index_budget: how many bytes of the index a push may download into them.
    """

    segments: SegmentCache
    folder: str | None
    index_budget: int

    @classmethod
    def below(cls, folder: str | None, store_id: bytes, index_budget: int) -> Caches:
        """Return the caches of a store in the folder of all stores' caches.

        `index_budget` is how many bytes of the index a push may download into them.
        """
        own = os.path.join(folder, store_id.hex()) if folder else None
        return cls(SegmentCache(os.path.join(own, "index") if own else None), own, index_budget)

    def temporary_folder(self) -> str | None:
        """Return where large temporary files may lie; None for the system's folder for them."""
        if self.folder is not None:
            try:
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
            except OSError as error:
                log.warning("cannot use %s for temporary files: %s", self.folder, error)
            else:
                return self.folder
        return None

    def states_of(self, location: str | None) -> str | None:
        """Return where the file states of a source are cached, None for one without a place."""
        if self.folder is None or location is None:
            return None
        return FileStates.path_for(self.folder, location)

    def unlisted_of(self, dataset: str) -> str | None:
        """Return where it is noted what pushes to a dataset could not list."""
        if self.folder is None:
            return None
        return os.path.join(self.folder, "unlisted", blake3(dataset.encode()).hexdigest(16))
