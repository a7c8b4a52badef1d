"""Typed input and output: encode, key, put; get, decode, verify the id.

The one place where keys and bytes of a Backend become the store's objects and where its errors
become the store's words: an object that a ref or the index leads to and that is absent is a
MissingObjectError, never a NotFoundError. Stands on `layout`, `format` and `backends`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from blake3 import blake3

from chunkstore import layout
from chunkstore.backends.base import (
    Backend,
    Buffer,
    CreateOnly,
    Fetched,
    ReplaceIf,
)
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    CorruptObjectError,
    KeyAbsentError,
    MissingObjectError,
    NotFoundError,
    UnavailableError,
)
from chunkstore.format.config import Config, decode_config, encode_config
from chunkstore.format.gc import (
    IDLE,
    GcState,
    decode_condemned,
    decode_gc_state,
    encode_condemned,
    encode_gc_state,
)
from chunkstore.format.manifest import Manifest, PackHint, decode_manifest, encode_manifest
from chunkstore.format.pack import PackDirectory, decode_directory
from chunkstore.format.ref import Ref, decode_ref, encode_ref
from chunkstore.ids import ChunkId, ChunkKind, ManifestId, PackId, SegmentId, content_hash
from chunkstore.limits import MIB

PIECE: Final = 8 * MIB
"""Bytes of a segment that one request fetches, and that are in memory."""


@dataclass(frozen=True, slots=True)
class StoredRef:
    """A ref and the version of the object that held it, for the next compare-and-swap."""

    ref: Ref
    version: str


class StoredPack(NamedTuple):
    """A pack as a LIST shows it: its stored bytes, its time by the storage's clock."""

    pack_id: PackId
    length: int
    modified: float


@dataclass(frozen=True, slots=True)
class StoredGcState:
    """The collector's state and the version of `gc/current`, None where that is absent."""

    state: GcState
    version: str | None


