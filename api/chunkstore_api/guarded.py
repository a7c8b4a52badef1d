"""Guarded objects: what of a store's keys and bytes a caller may read, write and delete.

The client's word counts for nothing: each object that is written is looked at as its kind demands.
Implements section "Rules" of docs/reference/protocol.md. Neighbours: `commits` checks refs,
`segments` index segments and packs, `routes.objects` speaks HTTP.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from chunkstore import layout
from chunkstore.backends.base import (
    Backend,
    CreateOnly,
    Fetched,
    ObjectInfo,
    Presigned,
    PutMode,
    ReplaceIf,
)
from chunkstore.chunk_index import ABSENT
from chunkstore.errors import (
    ConditionFailedError,
    KeyAbsentError,
    MissingObjectError,
    UnavailableError,
)
from chunkstore.format.gc import IDLE, decode_condemned, decode_gc_state
from chunkstore.format.manifest import decode_manifest
from chunkstore.spans import Wanted as Chunk
from chunkstore.upkeep import Opened
from chunkstore_api.callers import Caller, forbidden, less
from chunkstore_api.commits import Commits
from chunkstore_api.keys import LONGEST, Kind, chunk_of, kind_of
from chunkstore_api.narrow import Narrow, SeenPack
from chunkstore_api.prefix_file import Mask
from chunkstore_api.problems import RequestError
from chunkstore_api.refusals import absent, judged, refused
from chunkstore_api.segments import Segments
from chunkstore_api.sent import Sent
from chunkstore_api.tokens import Right
from chunkstore_api.views import Views

DIRECT_SECONDS: Final = 900
"""How long a URL of the storage holds."""

BLOCK: Final = 4 * 1024 * 1024
"""Bytes of an object that are read from the storage at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of an object on their way out.

    Attributes:
        version: of the object.
        start: offset of the first one.
        end: offset behind the last one.
        total: bytes of the whole object, None where that is not known.
        blocks: the bytes.
    """

    version: str
    start: int
    end: int
    total: int | None
    blocks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A range that is asked for.

    Attributes:
        start: offset of the first byte, None for one counted from the end.
        end: offset behind the last one, None for all from `start`; else how many at the end.
    """

    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Spooled:
    """A whole body.

    Attributes:
        data: its bytes, mapped from a file: read only, and only until the request ends.
        blake3: their BLAKE3-256.
    """

    data: memoryview
    blake3: bytes


