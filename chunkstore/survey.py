"""What packs a store has and what the index says of them, each held against the other.

The index is read first, then the packs are listed, as a writer does (W0 of
docs/design/consistency.md), and packs are checked after that: so what others store or remove
meanwhile is never taken for damage. Which chunks can be read is kept in three sets, by whether an
index segment lists their pack, none does, or the collector has condemned it. Neighbours:
`pack_check` looks into one pack; `verify` and `repair` ask.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Literal, TypeAlias

import numpy as np

from chunkstore import layout
from chunkstore.errors import (
    BackendError,
    CorruptObjectError,
    IntegrityError,
    KeyAbsentError,
    PermissionDeniedError,
    UnsupportedFormatError,
)
from chunkstore.format.pack import PackDirectory
from chunkstore.id_runs import IdSet
from chunkstore.ids import ID_SIZE, PackId, SegmentId
from chunkstore.mapped_segment import MappedSegment
from chunkstore.objects import Objects
from chunkstore.pack_check import PackCheck, check_directory, check_pack

Level: TypeAlias = Literal["listing", "directories", "data"]
"""How closely packs are looked at: that they are there; their directories too; every byte too."""

Report: TypeAlias = Callable[[str, str, str], None]
"""Is told of damage: kind of the object, its key, what is wrong."""

_RELISTS: Final = 5
_AHEAD: Final = 2
"""Packs that wait for each worker."""


class Survey:
    """The packs of one store. Its methods are called by one thread; `close` it.

    Attributes:
        packs: every pack that was listed, with its stored bytes.
        condemned: those that the collector will delete.
        held: chunks of packs that are there and that the index lists.
        loose: chunks of packs that are there and that no segment lists.
        doomed: chunks of condemned packs.
        failed: packs that are damaged, with what was found of each.
        bad_segments: index segments that are damaged, or say of a pack what is not so.
    """

    def __init__(
        self,
        objects: Objects,
        report: Report,
        folder: str | None,
        *,
        workers: int,
        known: Mapping[PackId, PackCheck] | None = None,
        on_bytes: Callable[[int], None] = lambda _: None,
        on_pack: Callable[[PackId], None] = lambda _: None,
    ) -> None:
        """Temporary files lie in `folder`, None for the system's folder for them.

        Packs that are `known` are taken for what they were when they were read whole.

        `on_bytes` is told bytes of packs as they are checked, by any thread.

        `on_pack` is told each pack that was dealt with, by the caller's.
        """
        self._objects = objects
        self._report = report
        self._folder = folder
        self._workers = workers
        self._known = known or {}
        self._on_bytes = on_bytes
        self._on_pack = on_pack
        self._parts: dict[SegmentId, MappedSegment] = {}
        self._where: dict[PackId, list[tuple[MappedSegment, int]]] = {}
        self._settled: set[PackId] = set()
        self._loose_packs: set[PackId] = set()
        self._stop = threading.Event()
        self.packs: dict[PackId, int] = {}
        self.condemned: frozenset[PackId] = frozenset()
        self.held, self.loose, self.doomed = IdSet(folder), IdSet(folder), IdSet(folder)
        self.failed: dict[PackId, PackCheck] = {}
        self.bad_segments: set[SegmentId] = set()

    def close(self) -> None:
        """Let go of everything."""
        self._parts.clear()
        for ids in (self.held, self.loose, self.doomed):
            ids.close()

    def __enter__(self) -> Survey:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # what there is

    def load(self) -> None:
        """Read the collector's state and the index, and list the packs; a second time what is new.

        Raises:
            BackendError: the storage failed.
        """
        self.condemned = self._read_condemned()
        self._load_index()
        self.packs = dict(self._objects.list_packs())
        found = {pack for pack in self._loose_packs if self.listed(pack)}
        self._loose_packs -= found  # their segment was stored after the index was read
        self._hold(found)

    def _read_condemned(self) -> frozenset[PackId]:
        try:
            state = self._objects.read_gc_state()
        except (IntegrityError, UnsupportedFormatError) as error:
            self._report("gc state", layout.GC_CURRENT, error.message)
            return frozenset()
        try:
            return self._objects.read_condemned(state)
        except (IntegrityError, UnsupportedFormatError) as error:
            if self._objects.read_gc_state() == state:
                self._report("condemned list", state.condemned, error.message)
            return frozenset()

    def _load_index(self) -> None:
        for _ in range(_RELISTS):
            listed = self._objects.list_segments()
            vanished = False
            for segment, length in listed.items():
                if segment not in self._parts and segment not in self.bad_segments:
                    vanished |= not self._load_segment(segment, length)
            if not vanished:
                break
        for gone in set(self._parts) - set(listed):  # merged into others meanwhile
            del self._parts[gone]
        self._where.clear()
        for part in self._parts.values():
            for row, pack in enumerate(part.packs):
                self._where.setdefault(pack, []).append((part, row))

    def _load_segment(self, segment: SegmentId, length: int) -> bool:
        """Load a segment; False where it is gone. One that is damaged is reported."""
        try:
            self._parts[segment] = MappedSegment(self._objects, segment, length, self._folder)
        except KeyAbsentError:
            return False
        except (CorruptObjectError, UnsupportedFormatError) as error:
            self._bad_segment(segment, error.message)
        except BackendError as error:
            if may_pass(error):
                raise
            self._bad_segment(segment, error.message)
        return True

    def _bad_segment(self, segment: SegmentId, problem: str) -> None:
        if segment not in self.bad_segments:
            self.bad_segments.add(segment)
            self._report("index segment", layout.segment_key(segment), problem)

    @property
    def segments(self) -> list[MappedSegment]:
        """The segments that are not damaged in themselves."""
        return list(self._parts.values())

    def listed(self, pack: PackId) -> bool:
        """Whether a segment lists that pack with the bytes that it has."""
        return any(
            int(part.segment.pack_lengths[row]) == self.packs.get(pack)
            for part, row in self._where.get(pack, ())
        )

    def unlisted(self) -> list[PackId]:
        """Return the packs without damage that no right segment lists."""
        return [
            pack
            for pack, length in sorted(self.packs.items())
            if pack not in self.failed
            and pack not in self.condemned
            and not any(
                part.identifier not in self.bad_segments
                and int(part.segment.pack_lengths[row]) == length
                for part, row in self._where.get(pack, ())
            )
        ]

    def directory_of(self, pack: PackId) -> PackDirectory | None:
        """Return what a segment says of a pack, for one whose own directory is damaged."""
        for part, row in self._where.get(pack, ()):
            return part.directory(row)
        return None

    def packs_of(self, ids: bytes) -> list[set[PackId]]:
        """Return for each of n joined ids the packs that a segment names for it, there or not."""
        found: list[set[PackId]] = [set() for _ in range(len(ids) // ID_SIZE)]
        for part in self._parts.values():
            for row, pack in part.packs_of(ids):
                found[row].add(pack)
        return found

    # what is in it

    def settle(self, packs: Collection[PackId], level: Level) -> None:
        """Find out which chunks of these packs can be read; each pack once.

        At the level "listing" the index is believed, and packs that it does not list are looked
        into. A pack that is removed meanwhile is no damage.

        Raises:
            BackendError: the storage failed in a way that may pass.
        """
        believed: list[PackId] = []
        looked_at: list[tuple[PackId, Level]] = []
        for pack in packs:
            if pack in self._settled or pack not in self.packs:
                continue
            self._settled.add(pack)
            if pack in self._known:
                self._take(pack, self._known[pack])
                self._on_pack(pack)
            elif pack in self.condemned:
                looked_at.append((pack, "directories"))
            elif level == "listing" and self.listed(pack):
                believed.append(pack)
            else:
                looked_at.append((pack, "directories" if level == "listing" else level))
        self._believe(believed)
        for pack, check in self._checked(looked_at):
            self._take(pack, check)
            self._on_pack(pack)

    def _believe(self, packs: Collection[PackId]) -> None:
        """Take the chunks of packs from the index."""
        self._hold(set(packs))
        for pack in packs:
            self._on_pack(pack)

    def _hold(self, packs: Collection[PackId]) -> None:
        for part in self._parts.values():
            lengths = part.segment.pack_lengths.tolist()
            stated = zip(part.packs, lengths, strict=True)
            chosen = {p for p, length in stated if p in packs and self.packs[p] == length}
            for ids in part.ids_in(chosen):
                self.held.add(ids)

    def _checked(self, packs: list[tuple[PackId, Level]]) -> Iterator[tuple[PackId, PackCheck]]:
        """Yield what each pack is like, in order; those that are gone meanwhile are left out."""
        waiting: deque[tuple[PackId, Future[PackCheck | None]]] = deque()
        left = deque(packs)
        self._stop.clear()
        with ThreadPoolExecutor(self._workers, "chunkstore-verify") as pool:
            try:
                while left or waiting:
                    while left and len(waiting) < self._workers * (1 + _AHEAD):
                        pack, level = left.popleft()
                        waiting.append((pack, pool.submit(self._check, pack, level)))
                    pack, future = waiting.popleft()
                    check = future.result()
                    if check is not None:
                        yield pack, check
                    else:
                        del self.packs[pack]
            finally:
                self._stop.set()
                for _, future in waiting:
                    future.cancel()

    def _check(self, pack: PackId, level: Level) -> PackCheck | None:
        """Look into a pack; None where it is gone. Called by workers."""
        key, length = layout.pack_key(pack), self.packs[pack]

        def read(start: int, end: int) -> bytes:
            return self._objects.read_pack(pack, start, end)

        try:
            if level == "data":
                check = check_pack(read, length, pack, key, on_read=self._on_bytes, stop=self._stop)
            else:
                stated = self._where.get(pack, ())
                offset = (
                    int(stated[0][0].segment.pack_directories[stated[0][1]]) if stated else None
                )
                check = check_directory(read, length, key, directory_offset=offset)
                self._on_bytes(length)
        except BackendError as error:
            if may_pass(error):
                raise
            check = PackCheck(None, 0, np.zeros(0, bool), (error.message,))
        if check.problems and self._objects.pack_length(pack) is None:
            return None
        return check

    def look_closer(self, pack: PackId) -> PackCheck:
        """Read every byte of a pack that is there; what is found is kept, and not reported."""
        check = self._check(pack, "data") or PackCheck(None, 0, np.zeros(0, bool), ("it is gone",))
        if check.problems:
            self.failed[pack] = check
        return check

    def _take(self, pack: PackId, check: PackCheck) -> None:
        if check.problems and pack not in self.condemned:
            self.failed[pack] = check
            more = f"; and {len(check.problems) - 1} more" if len(check.problems) > 1 else ""
            self._report("pack", layout.pack_key(pack), check.problems[0] + more)
        if check.directory is None:
            return
        listed = False
        for part, row in self._where.get(pack, ()):
            differs = part.differs(row, self.packs[pack], check.directory_offset, check.directory)
            if differs:
                problem = f"it {differs} of {layout.pack_key(pack)}"
                self._bad_segment(part.identifier, problem)
            else:
                listed = True
        if not listed and not check.problems and pack not in self.condemned:
            self._loose_packs.add(pack)
        target = self.held if listed else self.loose
        (self.doomed if pack in self.condemned else target).add(check.good_ids)


def may_pass(error: BackendError) -> bool:
    """Whether an error of the storage says nothing of the object that was asked for."""
    return error.retryable or isinstance(error, PermissionDeniedError)


def default_workers() -> int:
    """Return how many packs are checked at once: as many as there are cores, at least 4."""
    return max(4, os.cpu_count() or 1)
