"""What narrow callers sent for a dataset and no version has yet: notes beside the store's objects.

`uploads/<dataset>/<segment>` says that an index segment was sent for a dataset. It holds the packs
that the segment lists, 40 bytes each: id, length and offset of the directory, so that it still says
what was sent when the segment was merged into another. Implements section 11, "Notes of uploads",
of docs/design/format.md. Neighbours: `segments` writes notes, `narrow` goes by them.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from chunkstore import layout
from chunkstore.backends.base import CreateOnly
from chunkstore.errors import ConditionFailedError, KeyAbsentError
from chunkstore.format.index import IndexedPack, decode_segment
from chunkstore.format.manifest import PackHint
from chunkstore.id_runs import contained, short_ids
from chunkstore.ids import PackId, SegmentId
from chunkstore.objects import Objects
from chunkstore.recent import Recent
from chunkstore.sampling import indexed
from chunkstore_api.prefix_file import Mask, Prefixes

_PACK: Final = struct.Struct("<32sII")
_IDS: Final = 64 * 1024 * 1024
"""Bytes of ids that were sent, kept in memory: 16 a chunk."""

_LISTINGS: Final = 1000

_OLD: Final = 30 * 86400
"""Seconds after which a note says nothing any more."""


class Sent:
    """The notes of one store. Thread-safe."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._listed: Recent[str, tuple[float, tuple[SegmentId, ...]]] = Recent(_LISTINGS)
        self._ids: Recent[SegmentId, Prefixes] = Recent(_IDS)

    def note(self, dataset: str, segment: SegmentId, packs: Sequence[IndexedPack]) -> None:
        """Note that a segment of these packs is being sent for a dataset; twice is fine."""
        body = b"".join(_PACK.pack(p.pack_id, p.length, p.directory_offset) for p in packs)
        with contextlib.suppress(ConditionFailedError):
            self._objects.backend.put(layout.note_key(dataset, segment), [body], CreateOnly())
        self._listed.put(dataset, (0.0, ()), 1)

    def segments(self, dataset: str, oldest: float) -> tuple[SegmentId, ...]:
        """Return the segments that are noted for a dataset, as they were at `oldest` or later."""
        known = self._listed.get(dataset)
        if known is None or known[0] < oldest:
            now = time.monotonic()
            prefix = layout.notes_of(dataset)
            keys = [layout.note_of(info.key) for info in self._objects.backend.list(prefix)]
            known = now, tuple(key[1] for key in keys if key is not None)
            self._listed.put(dataset, known, 1)
        return known[1]

    def contains(self, dataset: str, ids: bytes, oldest: float) -> Mask:
        """Return for each of n joined ids whether it was sent for a dataset: (n,)."""
        wanted = short_ids(ids)
        found = np.zeros(len(wanted), bool)
        for segment in self.segments(dataset, oldest):
            if found.all():
                break
            found |= contained(wanted, self._ids_of(dataset, segment))
        return found

    def has_packs(self, dataset: str, packs: Sequence[PackId]) -> bool:
        """Whether all these packs were sent for a dataset."""
        left = set(packs)
        for segment in self.segments(dataset, time.monotonic()):
            left -= {hint.pack_id for hint in self._hints(dataset, segment)}
        return not left

    def forget(self, dataset: str, covered: Callable[[bytes], Mask]) -> None:
        """Remove old notes of a dataset, and those all of whose chunks are `covered` without them.

        Packs that no version has after so long are gone, or about to go.
        """
        oldest = time.time() - _OLD
        listed = self._objects.backend.list(layout.notes_of(dataset))
        useless = [info.key for info in listed if info.modified < oldest]
        for segment in self.segments(dataset, time.monotonic()):
            data = self._objects.get_segment(segment)
            ids = self._joined_ids(dataset, segment, data)
            if ids and covered(ids).all():
                useless.append(layout.note_key(dataset, segment))
        if useless:
            self._objects.backend.delete(useless)
            self._listed.put(dataset, (0.0, ()), 1)

    def _ids_of(self, dataset: str, segment: SegmentId) -> Prefixes:
        known = self._ids.get(segment)
        if known is None:
            ids = self._joined_ids(dataset, segment, self._objects.get_segment(segment))
            known = np.unique(short_ids(ids))
            self._ids.put(segment, known, known.nbytes + 64)
        return known

    def _joined_ids(self, dataset: str, segment: SegmentId, data: bytes | None) -> bytes:
        """Return the ids of a segment's chunks, from its packs where it was merged away."""
        if data is not None:
            return decode_segment(data, layout.segment_key(segment)).ids.tobytes()
        packs = (indexed(self._objects, hint) for hint in self._hints(dataset, segment))
        return b"".join(pack.directory.ids.tobytes() for pack in packs if pack is not None)

    def _hints(self, dataset: str, segment: SegmentId) -> list[PackHint]:
        try:
            body = self._objects.backend.get(layout.note_key(dataset, segment)).data
        except KeyAbsentError:
            return []
        whole = len(body) - len(body) % _PACK.size
        return [PackHint(PackId(p), n, at) for p, n, at in _PACK.iter_unpack(body[:whole])]
