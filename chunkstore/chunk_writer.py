"""Chunks of one push in, their places out: packed where they are new, published when durable.

A *place* is the number of a pack in the view, or below zero a ticket of one of the two packers: in
which pack a frame will lie is known only when it has been compressed. What is on its way is
bounded. Called by one thread. Neighbours: `ingest` gives the chunks, `packer` packs them,
`chunk_index` knows the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.errors import BackendError
from chunkstore.estimate import CHUNK_OVERHEAD, PACK_OVERHEAD, FrameEstimate
from chunkstore.format.config import Config
from chunkstore.format.index import IndexedPack
from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import PackClass
from chunkstore.frames import FrameRooms
from chunkstore.ids import ChunkId, ChunkKind
from chunkstore.ledger import Totals
from chunkstore.limits import MAX_PACK_CHUNKS
from chunkstore.objects import Objects
from chunkstore.packer import Packer
from chunkstore.profile import OFF, Clock
from chunkstore.sampling import indexed
from chunkstore.unlisted import Unlisted

log = logging.getLogger(__name__)

_INDEX_BYTES: Final = 128 * 1024 * 1024
_INDEX_SECONDS: Final = 15.0
"""Durable packs are put into the index this often, so a push that is killed loses no more."""

_INDEX_CHUNKS: Final = MAX_PACK_CHUNKS // 2
"""So are this many chunks: one that is not yet in the index takes 0.4 KB of memory."""

_FRAMES_AHEAD: Final = 6
"""For each worker: where files are small, the caller's thread needs a lead to keep them busy."""

_PACKS_AHEAD: Final = 2
_UPLOADERS: Final = 2


