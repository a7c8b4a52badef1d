"""Chunks and whole packs of another store, or of files, on their way into a store.

What comes in was verified by whoever brings it, and is verified again before it goes out: a pack
that is taken whole is checked in every byte, chunks that come one by one are packed like those of a
push. Durable before it is in the index, like there (W2 of docs/design/consistency.md).
Neighbours: `copy` and `repair` bring; `chunk_writer` packs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from chunkstore import layout
from chunkstore.chunk_index import ChunkIndex
from chunkstore.chunk_writer import ChunkWriter
from chunkstore.compression import DEFAULT_LEVEL
from chunkstore.errors import BackendError
from chunkstore.format.config import Config
from chunkstore.format.index import IndexedPack
from chunkstore.format.pack import HEADER_LENGTH, check_header, new_header
from chunkstore.ids import ChunkId, ChunkKind, PackId, content_hash
from chunkstore.ledger import Totals
from chunkstore.limits import MIB
from chunkstore.objects import Objects
from chunkstore.pack_check import check_pack

log = logging.getLogger(__name__)

Naming: TypeAlias = Literal["new", "same", "replace"]
"""What a pack of another store is called here: by a fresh nonce it gets a name of its own; by the
same name, which must never have been deleted here; the same, in place of a damaged object."""

_PACKS_AT_ONCE: Final = 3
"""Each is held whole: 32 MiB in a store with the usual sizes."""

_INDEX_BYTES: Final = 128 * MIB


class Intake:
    """Takes chunks and packs into one store. Use it as a context manager; call `finish`.

    Its methods are called by one thread. What is durable when an error ends it is put into the
    index, so that the next run goes on from there.

    Attributes:
        sent_bytes: stored bytes of packs that were sent.
        packs: whole packs that were taken.
        chunks: chunks that were taken one by one.
    """

    def __init__(self, objects: Objects, config: Config, index: ChunkIndex) -> None:
        """`index` is the view of the writer; what is taken is published to it."""
        self._objects = objects
        self._index = index
        self._totals = Totals()
        cores = max(2, os.cpu_count() or 1)
        self._workers = ThreadPoolExecutor(cores, "chunkstore-work")
        self._movers = ThreadPoolExecutor(_PACKS_AT_ONCE, "chunkstore-packs")
        self._stop = threading.Event()
        self._writer = ChunkWriter(
            objects,
            config,
            index,
            self._totals,
            level=DEFAULT_LEVEL,
            dry_run=False,
            estimate=False,
            workers=self._workers,
            worker_count=cores,
        )
        self._durable: list[IndexedPack] = []
        self._pack_bytes = self._index_bytes = 0
        self.packs = self.chunks = 0

    @property
    def sent_bytes(self) -> int:
        """Stored bytes that were sent: packs, and index segments."""
        return (
            self._totals.sent_bytes
            + self._pack_bytes
            + self._index_bytes
            + self._writer.index_bytes
        )

    def take_packs(
        self, source: Objects, packs: Iterator[tuple[PackId, int]], naming: Naming
    ) -> Iterator[tuple[PackId, IndexedPack | None]]:
        """Fetch packs of another store, check every byte, store their frames as they are.

        Yields each with how the index is to list it, None where the source's pack is damaged or
        gone, or the storage lets nothing be replaced: nothing was stored then.

        Raises:
            BackendError: a storage failed.
        """
        waiting: deque[tuple[PackId, Future[IndexedPack | None]]] = deque()
        try:
            for pack, length in packs:
                move = self._movers.submit(self._move, source, pack, length, naming)
                waiting.append((pack, move))
                if len(waiting) > _PACKS_AT_ONCE:
                    yield self._taken(*waiting.popleft())
            while waiting:
                yield self._taken(*waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()
            for pack, future in waiting:
                if not future.cancelled():
                    with contextlib.suppress(BackendError):  # the first failure is the one to tell
                        self._taken(pack, future)

    def take_chunk(self, kind: ChunkKind, identifier: ChunkId, data: bytes | memoryview) -> None:
        """Pack a chunk that the store lacks, unless it is on its way already."""
        if self._writer.on_its_way(identifier) is None:
            self._writer.put(kind, identifier, data)
            self.chunks += 1
            self._writer.publish_due()

    def finish(self) -> None:
        """Make everything durable and put it into the index."""
        self._writer.finish()
        self.publish()

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        try:
            if kind is not None:
                with contextlib.suppress(BackendError):
                    self._writer.rescue()
                    self.publish()
        finally:
            self._writer.close()
            self._workers.shutdown()
            self._movers.shutdown()

    def _move(
        self, source: Objects, pack: PackId, length: int, naming: Naming
    ) -> IndexedPack | None:
        found = fetch_pack(source, pack, length, stop=self._stop)
        if found is None:
            return None
        data, indexed = found
        if naming == "replace":
            try:
                self._objects.replace_pack(pack, [data])
            except BackendError as error:
                if error.retryable:
                    raise
                log.warning("%s cannot be replaced: %s", layout.pack_key(pack), error)
                return None
        elif naming == "same":
            self._objects.put_pack(pack, [data])
        else:
            header = new_header(check_header(data[:HEADER_LENGTH], pack.hex()))
            parts: list[bytes | memoryview] = [header, memoryview(data)[HEADER_LENGTH:]]
            indexed = replace(indexed, pack_id=PackId(content_hash(parts)))
            self._objects.put_pack(indexed.pack_id, parts)
        return indexed

    def _taken(
        self, pack: PackId, future: Future[IndexedPack | None]
    ) -> tuple[PackId, IndexedPack | None]:
        indexed = future.result()
        if indexed is not None:
            self.packs += 1
            self._pack_bytes += indexed.length
            self._durable.append(indexed)
            if sum(durable.length for durable in self._durable) >= _INDEX_BYTES:
                self.publish()
        return pack, indexed

    def publish(self) -> None:
        """Put the packs that were taken whole into the index."""
        if self._durable:
            self._index_bytes += self._index.publish(self._durable)
            self._durable.clear()


def fetch_pack(
    source: Objects, pack: PackId, length: int, *, stop: threading.Event | None = None
) -> tuple[bytes, IndexedPack] | None:
    """Return a pack of a store, every byte of it checked; None where it is damaged or gone."""
    if source.pack_length(pack) != length:
        return None
    data = source.read_pack(pack, 0, length)
    view = memoryview(data)

    def read(start: int, end: int) -> bytes:
        return bytes(view[start:end])

    check = check_pack(read, length, pack, pack.hex(), stop=stop)
    if check.problems or check.directory is None or (stop is not None and stop.is_set()):
        return None
    return data, IndexedPack(pack, length, check.directory_offset, check.directory)
