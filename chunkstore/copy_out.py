"""Live chunks out of packs that will go: read, held against their ids, packed again, indexed.

When `copy_out` returns, every chunk has a copy in a new pack that is durable and in the index.
Steps G3 and G6 of docs/design/consistency.md. Neighbours: `reader` gives the bytes, `chunk_writer`
packs and publishes them, `gc` asks.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from chunkstore.chunk_index import ChunkIndex
from chunkstore.chunk_writer import ChunkWriter
from chunkstore.errors import IntegrityError
from chunkstore.format.config import Config
from chunkstore.format.gc import IDLE
from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import IdArray
from chunkstore.ids import ChunkKind
from chunkstore.index_files import StoredPacks
from chunkstore.ledger import Totals
from chunkstore.objects import Objects
from chunkstore.planning import Copies
from chunkstore.reader import Reader
from chunkstore.segment_cache import SegmentCache
from chunkstore.spans import Wanted

_WORKERS: Final = 2
_LEVEL: Final = 3


class Copier:
    """Copies chunks into packs of its own; use it as a context manager, then `finish` it."""

    def __init__(self, objects: Objects, config: Config, reader: Reader) -> None:
        self._objects = objects
        self._reader = reader
        self._totals = Totals()
        self._stack = contextlib.ExitStack()
        workers = self._stack.enter_context(ThreadPoolExecutor(_WORKERS, "chunkstore-copy"))
        index = ChunkIndex(objects, SegmentCache(None))
        index.start(IDLE)  # empty: whatever is asked for is packed
        self._writer = ChunkWriter(
            objects,
            config,
            index,
            self._totals,
            level=_LEVEL,
            dry_run=False,
            estimate=False,
            workers=workers,
            worker_count=_WORKERS,
        )
        self._stack.callback(self._writer.close)

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def stored_bytes(self) -> int:
        """What the copies have added to the store; call it after `finish`."""
        return self._writer.stored_bytes

    def copy(self, pack: PackHint, ids: IdArray) -> None:
        """Copy these chunks, which a pack holds, in the order in which they lie there.

        Raises:
            MissingObjectError, CorruptObjectError: no good copy of one is left.
        """
        directory = self._objects.read_directory(pack)
        order = np.flatnonzero(np.isin(directory.ids, ids))
        for kind, rows in itertools.groupby(order.tolist(), lambda row: int(directory.kinds[row])):
            joined = directory.ids[np.fromiter(rows, np.int64)].tobytes()
            wanted = Wanted(ChunkKind(kind), joined, (pack,))
            for span in self._reader.plan(wanted):
                for row, data in self._reader.read(span, wanted):
                    self._writer.put(wanted.kind, wanted.id(row), data)
            self._writer.publish_due()

    def finish(self) -> None:
        """Make all copies durable and put them into the index."""
        self._writer.finish()


def by_pack(copies: Copies) -> Iterator[tuple[int, IdArray]]:
    """Yield the number of each pack with the ids that are wanted from it."""
    numbers, starts = np.unique(copies.packs, return_index=True)
    ends = [*starts.tolist()[1:], len(copies.packs)]
    for number, start, end in zip(numbers.tolist(), starts.tolist(), ends, strict=True):
        yield number, copies.ids[start:end]


def copy_out(
    objects: Objects,
    config: Config,
    reader: Reader,
    packs: StoredPacks,
    copies: Copies,
    *,
    on_copied: Callable[[int], object],
    spoiled: Callable[[PackHint, IntegrityError], object],
) -> int:
    """Copy chunks out of their packs; return the bytes that this adds to the store.

    `on_copied` is told of chunks as they are done. A pack out of which something cannot be copied
    is given to `spoiled`, which may raise.
    """
    with Copier(objects, config, reader) as copier:
        for number, ids in by_pack(copies):
            pack = packs.hint(number)
            try:
                copier.copy(pack, ids)
            except IntegrityError as error:
                spoiled(pack, error)
            on_copied(len(ids))
        copier.finish()
        return copier.stored_bytes
