"""Objects on their way into a store: each is what its kind demands, or it is refused.

The client's word counts for nothing. Implements section "Rules" of docs/reference/protocol.md.
Neighbours: `commits` checks refs, `segments` index segments and packs, `outgoing` hands objects
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chunkstore import layout
from chunkstore.backends.base import Backend, CreateOnly, Presigned, PutMode, ReplaceIf
from chunkstore.errors import ConditionFailedError
from chunkstore.format.gc import decode_condemned, decode_gc_state
from chunkstore.format.manifest import decode_manifest
from chunkstore.opened import Opened
from chunkstore_api.callers import Caller, forbidden
from chunkstore_api.commits import Commits
from chunkstore_api.keys import LONGEST, Kind, kind_of
from chunkstore_api.outgoing import DIRECT_SECONDS
from chunkstore_api.problems import RequestError
from chunkstore_api.refusals import judged, refused
from chunkstore_api.segments import Segments
from chunkstore_api.tokens import Right

_NAMED_BY_BYTES: Final = (Kind.PACK, Kind.SEGMENT, Kind.MANIFEST)


@dataclass(frozen=True, slots=True)
class Spooled:
    """A whole body.

    Attributes:
        data: its bytes, mapped from a file: read only, and only until the request ends.
        blake3: their BLAKE3-256.
    """

    data: memoryview
    blake3: bytes


class Incoming:
    """What may be written to and deleted from one store. Thread-safe."""

    def __init__(self, store: Opened, segments: Segments, commits: Commits) -> None:
        self._backend: Backend = store.objects.backend
        self._segments = segments
        self._commits = commits

    def check_put(self, caller: Caller, key: str) -> Kind:
        """Return the kind of a key under which the caller may put something of that kind.

        Raises:
            NotFoundError: the dataset of a ref is not there for the caller.
            RequestError: the caller, or nobody, may put anything there.
        """
        caller.require(Right.WRITE)
        kind = kind_of(key)
        if kind is None:
            raise RequestError(400, "invalid_input", f"no object of a store has the key {key!r}")
        if kind in (Kind.CONFIG, Kind.NOTE, Kind.CHUNK):
            raise forbidden(f"{key} is not written by clients")
        if kind in (Kind.GC_CURRENT, Kind.CONDEMNED):
            caller.require_wide(Right.ADMIN)
        elif kind == Kind.REF:
            caller.require(Right.WRITE, layout.dataset_of(key))
        elif kind in (Kind.PACK, Kind.SEGMENT) and not caller.wide:
            caller.sends_for()  # before anything is sent
        return kind

    def put(self, caller: Caller, key: str, mode: PutMode, body: Spooled) -> tuple[str, bool]:
        """Store an object that is what its kind demands; return its version, and if it is new.

        One that is named by its bytes and is there already is not new, and stays.

        Raises:
            RequestError: 422, it is no such object; 412, another is there; 403, 409: a ref says
                what the caller may not have it say, or what is not so.
        """
        kind = self.check_put(caller, key)
        if kind.immutable and isinstance(mode, ReplaceIf):
            raise RequestError(
                400, "invalid_input", f"{key} is never replaced", hint="send If-None-Match: *"
            )
        if kind == Kind.REF:
            return self._commits.put(caller, key, mode, bytes(body.data)), mode == CreateOnly()
        with judged(key):
            self._judge(caller, kind, key, body)
        try:
            return self._backend.put(key, [body.data], mode), True
        except ConditionFailedError:
            if kind in _NAMED_BY_BYTES:
                info = self._backend.head(key)
                if info.length == len(body.data):
                    return info.version, False
            raise

    def delete(self, caller: Caller, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are fine.

        Raises:
            RequestError: the caller, or nobody, may delete one of them; nothing was deleted.
        """
        caller.require_wide(Right.ADMIN)
        for key in keys:
            if kind_of(key) in (None, Kind.CONFIG, Kind.CHUNK):
                raise forbidden(f"{key} is not deleted by clients")
        self._backend.delete(keys)

    def direct_put(self, caller: Caller, key: str, length: int, sha256: str) -> Presigned | None:
        """Return how a pack is put straight into the storage; None where that cannot be.

        What arrives there is looked at when an index segment lists it, and used by nobody before.

        Raises:
            RequestError: no pack has that key or length, or the caller may not.
        """
        if self.check_put(caller, key) != Kind.PACK:
            raise RequestError(400, "invalid_input", f"{key} goes through the server")
        if not 0 < length <= LONGEST[Kind.PACK]:
            raise RequestError(400, "invalid_input", f"no pack has {length} bytes")
        return self._backend.presigned_put(key, length, sha256, DIRECT_SECONDS)

    def _judge(self, caller: Caller, kind: Kind, key: str, body: Spooled) -> None:
        """Raise where a body is not what may stand under a key."""
        if kind == Kind.PACK:
            self._segments.check_pack(key, body.data)
        elif kind == Kind.SEGMENT:
            packs = self._segments.check_segment(key, body.data, body.blake3)
            if not caller.wide:
                self._segments.note(_dataset_of(caller), key, packs)
        elif kind == Kind.MANIFEST:
            if layout.manifest_of(key) != body.blake3:
                refused(key, "its bytes do not have that id")
            caller.require(Right.WRITE, decode_manifest(bytes(body.data), key).dataset)
        elif kind == Kind.GC_CURRENT:
            decode_gc_state(bytes(body.data), key)
        elif kind == Kind.CONDEMNED:
            decode_condemned(bytes(body.data), key)


def _dataset_of(caller: Caller) -> str:
    """Return the dataset for which a narrow caller sends an index segment.

    Raises:
        RequestError: 400, the request names none that the caller reaches.
    """
    dataset = caller.sends_for()
    if dataset is None:
        raise RequestError(
            400, "invalid_input", "for which dataset?", hint="send the header Chunkstore-Dataset"
        )
    return dataset
