"""Packs and index segments that clients send: believed in nothing, checked whole.

A segment is determined by its packs, their order and its nonce, so one is right whose bytes are
those that the directories of its packs give. A pack's directory counts once every frame of the pack
was decompressed and every chunk hashed: by the PUT that brought the pack, or by whoever needs to
know. Neighbours: `guarded` asks, `chunkstore.pack_check` reads packs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from chunkstore import layout
from chunkstore.format.index import (
    NONCE_LENGTH,
    VERSION,
    IndexedPack,
    decode_segment,
    encode_segment,
)
from chunkstore.format.manifest import PackHint
from chunkstore.ids import ID_SIZE, PackId
from chunkstore.limits import MAX_LIST_LENGTH, MAX_PAGE_LENGTH
from chunkstore.opened import Opened
from chunkstore.pack_check import ReadRange, check_directory, check_pack
from chunkstore.recent import Recent
from chunkstore.sampling import indexed
from chunkstore_api.refusals import judged, refused
from chunkstore_api.sent import Sent
from chunkstore_api.views import Views

_VERIFIED: Final = 16 * 1024 * 1024
"""Bytes of directories of packs that are known to be sound, kept for the segment that names them:
65 bytes a chunk."""


class Segments:
    """What is known of the packs of one store."""

    def __init__(self, store: Opened, views: Views, sent: Sent) -> None:
        self._objects = store.objects
        self._longest = max(store.config.chunker.max_size, MAX_PAGE_LENGTH, MAX_LIST_LENGTH)
        self._views = views
        self._sent = sent
        self._verified: Recent[PackId, IndexedPack] = Recent(_VERIFIED)

    def check_pack(self, key: str, data: memoryview) -> None:
        """Check the bytes of a pack.

        Raises:
            RequestError: 422, they are no such pack.
        """
        pack = layout.pack_of(key)
        assert pack is not None
        self._check(pack, len(data), lambda start, end: bytes(data[start:end]), key)

    def check_segment(self, key: str, data: memoryview, identifier: bytes) -> list[IndexedPack]:
        """Check a segment and its packs, and return these.

        Raises:
            CorruptObjectError, UnsupportedFormatError: it is no segment, or a pack is no pack.
            RequestError: 422, it does not say what its packs do.
        """
        if layout.segment_of(key) != identifier:
            refused(key, "its bytes do not have that id")
        segment = decode_segment(data, key)
        if data[4] != VERSION:
            refused(key, f"index segments are sent in version {VERSION}")
        hints = [
            PackHint(PackId(pack.ljust(ID_SIZE, b"\0")), length, directory)
            for pack, length, directory in zip(
                segment.pack_ids.tolist(),
                segment.pack_lengths.tolist(),
                segment.pack_directories.tolist(),
                strict=True,
            )
        ]
        names = [hint.pack_id for hint in hints]
        if len(set(names)) < len(names):
            refused(key, "it lists a pack twice")
        known = self._views.lists(self._objects.read_gc_state(), names)
        listed = {name for name, here in zip(names, known.tolist(), strict=True) if here}
        packs = list(self._packs(key, hints))
        if encode_segment(packs, nonce=bytes(data[-NONCE_LENGTH:])) != data:
            refused(key, "its entries are not those of its packs")
        for pack in packs:  # whole, and last: who lies in the segment does not cost that much
            if self._verified.get(pack.pack_id) is None and pack.pack_id not in listed:
                self._verify(key, pack)
        return packs

    def note(self, dataset: str, key: str, packs: Sequence[IndexedPack]) -> None:
        """Note before a narrow caller's segment is stored that it was sent for a dataset.

        Its packs must be new ones, or have been sent for the dataset before: who knows the ids of
        another's chunks must not get at these by listing their packs.

        Raises:
            RequestError: 422, they are not.
        """
        segment = layout.segment_of(key)
        assert segment is not None
        names = [pack.pack_id for pack in packs]
        listed = self._views.lists(self._objects.read_gc_state(), names)
        old = [name for name, known in zip(names, listed.tolist(), strict=True) if known]
        if old and not self._sent.has_packs(dataset, old):
            refused(key, f"it lists packs that were not sent for {dataset!r}")
        self._sent.note(dataset, segment, packs)

    def _packs(self, key: str, hints: Sequence[PackHint]) -> Iterator[IndexedPack]:
        """Yield packs that are there, with the directories that they have."""
        for hint in hints:
            pack = self._verified.get(hint.pack_id)
            if pack is None:
                pack = indexed(self._objects, hint)
            elif self._objects.pack_length(hint.pack_id) != hint.length:
                pack = None  # a collection has removed it since
            if pack is None or (pack.length, pack.directory_offset) != hint[1:]:
                refused(key, f"pack {hint.pack_id.hex()} is not there, or not as it says")
            yield pack

    def _verify(self, key: str, pack: IndexedPack) -> None:
        """Read a pack from the storage, whole, and check it."""
        where = layout.pack_key(pack.pack_id)

        def read(start: int, end: int) -> bytes:
            return self._objects.read_pack(pack.pack_id, start, end)

        with judged(key):
            self._check(pack.pack_id, pack.length, read, where)

    def _check(self, pack: PackId, length: int, read: ReadRange, key: str) -> None:
        """Check a pack, whole, and keep its directory for the segment that will list it.

        Raises:
            RequestError: 422, something is wrong with it; the first of it is told.
        """
        found = check_directory(read, length, key)
        if found.directory is not None and (found.directory.sizes > self._longest).any():
            refused(key, f"a chunk has more than the {self._longest} bytes that this store makes")
        if not found.problems:
            found = check_pack(read, length, pack, key)
        if found.problems or found.directory is None:
            refused(key, found.problems[0].removeprefix(f"corrupt object {key}: "))
        known = IndexedPack(pack, length, found.directory_offset, found.directory)
        self._verified.put(pack, known, 65 * len(found.directory.ids) + 512)