class Objects:
    """The typed objects of one store on one backend. Thread-safe as the backend is."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    # config

    def read_config(self) -> Config:
        """Return the store's config.

        Raises:
            NotFoundError: there is no store at this address.
            CorruptObjectError, UnsupportedFormatError: as the decoder.
        """
        try:
            fetched = self.backend.get(layout.CONFIG)
        except KeyAbsentError as error:
            raise NotFoundError(
                f"no store at {self.backend.url}",
                hint="check the address, or create one there with init",
            ) from error
        return decode_config(fetched.data, layout.CONFIG)

    def create_config(self, config: Config) -> bool:
        """Write the config of a new store; False where another was there first.

        After a refusal or a lost answer the bytes read back decide.

        Raises:
            BackendError: the config could not be written.
        """
        data = encode_config(config)
        try:
            self.backend.put(layout.CONFIG, [data], CreateOnly())
        except BackendError as error:
            try:
                return self.backend.get(layout.CONFIG).data == data
            except BackendError:
                raise error from None
        return True

    # packs

    def put_pack(self, pack: PackId, data: Sequence[Buffer]) -> None:
        """Store a pack durably; calling it twice is fine."""
        self._put_immutable(layout.pack_key(pack), data)

    def replace_pack(self, pack: PackId, data: Sequence[Buffer]) -> None:
        """Store the bytes of a pack in place of what stands there: damage, or nothing.

        Raises:
            ConditionFailedError: that changed meanwhile.
        """
        self._replace(layout.pack_key(pack), data)

    def read_directory(self, hint: PackHint) -> PackDirectory:
        """Return the directory of a pack, read with one exact range.

        Raises:
            MissingObjectError: the pack is gone.
            CorruptObjectError: the directory is damaged.
        """
        key = layout.pack_key(hint.pack_id)
        tail = self._promised(key, (hint.directory_offset, hint.length)).data
        return decode_directory(tail, hint.directory_offset, key)

    def read_pack(self, pack: PackId, start: int, end: int) -> bytes:
        """Return the pack's bytes from `start` to `end`, unverified.

        Raises:
            MissingObjectError: the pack is gone.
        """
        return self._promised(layout.pack_key(pack), (start, end)).data

    def get_chunk(self, kind: ChunkKind, chunk: ChunkId) -> bytes:
        """Return a chunk by its id alone, unverified, from a backend whose `access` is narrow.

        Raises:
            MissingObjectError: the store has none that the caller may read.
        """
        return self._promised(layout.chunk_key(kind, chunk)).data

    def pack_length(self, pack: PackId) -> int | None:
        """Return the stored bytes of a pack, or None where it is not there."""
        try:
            return self.backend.head(layout.pack_key(pack)).length
        except KeyAbsentError:
            return None

    def list_packs(self) -> Iterator[tuple[PackId, int]]:
        """Yield every pack and its stored bytes."""
        for pack in self.stored_packs():
            yield pack.pack_id, pack.length

    def stored_packs(self) -> Iterator[StoredPack]:
        """Yield what a LIST says of every pack, in the order of their ids."""
        for info in self.backend.list(layout.PACKS):
            pack = layout.pack_of(info.key)
            if pack is not None:
                yield StoredPack(pack, info.length, info.modified)

    def delete_packs(self, packs: Sequence[PackId]) -> None:
        """Delete packs; those already gone are fine."""
        self.backend.delete([layout.pack_key(pack) for pack in packs])

    # index segments

    def put_segment(self, data: bytes) -> SegmentId:
        """Store an index segment and return its id."""
        segment = SegmentId(content_hash([data]))
        self._put_immutable(layout.segment_key(segment), [data])
        return segment

    def get_segment(self, segment: SegmentId) -> bytes | None:
        """Return the bytes of a segment, their id verified, or None where it is gone.

        Segments are replaced by compaction, so one that was listed may be gone a moment later.

        Raises:
            CorruptObjectError: the bytes do not have that id.
        """
        key = layout.segment_key(segment)
        try:
            data = self.backend.get(key).data
        except KeyAbsentError:
            return None
        _check_id(data, segment, key)
        return data

    def segment_pieces(self, segment: SegmentId, length: int) -> Iterator[bytes]:
        """Yield the bytes of a segment, 8 MiB at a time; whoever has got all has its very bytes.

        Raises:
            KeyAbsentError: it is gone.
            CorruptObjectError: it is empty, or after the last piece: they do not have that id.
        """
        key, hasher = layout.segment_key(segment), blake3()
        if not length:
            raise CorruptObjectError(f"corrupt object {key}: it is empty", key=key)
        for start in range(0, length, PIECE):
            data = self.segment_range(segment, start, min(start + PIECE, length))
            hasher.update(data)
            yield data
        _check_digest(hasher.digest(), segment, key)

    def segment_range(self, segment: SegmentId, start: int, end: int) -> bytes:
        """Return a segment's bytes from `start` to `end`, unverified.

        Raises:
            KeyAbsentError: it is gone.
        """
        return self.backend.get(layout.segment_key(segment), (start, end)).data

    def list_segments(self) -> dict[SegmentId, int]:
        """Return every index segment with its stored bytes, the newest first.

        What the storage's clock does not tell apart stands in the order of ids.
        """
        listed = sorted(self.backend.list(layout.INDEX), key=lambda info: -info.modified)
        found = ((layout.segment_of(info.key), info.length) for info in listed)
        return {segment: length for segment, length in found if segment is not None}

    def delete_segments(self, segments: Sequence[SegmentId]) -> None:
        """Delete segments; those already gone are fine."""
        self.backend.delete([layout.segment_key(segment) for segment in segments])

    # manifests

    def put_manifest(self, manifest: Manifest) -> tuple[ManifestId, int]:
        """Store a manifest; return its id and its stored bytes."""
        data = encode_manifest(manifest)
        identifier = ManifestId(content_hash([data]))
        self._put_immutable(layout.manifest_key(identifier), [data])
        return identifier, len(data)

    def copy_manifest(self, manifest: ManifestId, source: Objects, *, replace: bool = False) -> int:
        """Store a manifest of another store as it is, its id verified; return its stored bytes.

        With `replace` a damaged object of that name makes way.

        Raises:
            MissingObjectError, CorruptObjectError: the source's is gone or damaged.
        """
        key = layout.manifest_key(manifest)
        data = source._promised(key).data
        _check_id(data, manifest, key)
        decode_manifest(data, key)
        if replace:
            self._replace(key, [data])
        else:
            self._put_immutable(key, [data])
        return len(data)

    def get_manifest(self, manifest: ManifestId) -> Manifest:
        """Return a manifest that a ref names, its id verified.

        Raises:
            MissingObjectError: it is gone.
            CorruptObjectError: the bytes do not have that id or are no manifest.
        """
        key = layout.manifest_key(manifest)
        data = self._promised(key).data
        _check_id(data, manifest, key)
        return decode_manifest(data, key)

    def list_manifests(self) -> Iterator[tuple[ManifestId, float]]:
        """Yield every manifest and its time by the storage's clock, in the order of their ids."""
        for info in self.backend.list(layout.MANIFESTS):
            manifest = layout.manifest_of(info.key)
            if manifest is not None:
                yield manifest, info.modified

    def delete_manifests(self, manifests: Sequence[ManifestId]) -> None:
        """Delete manifests; those already gone are fine."""
        self.backend.delete([layout.manifest_key(manifest) for manifest in manifests])

    # notes of a server

    def list_notes(self) -> Iterator[tuple[str, float]]:
        """Yield the key and the time of every note that a segment was sent for a dataset."""
        for info in self.backend.list(layout.NOTES):
            if layout.note_of(info.key) is not None:
                yield info.key, info.modified

    # refs

    def get_ref(self, dataset: str) -> StoredRef | None:
        """Return a dataset's ref, or None where there is none.

        Raises:
            CorruptObjectError: the object is no ref, or another dataset's.
        """
        key = layout.ref_key(dataset)
        try:
            fetched = self.backend.get(key)
        except KeyAbsentError:
            return None
        ref = decode_ref(fetched.data, key)
        if ref.dataset != dataset:
            raise CorruptObjectError(
                f"corrupt object {key}: it is the ref of {ref.dataset!r}", key=key
            )
        return StoredRef(ref, fetched.version)

    def put_ref(self, ref: Ref, replaces: str | None) -> str:
        """Write a ref in place of the version `replaces`, or newly; return the new version.

        Raises:
            ConditionFailedError: another was there first, or this very write after a lost
                answer: read back and look for the nonce.
        """
        mode = CreateOnly() if replaces is None else ReplaceIf(replaces)
        return self.backend.put(layout.ref_key(ref.dataset), [encode_ref(ref)], mode)

    def list_datasets(self) -> Iterator[str]:
        """Yield the names of all datasets that have a ref."""
        for info in self.backend.list(layout.REFS):
            name = layout.dataset_of(info.key)
            if name is not None:
                yield name

    # the collector's state

    def read_gc_state(self) -> GcState:
        """Return what `gc/current` says; idle where it is absent."""
        return self.get_gc_state().state

    def get_gc_state(self) -> StoredGcState:
        """Return what `gc/current` says, for the next compare-and-swap."""
        try:
            fetched = self.backend.get(layout.GC_CURRENT)
        except KeyAbsentError:
            return StoredGcState(IDLE, None)
        return StoredGcState(decode_gc_state(fetched.data, layout.GC_CURRENT), fetched.version)

    def put_gc_state(self, state: GcState, replaces: str | None) -> str:
        """Write `gc/current` in place of the version `replaces`, or newly; return its version.

        Raises:
            ConditionFailedError: another was there first, or this very write after a lost answer.
        """
        mode = CreateOnly() if replaces is None else ReplaceIf(replaces)
        return self.backend.put(layout.GC_CURRENT, [encode_gc_state(state)], mode)

    def read_condemned(self, state: GcState) -> frozenset[PackId]:
        """Return the packs that the collector has condemned in `state`.

        Raises:
            MissingObjectError: the list is gone: the state has changed since it was read.
        """
        if not state.condemned:
            return frozenset()
        return decode_condemned(self._promised(state.condemned).data, state.condemned)

    def put_condemned(self, key: str, packs: Collection[PackId]) -> None:
        """Store a condemned list under a key that was never used."""
        self._put_immutable(key, [encode_condemned(packs)])

    def list_condemned(self) -> Iterator[tuple[str, int]]:
        """Yield the key of every condemned list, with the generation that it is for."""
        for info in self.backend.list(layout.CONDEMNED):
            generation = layout.generation_of(info.key)
            if generation is not None:
                yield info.key, generation

    def _promised(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        try:
            return self.backend.get(key, byte_range)
        except KeyAbsentError as error:
            raise MissingObjectError(f"missing object {key}", key=key) from error
        except UnavailableError:
            length = self.backend.head(key).length
            if byte_range is None or length >= byte_range[1]:
                raise
            raise CorruptObjectError(
                f"corrupt object {key}: {length} bytes, cut off before byte {byte_range[1]}",
                key=key,
            ) from None

    def _replace(self, key: str, data: Sequence[Buffer]) -> None:
        try:
            version = self.backend.head(key).version
        except KeyAbsentError:
            self.backend.put(key, data, CreateOnly())
        else:
            self.backend.put(key, data, ReplaceIf(version))

    def _put_immutable(self, key: str, data: Sequence[Buffer]) -> None:
        """Put an object named by its content.

        Under that key nothing else can stand, so an object of the same length that is already
        there is this one, put by a request whose answer was lost.
        """
        try:
            self.backend.put(key, data, CreateOnly())
        except ConditionFailedError as error:
            length = sum(memoryview(buffer).nbytes for buffer in data)
            found = self.backend.head(key).length
            if found != length:
                raise BackendError(
                    f"{key} is already there with {found} bytes instead of {length}",
                    operation="put",
                    key=key,
                ) from error


def _check_id(data: bytes, identifier: bytes, key: str) -> None:
    _check_digest(content_hash([data]), identifier, key)


def _check_digest(digest: bytes, identifier: bytes, key: str) -> None:
    if digest != identifier:
        raise CorruptObjectError(f"corrupt object {key}: its bytes do not have that id", key=key)
