"""Objects of a store on their way out: what a caller may read of its keys and bytes.

Implements section "Rules" of docs/reference/protocol.md. Neighbours: `narrow` knows what is there
for a caller of some datasets, `incoming` takes objects in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from chunkstore import layout
from chunkstore.backends.base import Backend, Fetched, ObjectInfo, Presigned
from chunkstore.chunk_index import ABSENT
from chunkstore.errors import KeyAbsentError, MissingObjectError, UnavailableError
from chunkstore.format.gc import IDLE
from chunkstore.opened import Opened
from chunkstore.spans import Wanted as Chunk
from chunkstore_api.callers import Caller, less
from chunkstore_api.conditions import UnsatisfiableError, Wanted
from chunkstore_api.keys import Kind, chunk_of, kind_of
from chunkstore_api.narrow import Narrow, SeenPack
from chunkstore_api.prefix_file import Mask
from chunkstore_api.problems import RequestError
from chunkstore_api.refusals import absent
from chunkstore_api.tokens import Right
from chunkstore_api.views import Views

DIRECT_SECONDS: Final = 900
"""How long a URL of the storage holds."""

BLOCK: Final = 4 * 1024 * 1024
"""Bytes of an object that are read from the storage at once."""

_LISTED: Final = (layout.REFS, layout.MANIFESTS, layout.INDEX, "gc/")
"""Prefixes that a narrow caller may list."""

_OPEN: Final = (Kind.CONFIG, Kind.GC_CURRENT, Kind.CONDEMNED)
"""What everybody may read."""

_LONG: Final = (Kind.PACK, Kind.SEGMENT, Kind.CONDEMNED)


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


class Outgoing:
    """What may be read of the objects of one store. Thread-safe; keeps nothing but caches."""

    def __init__(self, store: Opened, views: Views, narrow: Narrow) -> None:
        self._objects = store.objects
        self._backend: Backend = store.objects.backend
        self._views = views
        self._narrow = narrow
        self._reading = Views(store)  # of all that can be read, condemned or not

    def head(self, caller: Caller, key: str) -> ObjectInfo:
        """Return what is known of an object.

        Raises:
            RequestError: 404, it is not there for the caller.
        """
        kind = self._check_readable(caller, key)
        if kind == Kind.CHUNK:
            return _info_of_chunk(key, self._chunk(caller, key))
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
            info = _info_of_chunk(key, data)
            start, end = _within(wanted, key, info.length)
            return Part(info.version, start, end, len(data), iter((data[start:end],)))
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
        start, end = _within(wanted, key, info.length)
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
        stored = functools.partial(self._views.sizes, self._objects.read_gc_state())
        sizes = stored(ids) if caller.wide else self._narrow.sizes((dataset,), ids, stored)
        missing: Mask = sizes == ABSENT
        return missing

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
        length = seen.pack.length
        start, end = _within(wanted, key, length)
        if not seen.shows(start, end):
            raise absent(key)
        if end - start <= BLOCK and seen.needs(start, end):  # no HEAD before it
            found = self._get(key, (start, end))
            return Part(found.version, start, end, length, iter((seen.cover(start, found.data),)))

        def blocks() -> Iterator[bytes]:
            for at in range(start, end, BLOCK):
                until = min(at + BLOCK, end)
                known = seen.needs(at, until)
                data = self._get(key, (at, until)).data if known else bytes(until - at)
                yield seen.cover(at, data)

        return Part(self._head(key).version, start, end, length, blocks())

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


def _info_of_chunk(key: str, data: bytes) -> ObjectInfo:
    return ObjectInfo(key, len(data), key.rpartition("/")[2], 0.0)


def _within(wanted: Wanted | None, key: str, length: int) -> tuple[int, int]:
    """Return start and end of what is wanted of an object of `length` bytes.

    Raises:
        RequestError: 416, it has none of it.
    """
    if wanted is None:
        return 0, length
    try:
        found = wanted.within(length)
    except UnsatisfiableError:
        raise RequestError(
            416,
            "range_not_satisfiable",
            f"{key} has {length} bytes",
            headers={"Content-Range": f"bytes */{length}"},
        ) from None
    return found.start, found.end
