"""Which chunks a narrow caller may read by virtue of a dataset: those of its versions.

One file of sorted prefixes for each dataset, in the server's cache: a new version adds its new
pages to what was there before, a dropped one has all made anew. May be deleted at any time; costs
time only. Neighbours: `prefix_file`, `narrow`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Final

from blake3 import blake3

from chunkstore.chunk_index import ChunkIndex
from chunkstore.errors import FilesystemError, IntegrityError
from chunkstore.format.ref import Ref
from chunkstore.ids import ManifestId
from chunkstore.opened import Opened
from chunkstore.reader import Reader
from chunkstore.recent import Recent
from chunkstore.version_check import ChunkWalk, without_hints
from chunkstore_api import prefix_file
from chunkstore_api.prefix_file import EMPTY, Mask, PrefixFile

log = logging.getLogger(__name__)

_BOUND: Final = 4 * 1024**3
"""Bytes of files that are kept."""

_MAPPED: Final = 1000
"""Datasets whose sets are mapped at a time."""

_AGAIN: Final = 60.0
"""Seconds after which a damaged version is tried again."""


class ReadableSets:
    """The chunks of the versions of datasets. Thread-safe."""

    def __init__(self, store: Opened) -> None:
        self._objects = store.objects
        self._segments = store.caches.segments
        self._folder = (
            os.path.join(store.caches.folder, "readable") if store.caches.folder else None
        )
        self._lock = threading.Lock()
        self._sets: Recent[str, PrefixFile] = Recent(_MAPPED)
        self._building: dict[str, threading.Lock] = {}
        self._damaged: Recent[str, tuple[frozenset[bytes], float]] = Recent(_MAPPED)

    def contains(self, ref: Ref, ids: bytes) -> Mask:
        """Return for each of n joined ids whether a version of the ref has that chunk: (n,).

        The first call for a state of a ref goes through the pages that are new in it.

        What cannot be read of a version, because the store lost it, is left out.
        """
        return self._of(ref).contains(ids)

    def _of(self, ref: Ref) -> PrefixFile:
        """Return the set of a ref, made from the last one of the dataset where that is older."""
        versions = frozenset(bytes(record.manifest_id) for record in ref.versions)
        if not versions:
            return EMPTY
        with self._lock:
            building = self._building.setdefault(ref.dataset, threading.Lock())
        with building:
            last = self._sets.get(ref.dataset) or self._stored(ref.dataset)
            if last.names != versions and not self._was_damaged(ref.dataset, versions):
                last = self._build(ref, last if last.names < versions else EMPTY)
            self._sets.put(ref.dataset, last, 1)
            return last

    def _build(self, ref: Ref, base: PrefixFile) -> PrefixFile:
        """Make the set of a ref from that of some of its versions.

        What is damaged makes nothing unreadable but what lies behind it; it is tried again later.

        Raises:
            FilesystemError: there is no room for it.
        """
        versions = frozenset(bytes(record.manifest_id) for record in ref.versions)
        damaged: set[bytes] = set()
        path = self._path(ref.dataset)
        try:
            found = prefix_file.write(
                path,
                lambda: sorted(versions - damaged),
                base.prefixes,
                self._added(ref, base, damaged),
            )
        except OSError as error:
            raise FilesystemError(
                f"no room for what is readable by virtue of {ref.dataset!r}: {error}"
            ) from error
        if damaged:
            self._damaged.put(ref.dataset, (versions, time.monotonic()), 1)
        if self._folder and path:
            prefix_file.trim(self._folder, _BOUND)
        return found

    def _was_damaged(self, dataset: str, versions: frozenset[bytes]) -> bool:
        """Whether a version of just these was found damaged a moment ago."""
        known = self._damaged.get(dataset)
        return known is not None and known[0] == versions and time.monotonic() - known[1] < _AGAIN

    def _added(self, ref: Ref, base: PrefixFile, damaged: set[bytes]) -> Iterator[bytes]:
        """Yield the ids of chunks of versions that `base` does not have, joined by page.

        Pages of the version before are passed over: these are in the set, or were yielded. Versions
        of which not all can be read are `damaged`.
        """
        reader = Reader(self._objects, self._index)
        for earlier, record in zip((None, *ref.versions), ref.versions, strict=False):
            if record.manifest_id in base.names:
                continue
            try:
                gone_through = earlier is not None and earlier.manifest_id not in damaged
                before = self._pages(earlier.manifest_id) if earlier and gone_through else ()
                manifest = without_hints(self._objects.get_manifest(record.manifest_id))
                walk = ChunkWalk(reader)
                for at, page in enumerate(manifest.pages):
                    if page.page_id not in before:
                        yield page.page_id
                        for ids, _ in walk.of_page(reader.page(manifest, at)):
                            yield ids
            except IntegrityError as error:
                log.warning("version %d of %r: %s", record.number, ref.dataset, error)
                damaged.add(record.manifest_id)

    def _pages(self, version: ManifestId) -> frozenset[bytes]:
        return frozenset(page.page_id for page in self._objects.get_manifest(version).pages)

    def _index(self) -> ChunkIndex:
        index = ChunkIndex(self._objects, self._segments)
        index.load_for_reading()
        return index

    def _stored(self, dataset: str) -> PrefixFile:
        path = self._path(dataset)
        return (prefix_file.read(path) if path else None) or EMPTY

    def _path(self, dataset: str) -> str | None:
        if self._folder is None:
            return None
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            mine = os.stat(self._folder).st_uid == os.geteuid()
        except OSError as error:
            log.warning("cannot keep what is readable in %s: %s", self._folder, error)
            return None
        if not mine:
            log.warning("%s is another user's folder: nothing is kept there", self._folder)
            return None
        return os.path.join(self._folder, blake3(dataset.encode()).hexdigest())