class Guarded:
    """The objects of one store, behind the rules. Thread-safe; keeps nothing but caches."""

    def __init__(self, store: Opened) -> None:
        self._backend: Backend = store.objects.backend
        self._objects = store.objects
        views, sent = Views(store), Sent(store.objects)
        self._views = views
        self._reading = Views(store)  # of all that can be read, condemned or not
        self._narrow = Narrow(store, sent)
        self._segments = Segments(store, views, sent)
        self._commits = Commits(store, views, self._narrow)

    # reading

    def head(self, caller: Caller, key: str) -> ObjectInfo:
        """Return what is known of an object.

        Raises:
            RequestError: 404, it is not there for the caller.
        """
        kind = self._check_readable(caller, key)
        if kind == Kind.CHUNK:
            data = self._chunk(caller, key)
            return ObjectInfo(key, len(data), key.rpartition("/")[2], 0.0)
        if kind == Kind.PACK and not caller.wide:
            self._seen(caller, key)
        return self._head(key)

    def get(self, caller: Caller, key: str, wanted: Wanted | None) -> Part:
        """Return an object, or a range of it.

        Raises:
            RequestError: 404, it is not there for the caller; 416, it has none of the range.
        """
        kind = self._check_readable(caller, key)
        if kind == Kind.CHUNK:
            data = self._chunk(caller, key)
            return Part(key.rpartition("/")[2], 0, len(data), len(data), iter((data,)))
        if kind == Kind.PACK and not caller.wide:
            return self._covered(caller, key, wanted)
        if wanted is None and kind not in _LONG:
            found = self._get(key, None)
            return Part(found.version, 0, len(found.data), len(found.data), iter((found.data,)))
        if wanted and wanted.start is not None and wanted.end is not None:
            start, end = wanted.start, wanted.end
            if end - start <= BLOCK:  # no HEAD before it
                try:
                    found = self._get(key, (start, end))
                    return Part(found.version, start, end, None, iter((found.data,)))
                except UnavailableError as error:
                    if error.retryable:
                        raise
        info = self._head(key)
        start, end = _within(wanted, info)
        return Part(info.version, start, end, info.length, self._blocks(key, start, end))

    def direct_get(self, caller: Caller, key: str, wanted: Wanted | None) -> Presigned | None:
        """Return how the storage itself gives a range of a pack; None where that cannot be.

        Only what may be seen whole: what the server would have to cover goes through it.

        Raises:
            RequestError: 404, the pack is not there for the caller.
        """
        if kind_of(key) != Kind.PACK or not wanted or wanted.start is None or wanted.end is None:
            return None
        if not caller.wide and not self._seen(caller, key).whole(wanted.start, wanted.end):
            return None
        return self._backend.presigned_get(key, (wanted.start, wanted.end), DIRECT_SECONDS)

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

    def list(
        self, caller: Caller, prefix: str, after: str, limit: int
    ) -> tuple[list[ObjectInfo], str | None]:
        """Return at most `limit` objects by key, and the last key where others come after it.

        Raises:
            RequestError: 403, a narrow caller asks for more than refs, manifests, segments and the
                collector's state: it would be a walk past all that is not there for it.
        """
        if not caller.wide and not prefix.startswith(_LISTED):
            raise less("to list these takes a token for all datasets", Right.READ)
        found: list[ObjectInfo] = []
        listed = self._listed(caller)
        for info in self._backend.list(prefix, after=after):
            if not listed(info.key):
                continue
            if len(found) == limit:
                return found, found[-1].key
            found.append(info)
        return found, None

    def missing(self, caller: Caller, dataset: str, ids: bytes) -> Mask:
        """Return for each of n joined ids whether a push of a dataset has to send that chunk: (n,).

        Raises:
            NotFoundError: the dataset is not there for the caller.
        """
        caller.require(Right.READ, dataset)
        missing: Mask = self._views.sizes(self._objects.read_gc_state(), ids) == ABSENT
        if not caller.wide:
            missing |= ~self._narrow.readable((dataset,), ids)
        return missing

    # writing

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
        if kind in (Kind.CONFIG, Kind.MARKER, Kind.CHUNK):
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
                info = self._head(key)
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

    # helpers

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

    def _check_readable(self, caller: Caller, key: str) -> Kind:
        """Return the kind of a key; of packs and chunks it is not known yet whether they are there.

        Raises:
            RequestError: 404, it is not there for the caller.
        """
        kind = kind_of(key)
        if kind is None:
            raise absent(key)
        if caller.wide or kind in (*_OPEN, Kind.PACK, Kind.CHUNK):
            return kind
        dataset, manifest = layout.dataset_of(key), layout.manifest_of(key)
        segment = layout.segment_of(key)
        if not (
            (dataset and caller.reaches(dataset))
            or (manifest and self._narrow.has_manifest(caller.named, manifest))
            or (segment and segment in self._narrow.segments(caller.named))
        ):
            raise absent(key)
        return kind

    def _listed(self, caller: Caller) -> Callable[[str], bool]:
        """Return what says of a key whether it is listed for the caller."""
        if caller.wide:
            return lambda key: kind_of(key) is not None
        named = caller.named
        manifests = functools.cache(lambda: self._narrow.manifests(named))
        segments = functools.cache(lambda: self._narrow.segments(named))

        def listed(key: str) -> bool:
            kind = kind_of(key)
            if kind == Kind.REF:
                return caller.reaches(layout.dataset_of(key) or "")
            if kind == Kind.MANIFEST:
                return layout.manifest_of(key) in manifests()
            if kind == Kind.SEGMENT:
                return layout.segment_of(key) in segments()
            return kind in _OPEN

        return listed

    def _seen(self, caller: Caller, key: str) -> SeenPack:
        pack = layout.pack_of(key)
        seen = self._narrow.pack(caller.named, pack) if pack else None
        if seen is None:
            raise absent(key)
        return seen

    def _covered(self, caller: Caller, key: str, wanted: Wanted | None) -> Part:
        """Return a pack, or a range of it, as a narrow caller may see it."""
        seen = self._seen(caller, key)
        info = self._head(key)
        start, end = _within(wanted, info)
        if not seen.shows(start, end):
            raise absent(key)

        def blocks() -> Iterator[bytes]:
            for at in range(start, end, BLOCK):
                until = min(at + BLOCK, end)
                known = seen.needs(at, until)
                data = self._get(key, (at, until)).data if known else bytes(until - at)
                yield seen.cover(at, data)

        return Part(info.version, start, end, info.length, blocks())

    def _chunk(self, caller: Caller, key: str) -> bytes:
        """Return the bytes of a chunk, verified."""
        found = chunk_of(key)
        assert found is not None
        kind, identifier = found
        if not caller.wide and not self._narrow.readable(caller.named, identifier).all():
            raise absent(key)
        try:
            return self._reading.reader(IDLE).chunk(Chunk(kind, identifier, ()))
        except MissingObjectError:
            if caller.wide:  # nobody promised it
                raise absent(key) from None
            raise

    def _head(self, key: str) -> ObjectInfo:
        try:
            return self._backend.head(key)
        except KeyAbsentError:
            raise absent(key) from None

    def _get(self, key: str, byte_range: tuple[int, int] | None) -> Fetched:
        try:
            return self._backend.get(key, byte_range)
        except KeyAbsentError:
            raise absent(key) from None

    def _blocks(self, key: str, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, BLOCK):
            yield self._get(key, (at, min(at + BLOCK, end))).data


_LISTED: Final = (layout.REFS, layout.MANIFESTS, layout.INDEX, "gc/")
"""Prefixes that a narrow caller may list."""

_OPEN: Final = (Kind.CONFIG, Kind.GC_CURRENT, Kind.CONDEMNED)
"""What everybody may read."""

_LONG: Final = (Kind.PACK, Kind.SEGMENT, Kind.CONDEMNED)
_NAMED_BY_BYTES: Final = (Kind.PACK, Kind.SEGMENT, Kind.MANIFEST)


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


def _within(wanted: Wanted | None, info: ObjectInfo) -> tuple[int, int]:
    """Return start and end of what is wanted of an object.

    Raises:
        RequestError: 416, it has none of it.
    """
    if wanted is None:
        return 0, info.length
    if wanted.start is None:
        start, end = max(0, info.length - (wanted.end or 0)), info.length
    else:
        start = wanted.start
        end = info.length if wanted.end is None else min(wanted.end, info.length)
    if start >= end:
        _unsatisfiable(info)
    return start, end


def _unsatisfiable(info: ObjectInfo) -> NoReturn:
    raise RequestError(
        416,
        "range_not_satisfiable",
        f"{info.key} has {info.length} bytes",
        headers={"Content-Range": f"bytes */{info.length}"},
    )
