"""What of a store there is for a narrow caller, by virtue of datasets: all else is not there.

Readable are the chunks of versions of the datasets, and those that were sent for them; a pack is
there that has one, a manifest that a ref names, an index segment that was sent. What was found
readable may stay so for a few seconds after it was dropped; what was not is looked for anew.
Neighbours: `readable`, `sent`, `redaction`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore import layout
from chunkstore.chunk_index import ABSENT
from chunkstore.errors import IntegrityError, UnsupportedFormatError
from chunkstore.format.index import IndexedPack
from chunkstore.format.ref import Ref
from chunkstore.ids import ID_SIZE, ManifestId, PackId, SegmentId
from chunkstore.opened import Opened
from chunkstore.pack_check import read_directory
from chunkstore.recent import Recent
from chunkstore_api.prefix_file import Mask
from chunkstore_api.readable import ReadableSets
from chunkstore_api.redaction import redacted, whole_frames
from chunkstore_api.sent import Sent

_FRESH: Final = 5.0
"""Seconds for which what is found readable is not looked up again."""

_DIRECTORIES: Final = 32 * 1024 * 1024
_REFS: Final = 10_000


@dataclass(frozen=True, slots=True)
class SeenPack:
    """A pack as a caller sees it.

    Attributes:
        pack: as it is.
        frames: which of its frames may be read: (F,).
    """

    pack: IndexedPack
    frames: Mask

    def shows(self, start: int, end: int) -> bool:
        """Whether there is anything to be seen in a range."""
        return end > self.pack.directory_offset or self.needs(start, end)

    def needs(self, start: int, end: int) -> bool:
        """Whether a frame is to be seen in a range."""
        return any(self._shown(start, end))

    def whole(self, start: int, end: int) -> bool:
        """Whether all of a range is to be seen as it is."""
        first, last = self._between(start, end)
        return end <= self.pack.directory_offset and bool(self.frames[first:last].all())

    def cover(self, start: int, data: bytes) -> bytes:
        """Return bytes of the pack from `start` on, with zeros for what is not to be seen."""
        end = start + len(data)
        shown = bytearray(len(data))
        for a, b in self._shown(start, end):
            shown[a - start : b - start] = data[a - start : b - start]
        offset = self.pack.directory_offset
        if end > offset:
            a = max(start, offset)
            shown[a - start :] = redacted(self.pack, self.frames)[a - offset : end - offset]
        return bytes(shown)

    def _between(self, start: int, end: int) -> tuple[int, int]:
        directory = self.pack.directory
        ends = directory.frame_offsets.astype(np.int64) + directory.frame_lengths
        first = int(np.searchsorted(ends, start, side="right"))
        return first, int(np.searchsorted(directory.frame_offsets, end))

    def _shown(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        first, last = self._between(start, end)
        directory = self.pack.directory
        for frame in range(first, last):
            if self.frames[frame]:
                at = int(directory.frame_offsets[frame])
                yield max(start, at), min(end, at + int(directory.frame_lengths[frame]))


class Narrow:
    """What is there by virtue of datasets. Thread-safe."""

    def __init__(self, store: Opened, sent: Sent) -> None:
        self._objects = store.objects
        self._sets = ReadableSets(store)
        self._sent = sent
        self._refs: Recent[str, tuple[float, Ref | None]] = Recent(_REFS)
        self._packs: Recent[PackId, IndexedPack] = Recent(_DIRECTORIES)

    def readable(self, datasets: Sequence[str], ids: bytes) -> Mask:
        """Return for each of n joined ids whether it is readable: (n,).

        Raises:
            IntegrityError: a version is damaged.
        """
        found = np.zeros(len(ids) // ID_SIZE, bool)
        for oldest in (time.monotonic() - _FRESH, time.monotonic()):
            for dataset in datasets:
                for look in (self._of_versions, self._sent.contains):
                    left = np.flatnonzero(~found)
                    if not len(left):
                        return found
                    wanted = np.frombuffer(ids, f"S{ID_SIZE}")[left].tobytes()
                    found[left] = look(dataset, wanted, oldest)
        return found

    def sizes(
        self, datasets: Sequence[str], ids: bytes, stored: Callable[[bytes], npt.NDArray[np.int64]]
    ) -> npt.NDArray[np.int64]:
        """Return what `stored` gives for n joined ids, ABSENT for what is not readable: (n,).

        It is asked for those that are readable only: how long that takes tells nothing of others.
        """
        readable = self.readable(datasets, ids)
        sizes = np.full(len(readable), ABSENT, np.int64)
        if readable.any():
            sizes[readable] = stored(np.frombuffer(ids, f"S{ID_SIZE}")[readable].tobytes())
        return sizes

    def _of_versions(self, dataset: str, ids: bytes, oldest: float) -> Mask:
        ref = self._ref(dataset, oldest)
        if ref is None:
            return np.zeros(len(ids) // ID_SIZE, bool)
        return self._sets.contains(ref, ids)

    def _ref(self, dataset: str, oldest: float) -> Ref | None:
        """Return the ref of a dataset as it was at `oldest` or later."""
        known = self._refs.get(dataset)
        if known is None or known[0] < oldest:
            now = time.monotonic()
            stored = self._objects.get_ref(dataset)
            known = now, stored.ref if stored else None
            self._refs.put(dataset, known, 1)
        return known[1]

    def has_manifest(self, datasets: Sequence[str], manifest: ManifestId) -> bool:
        """Whether a ref names a manifest."""
        return any(
            manifest in self._manifests(dataset, oldest)
            for oldest in (time.monotonic() - _FRESH, time.monotonic())
            for dataset in datasets
        )

    def manifests(self, datasets: Sequence[str]) -> frozenset[ManifestId]:
        """Return the manifests that refs name."""
        now = time.monotonic()
        return frozenset().union(*(self._manifests(dataset, now) for dataset in datasets))

    def _manifests(self, dataset: str, oldest: float) -> frozenset[ManifestId]:
        ref = self._ref(dataset, oldest)
        return frozenset(record.manifest_id for record in ref.versions) if ref else frozenset()

    def segments(self, datasets: Sequence[str]) -> frozenset[SegmentId]:
        """Return the index segments that were sent."""
        now = time.monotonic()
        return frozenset().union(*(self._sent.segments(dataset, now) for dataset in datasets))

    def tidy(self, ref: Ref) -> None:
        """Remove notes of what was sent that a ref's versions have by now."""
        self._refs.put(ref.dataset, (time.monotonic(), ref), 1)
        self._sent.forget(ref.dataset, lambda ids: self._sets.contains(ref, ids))

    def pack(self, datasets: Sequence[str], pack: PackId) -> SeenPack | None:
        """Return a pack as it is seen, None where nothing of it is, or it is damaged."""
        found = self._packs.get(pack) or self._open(pack)
        if found is None:
            return None
        directory = found.directory
        readable = self.readable(datasets, directory.ids.tobytes())
        if not readable.any():
            return None
        return SeenPack(found, whole_frames(directory, readable))

    def _open(self, pack: PackId) -> IndexedPack | None:
        length = self._objects.pack_length(pack)
        if length is None:
            return None
        try:
            offset, directory = read_directory(
                lambda start, end: self._objects.read_pack(pack, start, end),
                length,
                layout.pack_key(pack),
            )
        except (IntegrityError, UnsupportedFormatError):
            return None
        found = IndexedPack(pack, length, offset, directory)
        self._packs.put(pack, found, 130 * len(directory.ids) + 512)
        return found
