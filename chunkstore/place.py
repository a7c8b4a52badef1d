"""A store as those see it who bring something into it from elsewhere.

Neighbours: `copy` has two of them, `repair` one or two.
"""

from __future__ import annotations

from dataclasses import dataclass

from chunkstore.chunk_index import ChunkIndex
from chunkstore.format.config import Config
from chunkstore.objects import Objects
from chunkstore.reader import Reader
from chunkstore.segment_cache import SegmentCache


@dataclass(frozen=True, slots=True)
class Place:
    """A store: its objects, its config, and where this machine keeps what it knows of it.

    Attributes:
        objects: of the store.
        config: of the store.
        cache: of its index segments.
        folder: where large temporary files may lie; None for the system's folder for them.
    """

    objects: Objects
    config: Config
    cache: SegmentCache
    folder: str | None

    def reader(self) -> Reader:
        """Return a reader of the store."""
        return Reader(self.objects, self.index)

    def index(self) -> ChunkIndex:
        """Return the whole index."""
        index = ChunkIndex(self.objects, self.cache)
        index.load_for_reading()
        return index
