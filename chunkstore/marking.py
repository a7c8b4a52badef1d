"""Which chunks versions need: a walk over manifests, pages and lists that meets each only once.

Versions share most of their pages, and large files their lists, so a store of a thousand versions
costs little more than the newest of each dataset and what the others have of their own. What was
met is remembered in 32 bytes for each page and list, about a two-thousandth of what these take
up; ids of chunks are handed on and not kept. Step G2 of docs/design/consistency.md. Neighbours:
`reader` below; `gc` and whoever else asks what is alive above.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from chunkstore.format.blob import Blob
from chunkstore.format.manifest import Manifest, PackHint
from chunkstore.id_runs import MetIds, as_ids
from chunkstore.reader import Reader


class Marker:
    """Walks versions, one after the other, and hands on what they need."""

    def __init__(self, reader: Reader, take: Callable[[bytes], object]) -> None:
        """`take` gets joined ids of chunks of all kinds; most of them once, some again."""
        self._reader = reader
        self._take = take
        self._met = MetIds()

    def walk(self, manifest: Manifest) -> None:
        """Hand on all ids that a version needs, but those of pages and lists that were walked.

        Raises:
            MissingObjectError, CorruptObjectError: a page or list, or what it lies in.
        """
        stored = np.array([page.inline is None for page in manifest.pages], bool)
        ids = b"".join([page.page_id for page in manifest.pages if page.inline is None])
        unmet = np.ones(len(stored), bool)
        unmet[stored] = self._met.add(as_ids(ids))
        self._take(ids)
        for number in np.flatnonzero(unmet).tolist():
            self._page(manifest, number)

    def _page(self, manifest: Manifest, number: int) -> None:
        entries = self._reader.page(manifest, number)
        self._take(b"".join([entry.blob.ids for entry in entries]))
        hints = [manifest.packs[pack] for pack in manifest.pages[number].packs]
        for entry in entries:
            if entry.blob.depth:
                self._lists(entry.blob, hints)

    def _lists(self, blob: Blob, hints: Sequence[PackHint]) -> None:
        for part in self._reader.children(self._unmet(blob), hints):
            self._take(part.ids)
            if part.depth:
                self._lists(part, hints)

    def _unmet(self, blob: Blob) -> Blob:
        """Return a blob, of depth 1 or more, of those of its lists that were not walked."""
        rows = self._met.add(as_ids(blob.ids))
        if rows.all():
            return blob
        ids, sizes = as_ids(blob.ids)[rows], np.frombuffer(blob.sizes, "<u8")[rows]
        return dataclasses.replace(
            blob, ids=ids.tobytes(), sizes=sizes.tobytes(), size=int(sizes.sum())
        )
