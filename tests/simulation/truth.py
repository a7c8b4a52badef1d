"""What is true of a simulated store, known without reading it: kept with every write.

The promises I1, I3 and I4 of docs/design/consistency.md are held against each write of a ref and
each deletion, at the cost of that write; `read_all` holds every byte against what was pushed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from chunkstore import layout
from chunkstore.backends.base import Buffer, PutMode
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ChunkIndex
from chunkstore.entries import entries_below
from chunkstore.errors import IntegrityError
from chunkstore.format.index import decode_segment
from chunkstore.format.manifest import EntryKind
from chunkstore.format.pack import TRAILER_LENGTH, decode_directory, decode_trailer
from chunkstore.format.ref import Ref, decode_ref
from chunkstore.ids import ID_SIZE, ManifestId, PackId
from chunkstore.objects import Objects
from chunkstore.reader import Reader
from chunkstore.segment_cache import SegmentCache
from chunkstore.stream import FileContent
from tests.simulation.determinism import Time

Files = Mapping[str, bytes]

COPIED: Final = "from elsewhere"
"""How the messages of versions begin that are copied into the store: of each there may be two, if
one was dropped, copied again, and brought back."""


class LossError(AssertionError):
    """A promise was broken."""


class Truth(MemoryBackend):
    """A storage that holds every write against the promises.

    Attributes:
        pushed: what the push with each message pushes; messages are unique.
        dropped: versions (dataset, number) that somebody began to remove.
        removals: how often somebody began to remove each.
        open_removals: how many of these were not heard to be done.
        acknowledged: versions (dataset, number) whose push returned, with their messages.
        deleted: how many packs were deleted.
    """

    def __init__(self, clock: Time) -> None:
        super().__init__(clock=clock.time)
        self.pushed: dict[str, Files] = {}
        self.dropped: set[tuple[str, int]] = set()
        self.removals: Counter[tuple[str, int]] = Counter()
        self.open_removals: Counter[tuple[str, int]] = Counter()
        self.acknowledged: dict[tuple[str, int], str] = {}
        self.deleted = 0
        self.refs: dict[str, Ref] = {}
        self._packs: dict[str, frozenset[bytes]] = {}  # of every pack that ever was
        self._segments: dict[str, list[str]] = {}  # keys of the packs of every segment that was
        self._listings: Counter[str] = Counter()  # segments that list each pack
        self._copies: Counter[bytes] = Counter()  # packs that are there and listed, by chunk
        self._needs: dict[ManifestId, frozenset[bytes]] = {}  # by manifest
        self._needed: Counter[bytes] = Counter()  # versions that need each chunk

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        there = key in self._objects
        version = super().put(key, data, mode)
        joined = self._objects[key][0]
        if key.startswith(layout.PACKS) and not there:
            self._add_pack(key, joined)
        elif key.startswith(layout.INDEX) and not there:
            self._add_segment(key, joined)
        elif key.startswith(layout.REFS):
            self._set_ref(key, joined)
        return version

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            there = key in self._objects
            super().delete([key])
            if not there:
                continue
            if key.startswith(layout.PACKS):
                self.deleted += 1
                if self._listings[key]:
                    self._count(key, -1)
            elif key.startswith(layout.INDEX):
                for pack in self._segments[key]:
                    self._list(pack, -1)
            elif key.startswith(layout.MANIFESTS):
                self._require_unused(key)
            elif key.startswith(layout.REFS):
                raise LossError(f"{key} was deleted")

    def _add_pack(self, key: str, data: bytes) -> None:
        if key not in self._packs:
            offset, _, _ = decode_trailer(data[-TRAILER_LENGTH:], len(data), key)
            directory = decode_directory(data[offset:], offset, key)
            self._packs[key] = frozenset(_ids(directory.ids.tobytes()))
        if self._listings[key]:
            self._count(key, 1)

    def _add_segment(self, key: str, data: bytes) -> None:
        if key not in self._segments:
            packs = _ids(decode_segment(data, key).pack_ids.tobytes())
            self._segments[key] = [layout.pack_key(PackId(pack)) for pack in packs]
        for pack in self._segments[key]:
            self._list(pack, 1)

    def _list(self, pack: str, change: int) -> None:
        before = self._listings[pack]
        self._listings[pack] += change
        if pack in self._objects and (before == 0 or self._listings[pack] == 0):
            self._count(pack, change)

    def _count(self, pack: str, change: int) -> None:
        chunks = self._packs[pack]
        self._copies.update(dict.fromkeys(chunks, change))
        if change < 0:
            lost = [c.hex() for c in chunks if self._needed[c] > 0 and not self._copies[c] > 0]
            if lost:
                users = [
                    f"{name}@{record.number}"
                    for name, ref in self.refs.items()
                    for record in ref.promised
                    if bytes.fromhex(lost[0]) in self._needs[record.manifest_id]
                ]
                raise LossError(f"I1: {', '.join(users)} lost {len(lost)} chunks of {pack}")

    def _set_ref(self, key: str, data: bytes) -> None:
        ref = decode_ref(data, key)
        before = self.refs.get(ref.dataset)
        old = {r.number: r.manifest_id for r in before.promised} if before else {}
        new = {r.number: r.manifest_id for r in ref.promised}
        listed = {r.number for r in ref.versions}
        if any(old.get(number, manifest) != manifest for number, manifest in new.items()):
            raise LossError(f"I3: a version of {ref.dataset} became another one")
        for number in old.keys() - listed:
            if (ref.dataset, number) not in self.dropped:
                raise LossError(f"I3: {ref.dataset}@{number} vanished, and nobody removed it")
        messages = [r.message for r in ref.versions if not r.message.startswith(COPIED)]
        if len(set(messages)) < len(messages):
            raise LossError(f"I4: a push made two versions of {ref.dataset}")
        for record in ref.promised:
            if record.number not in old:
                needs = self._read_needs(record.manifest_id, f"{ref.dataset}@{record.number}")
                self._needed.update(needs)
        for number, manifest in old.items():
            if number not in new:
                self._needed.subtract(self._needs[manifest])
        self.refs[ref.dataset] = ref

    def _read_needs(self, manifest_id: ManifestId, version: str) -> frozenset[bytes]:
        """Return the chunks of a version that was just listed; all must be there."""
        if manifest_id not in self._needs:
            objects = Objects(self)
            try:
                reader = Reader(objects, lambda: _index(objects))
                manifest = reader.manifest(manifest_id)
                joined = b"".join(reader.every_id(manifest))
            except IntegrityError as error:
                raise LossError(f"I1: {version} is not whole: {error}") from error
            self._needs[manifest_id] = frozenset(_ids(joined))
        if layout.manifest_key(manifest_id) not in self._objects:
            raise LossError(f"I1: {version} has no manifest")
        lost = [chunk for chunk in self._needs[manifest_id] if not self._copies[chunk] > 0]
        if lost:
            raise LossError(f"I1: {version} was listed without {len(lost)} of its chunks")
        return self._needs[manifest_id]

    def _require_unused(self, key: str) -> None:
        for name, ref in self.refs.items():
            for record in ref.promised:
                if layout.manifest_key(record.manifest_id) == key:
                    raise LossError(f"I1: the manifest of {name}@{record.number} was deleted")

    def brought_back(
        self, dataset: str, numbers: Sequence[int], before: Counter[tuple[str, int]]
    ) -> None:
        """Note that an undo returned, which began after the removals `before`."""
        listed = {record.number for record in self.refs[dataset].versions}
        for number in numbers:
            key = (dataset, number)
            again = self.open_removals[key] or self.removals[key] > before[key]
            if number not in listed and not again:
                raise LossError(f"I3: {dataset}@{number} was brought back and is not there")

    def acknowledge(self, dataset: str, number: int, message: str) -> None:
        """Note that a push returned: its version is there, or somebody removed it."""
        found = [r for r in self.refs[dataset].versions if r.number == number]
        if not found and (dataset, number) not in self.dropped:
            raise LossError(f"I3: {dataset}@{number} was acknowledged and is not there")
        if found and self.pushed[found[0].message] != self.pushed[message]:
            raise LossError(f"I3: {dataset}@{number} is not what was pushed")
        self.acknowledged[dataset, number] = message

    def read_all(self) -> int:
        """Read every byte of every version by an index of its own; return how many versions."""
        objects = Objects(self)
        index = _index(objects)
        reader = Reader(objects, lambda: index)
        count = 0
        for name, ref in self.refs.items():
            for record in ref.versions:
                if read_version(reader, record.manifest_id) != self.pushed[record.message]:
                    raise LossError(f"I4: {name}@{record.number} is not what was pushed")
                count += 1
        for dataset, number in self.acknowledged.keys() - self.dropped:
            if all(record.number != number for record in self.refs[dataset].versions):
                raise LossError(f"I3: {dataset}@{number} is not there at the end")
        return count


def _ids(joined: bytes) -> list[bytes]:
    return [joined[at : at + ID_SIZE] for at in range(0, len(joined), ID_SIZE)]


def _index(objects: Objects) -> ChunkIndex:
    index = ChunkIndex(objects, SegmentCache(None))
    index.load_for_reading()
    return index


def read_version(reader: Reader, manifest_id: ManifestId) -> Files:
    """Return the files of a version with their bytes."""
    manifest = reader.manifest(manifest_id)
    found = {}
    for entry, hints in entries_below(reader, manifest, ""):
        if entry.kind == EntryKind.FILE:
            found[entry.path] = FileContent(reader, entry, hints).read(0, entry.size)
    return found