class ChunkWriter:
    """Stores the new chunks of one push. `close` it."""

    def __init__(
        self,
        objects: Objects,
        config: Config,
        index: ChunkIndex,
        totals: Totals,
        *,
        level: int,
        dry_run: bool,
        estimate: bool,
        workers: ThreadPoolExecutor,
        worker_count: int,
        unlisted: Unlisted | None = None,
        clock: Clock = OFF,
    ) -> None:
        """Count what is new and sent in `totals`; have frames compressed by `workers`.

        With `estimate` a dry run finds out about what its chunks would take up. `unlisted` takes
        note of packs until they are in the index; `close` does not close it.
        """
        self._objects = objects
        self._unlisted = unlisted or Unlisted(None)
        self._index = index
        self._totals = totals
        self._dry_run = dry_run
        self._worker_count = worker_count
        self._store_segment = clock.timed("index", index.publish)
        self._uploaders = ThreadPoolExecutor(_UPLOADERS, "chunkstore-upload")
        self._sent_lock = threading.Lock()
        self._estimates = {
            pack_class: FrameEstimate(config, level, workers)
            for pack_class in (PackClass if estimate else ())
        }
        rooms = FrameRooms(config)
        self._packers = {
            pack_class: Packer(
                objects,
                config,
                pack_class,
                rooms=rooms,
                level=level,
                compressors=workers,
                uploaders=self._uploaders,
                frames_ahead=worker_count * _FRAMES_AHEAD,
                packs_ahead=_PACKS_AHEAD,
                on_sent=self._sent,
                clock=clock,
            )
            for pack_class in PackClass
        }
        self._pending: dict[ChunkId, int] = {}  # new chunks that are not yet in the index: place
        self._by_place: dict[int, list[ChunkId]] = {}
        self._unindexed_bytes = self._unindexed_chunks = 0
        self._indexed_at = time.monotonic()
        self.index_bytes = 0
        """What index segments have added to the store."""

    def close(self) -> None:
        """Wait for uploads that are under way; begin no other."""
        self._uploaders.shutdown(wait=True, cancel_futures=True)

    @property
    def stored_bytes(self) -> int:
        """What packs and index segments have added to the store."""
        return sum(packer.stored_bytes for packer in self._packers.values()) + self.index_bytes

    @property
    def untouched(self) -> bool:
        """Whether nothing was sent yet."""
        return all(packer.empty for packer in self._packers.values())

    @property
    def busy(self) -> bool:
        """Whether every worker has a frame to compress."""
        waiting = sum(packer.compressing for packer in self._packers.values())
        return waiting >= self._worker_count

    def stored_by(self) -> Mapping[str, float]:
        """Return the stored bytes of file chunks for each label; call it after `finish`.

        In a dry run about what they would be, where that is estimated.
        """
        if self._estimates:
            return self._estimates[PackClass.DATA].finish()
        return self._packers[PackClass.DATA].stored_by

    def estimated_bytes(self) -> int:
        """Return about what chunks and their index would add to the store, 0 without estimate."""
        stored = sum(sum(each.finish().values()) for each in self._estimates.values())
        chunks = sum(each.chunks for each in self._estimates.values())
        return stored + chunks * CHUNK_OVERHEAD + (PACK_OVERHEAD if chunks else 0)

    def put(
        self, kind: ChunkKind, identifier: ChunkId, data: bytes | memoryview, label: str = ""
    ) -> int:
        """Pack a chunk unless the store has it; return its place.

        A chunk of a file is one that was looked up, and not found.
        """
        known = self._pending.get(identifier)
        if known is not None:
            return known
        if kind != ChunkKind.DATA:
            found = int(self._index.find(identifier)[0])
            if found != ABSENT:
                return found
        else:
            self._totals.new_bytes += len(data)
        return self._pack(kind, identifier, data, label)

    def put_again(
        self, identifier: ChunkId, label: str, data: bytes | None, size: int, stored: float
    ) -> int:
        """Pack a chunk that the store has once more, None in a dry run; see `stretch.Again`."""
        self._totals.again_bytes += size
        if data is not None:
            return self._pack(ChunkKind.DATA, identifier, data, label)
        if self._estimates:
            self._estimates[PackClass.DATA].add_again(stored, label)
        return ABSENT - 1

    def on_its_way(self, identifier: ChunkId) -> int | None:
        """Return the place of a chunk that was packed and is not yet in the index."""
        return self._pending.get(identifier)

    def pack_at(self, place: int) -> PackHint:
        """Return the pack at a place; call it after `finish` for what was packed here."""
        if place >= 0:
            return self._index.pack(place)
        ticket, pack_class = divmod(-2 - place, 2)
        return self._packers[PackClass(pack_class)].pack_of(ticket)

    def adopt(self) -> None:
        """Put into the index what an earlier push stored and could not list: `Unlisted.left`.

        Whether it is there, and what is in it, the storage says, not the note.
        """
        noted = self._unlisted.left
        if not noted:
            return
        held = self._index.find_packs([pack.pack_id for pack in noted]).tolist()
        packs = [p for p, number in zip(noted, held, strict=True) if number == ABSENT]
        if not self._objects.backend.access().guarded:  # else the server holds them against it
            hints = [PackHint(p.pack_id, p.length, p.directory_offset) for p in packs]
            there = [indexed(self._objects, hint) for hint in hints]
            packs = [pack for pack in there if pack is not None]
        if self._dry_run:
            self._index.add_packs(packs)
            return
        try:
            if packs:
                self._publish(packs)
        except BackendError as error:
            if error.retryable:
                raise
            log.info("packs of an earlier push are not used: %s", error)
        self._unlisted.forget(noted)

    def publish_due(self) -> None:
        """Put durable packs into the index if there are enough of them, or it is time."""
        due = time.monotonic() - self._indexed_at > _INDEX_SECONDS
        few = self._unindexed_bytes < _INDEX_BYTES and self._unindexed_chunks < _INDEX_CHUNKS
        if not due and few:
            return
        durable = []
        for pack_class, packer in self._packers.items():
            for pack, tickets in packer.take_durable():
                durable.append(pack)
                for ticket in tickets:
                    for identifier in self._by_place.pop(_place(ticket, pack_class), ()):
                        self._pending.pop(identifier, None)
        if durable:
            self._publish(durable)
            self._unindexed_bytes = self._unindexed_chunks = 0
            self._indexed_at = time.monotonic()

    def finish(self) -> None:
        """Make everything durable that was put: packs first, then their index segment."""
        for packer in self._packers.values():  # the last packs of both go up side by side
            packer.close()
        durable = [pack for p in self._packers.values() for pack, _ in p.finish()]
        if durable:
            self._publish(durable)

    def rescue(self) -> None:
        """Put the packs that are durable into the index: what an interrupted push leaves behind."""
        durable = [pack for p in self._packers.values() for pack, _ in p.rescue()]
        if durable:
            self._publish(durable)

    def _publish(self, packs: Sequence[IndexedPack]) -> None:
        self.index_bytes += self._store_segment(packs)
        self._unlisted.forget(packs)

    def _pack(
        self, kind: ChunkKind, identifier: ChunkId, data: bytes | memoryview, label: str
    ) -> int:
        pack_class = PackClass.DATA if kind == ChunkKind.DATA else PackClass.METADATA
        if self._dry_run:
            if self._estimates:
                self._estimates[pack_class].add(data, label)
            self._pending[identifier] = ABSENT - 1
            return ABSENT - 1
        ticket = self._packers[pack_class].add(kind, identifier, data, label)
        place = self._pending[identifier] = _place(ticket, pack_class)
        self._by_place.setdefault(place, []).append(identifier)
        return place

    def _sent(self, pack: IndexedPack, tail: bytes) -> None:
        self._unlisted.note(pack, tail)
        with self._sent_lock:
            self._totals.sent_bytes += pack.length
            self._unindexed_bytes += pack.length
            self._unindexed_chunks += len(pack.directory.ids)


def _place(ticket: int, pack_class: PackClass) -> int:
    return -2 - (ticket * 2 + pack_class)
