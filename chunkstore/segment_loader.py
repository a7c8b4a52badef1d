"""Segments of the index from the cache or the store, in memory or where they lie in the cache.

Neighbours: `chunk_index` searches what is loaded here; `segment_cache` keeps the files.
"""

from __future__ import annotations

import threading
from typing import Final

from chunkstore import layout
from chunkstore.errors import KeyAbsentError
from chunkstore.format.index import IndexSegment, decode_segment, encode_segment, open_segment
from chunkstore.ids import SegmentId
from chunkstore.limits import MIB
from chunkstore.lookup import Searched, SegmentInMemory
from chunkstore.objects import PIECE, Objects
from chunkstore.segment_cache import SegmentCache

_HELD: Final = 16 * MIB
"""Bytes of segments that are searched in memory, the shortest: 370,000 chunks, six times as fast
as a file of the cache. All others are searched where they lie there."""


class SegmentLoader:
    """Brings segments for one index. `fetched` may be called by several threads."""

    def __init__(self, objects: Objects, cache: SegmentCache) -> None:
        self._objects = objects
        self._cache = cache
        self._held = 0
        self._lock = threading.Lock()  # not that of look-ups, under which `load` waits for this

    def forget(self) -> None:
        """Count nothing as held in memory any more."""
        self._held = 0

    def cached(self, segment: SegmentId, length: int) -> Searched | None:
        """Return a segment of the cache: in memory while there is room, else in its file."""
        if self._held + length > _HELD:
            return self._cache.open(segment, length)
        data = self._cache.read(segment, length)
        if data is None:
            return None
        self._held += length
        return SegmentInMemory(open_segment(data, layout.segment_key(segment)))

    def fetched(self, segment: SegmentId, length: int) -> Searched | None:
        """Fetch, check and cache a segment; None where it is gone.

        A long one is fetched in pieces, into the cache, and never held whole.

        Raises:
            CorruptObjectError, UnsupportedFormatError: it is damaged.
        """
        if length > PIECE:
            pieces = self._objects.segment_pieces(segment, length)
            where = layout.segment_key(segment)
            try:
                received = self._cache.receive(segment, length, pieces, where)
            except KeyAbsentError:
                return None
            if received is not None:
                return received
        data = self._objects.get_segment(segment)
        return None if data is None else self.keep(segment, data)

    def keep(self, segment: SegmentId, data: bytes) -> Searched:
        """Put a segment, whose bytes have that id, into the cache and return it."""
        where = layout.segment_key(segment)
        self._cache.keep(segment, data, where)
        with self._lock:
            held = self._held + len(data) <= _HELD
            self._held += len(data) if held else 0
        if held:
            return SegmentInMemory(decode_segment(data, where))
        cached = self._cache.open(segment, len(data))
        return cached or SegmentInMemory(decode_segment(data, where))

    def mended(self, segment: SegmentId) -> Searched:
        """Return a segment whose cached file turned out to be damaged, from the store.

        It is held in memory. One that another writer has merged meanwhile has no entries then.
        """
        self._cache.drop(segment)
        data = self._objects.get_segment(segment)
        data = encode_segment([]) if data is None else data
        return SegmentInMemory(decode_segment(data, layout.segment_key(segment)))

    def whole(self, segment: SegmentId, length: int) -> IndexSegment | None:
        """Return the columns of a segment, which need not be loaded; None where it is gone."""
        where = layout.segment_key(segment)
        data = self._cache.read(segment, length)
        if data is not None:
            return open_segment(data, where)
        fetched = self._objects.get_segment(segment)
        return None if fetched is None else decode_segment(fetched, where)
