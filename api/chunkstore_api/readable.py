"""Which chunks a narrow caller may read by virtue of a dataset: those of its versions.

One file of sorted prefixes for each dataset, in the server's cache: a new version adds its new
pages to what was there before, a dropped one has all made anew. May be deleted at any time; costs
time only. Neighbours: `prefix_file`, `narrow`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from typing import Final

from blake3 import blake3

from chunkstore.chunk_index import ChunkIndex
from chunkstore.format.ref import Ref
from chunkstore.reader import Reader
from chunkstore.upkeep import Opened
from chunkstore.version_check import ChunkWalk, without_hints
from chunkstore_api import prefix_file
from chunkstore_api.prefix_file import EMPTY, Mask, PrefixFile

log = logging.getLogger(__name__)

_BOUND: Final = 4 * 1024**3
"""Bytes of files that are kept."""


class ReadableSets:
    """The chunks of the versions of datasets. Thread-safe."""

    def __init__(self, store: Opened) -> None:
        self._objects = store.objects
        self._segments = store.caches.segments
        self._folder = (
            os.path.join(store.caches.folder, "readable") if store.caches.folder else None
        )
        self._lock = threading.Lock()
        self._sets: dict[str, PrefixFile] = {}
        self._building: dict[str, threading.Lock] = {}

    def contains(self, ref: Ref, ids: bytes) -> Mask:
        """Return for each of n joined ids whether a version of the ref has that chunk: (n,).

        The first call for a state of a ref goes through the pages that are new in it.

        Raises:
            IntegrityError: a page of a version is damaged or gone.
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
            if last.names != versions:
                base = last if last.names < versions else EMPTY
                path = self._path(ref.dataset)
                added = self._added(ref, base)
                last = prefix_file.write(path, sorted(versions), base.prefixes, added)
                if self._folder and path:
                    prefix_file.trim(self._folder, _BOUND)
            self._sets[ref.dataset] = last
            return last

    def _added(self, ref: Ref, base: PrefixFile) -> Iterator[bytes]:
        """Yield the ids of chunks of versions that `base` does not have, joined by page.

        Pages of the version before are passed over: these are in the set, or were yielded.
        """
        reader = Reader(self._objects, self._index)
        walk = ChunkWalk(reader)
        versions = [record.manifest_id for record in ref.versions]
        for number, version in enumerate(versions):
            if version in base.names:
                continue
            before: frozenset[bytes] = frozenset()
            if number:
                earlier = self._objects.get_manifest(versions[number - 1])
                before = frozenset(page.page_id for page in earlier.pages)
            manifest = without_hints(self._objects.get_manifest(version))
            for at, page in enumerate(manifest.pages):
                if page.page_id not in before:
                    yield page.page_id
                    for ids, _ in walk.of_page(reader.page(manifest, at)):
                        yield ids

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
