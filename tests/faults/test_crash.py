"""Whatever call a writer dies in, the store keeps its promises and the same command finishes.

The promises are I1 to I4 of docs/design/consistency.md. A workload is one to three operations;
the last one dies at each of its calls in turn, before or after the call took effect. (Deaths in
the operations before it are those of the shorter workloads.)
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chunkstore import CorruptObjectError, IntegrityError, NotFoundError, Store, compaction, layout
from chunkstore.backends.base import Backend, CreateOnly
from chunkstore.backends.local import LocalBackend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.objects import Objects
from chunkstore.testing.backends import METHODS, CrashError, FaultBackend, FaultKind, crash
from tests.faults import worlds
from tests.faults.worlds import World, copy_of, observe, open_store

MOST_SEGMENTS = 3
KINDS: tuple[FaultKind, ...] = ("before", "after")
OPERATIONS = ("push new", "push edit", "push same", "tag", "rm", "push and compact", "gc")


@dataclass(frozen=True)
class Situation:
    """Where a workload has got to: the objects, what is acknowledged, what was pushed last."""

    backend: MemoryBackend
    world: World
    steps: int = 0
    pushed: int = -1

    @property
    def latest(self) -> int:
        return self.world["data"].versions[-1][0]

    def offers(self, operation: str) -> bool:
        """Whether the operation can be done here: most need a version to work on."""
        return operation in ("push new", "push and compact", "gc") or "data" in self.world


class Simulation:
    """Runs operations on stores in memory, with one folder of trees and one of caches."""

    def __init__(self, folder: Path) -> None:
        self.trees = worlds.write_trees(folder / "trees", 4)
        self.folder = folder
        self.fragmented = worlds.fragmented(MOST_SEGMENTS + 1)
        self.states = 0

    def command(self, operation: str, situation: Situation) -> Callable[[Store], object]:
        """Return what does the operation; it can be called again after a crash."""
        step = situation.steps
        if operation == "push new":
            name = f"data-{step}" if "data" in situation.world else "data"
            return lambda store: store.push(self.trees[step], name)
        if operation == "push edit":
            return lambda store: store.push(self.trees[step], "data", message="m", tags=["newest"])
        if operation == "push same":
            return lambda store: store.push(self.trees[situation.pushed], "data")
        if operation == "tag":
            return lambda store: store.tag(f"data@{situation.latest}", f"tag-{step}")
        if operation == "gc":
            return lambda store: store.gc(apply=True, grace=0, reader_grace=0, force=True)
        if operation == "rm":
            return lambda store: _remove(store, situation.latest)
        return lambda store: store.push(worlds.stream_of(step), "stream", name="file")

    def after(self, operation: str, before: Situation, cache: Path) -> Situation:
        """Return the situation after the operation, undisturbed."""
        backend = copy_of(before.backend)
        self.command(operation, before)(open_store(backend, cache))
        pushes = operation == "push edit" or (operation == "push new" and before.pushed < 0)
        pushed = before.steps if pushes else before.pushed
        return Situation(backend, observe(backend), before.steps + 1, pushed)

    def die_everywhere(self, operation: str, before: Situation, cache: Path) -> None:
        """Let the operation die at each call; look, run it again, look again.

        It is run again by the same machine and, from the same wreck, by one without caches.
        """
        after = self.after(operation, before, cache)
        kinds = (*KINDS, "torn") if operation == "gc" else KINDS
        for kind in kinds:
            for number in itertools.count(1):
                backend = copy_of(before.backend)
                if not self.die(operation, before, backend, kind, number, cache):
                    break
                for again in (cache, None):
                    wreck = copy_of(backend)
                    where = f"{operation}, {kind} call {number}, cache {again}"
                    self.recover(operation, before, after.world, wreck, again, where)

    def die(
        self,
        operation: str,
        before: Situation,
        backend: Backend,
        kind: FaultKind,
        number: int,
        cache: Path,
    ) -> bool:
        """Let the operation die at one call; False where it made no such call."""
        methods = ("delete",) if kind == "torn" and operation == "gc" else METHODS
        faulty = FaultBackend(
            backend, at=[number], kind=kind, methods=methods, dies=True, error=crash
        )
        with contextlib.suppress(CrashError):
            self.command(operation, before)(open_store(faulty, cache))
        return faulty.faults > 0

    def recover(
        self,
        operation: str,
        before: Situation,
        done: World,
        backend: Backend,
        cache: Path | None,
        where: str,
    ) -> None:
        """Hold a wreck against the promises and run the same command again."""
        self.states += 1
        assert observe(backend) in (before.world, done), where
        self.command(operation, before)(open_store(backend, cache))
        assert observe(backend) == done, where


def _remove(store: Store, number: int) -> None:
    with contextlib.suppress(NotFoundError):  # said when the first attempt had done it
        store.remove("data", [number])


@pytest.fixture
def simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """Simulate stores that are compacted when they have more than three segments."""
    monkeypatch.setattr(compaction, "MOST_SEGMENTS", MOST_SEGMENTS)
    worlds.small_is_large(monkeypatch)
    made = Simulation(tmp_path)
    yield made
    sys.stdout.write(f"{made.states} states after a crash\n")


def _situations(
    simulation: Simulation, length: int, cache: Path
) -> Iterator[tuple[tuple[str, ...], Situation]]:
    """Yield every sequence of `length` operations and where it leads."""
    if length == 0:
        backend = copy_of(simulation.fragmented)
        yield (), Situation(backend, observe(backend))
        return
    for names, situation in _situations(simulation, length - 1, cache):
        for operation in OPERATIONS:
            if situation.offers(operation):
                yield (*names, operation), simulation.after(operation, situation, cache)


@pytest.mark.parametrize(("length", "least"), [(1, 200), (2, 600), (3, 3000)])
def test_a_crash_at_any_call_breaks_no_promise(
    simulation: Simulation, tmp_path: Path, length: int, least: int
) -> None:
    """Every state after a crash is the one before or the one after, and can be gone on from."""
    cache = tmp_path / "cache"
    for _, situation in _situations(simulation, length - 1, cache):
        for operation in OPERATIONS:
            if situation.offers(operation):
                simulation.die_everywhere(operation, situation, cache)
    assert simulation.states >= least


def test_a_crash_over_a_folder_breaks_no_promise(simulation: Simulation, tmp_path: Path) -> None:
    """The same on disk, for every operation on a dataset that has a version."""
    cache = tmp_path / "cache"
    for names, situation in _situations(simulation, 1, cache):
        if names != ("push new",):
            continue
        origin = tmp_path / "origin"
        for key, (data, _) in situation.backend._objects.items():
            LocalBackend(origin).put(key, [data], CreateOnly())
        for operation in OPERATIONS:
            done = simulation.after(operation, situation, cache).world
            for kind in KINDS:
                for number in itertools.count(1):
                    where = f"{operation}, {kind} call {number}"
                    backend = LocalBackend(shutil.copytree(origin, tmp_path / where))
                    if not simulation.die(operation, situation, backend, kind, number, cache):
                        break
                    simulation.recover(operation, situation, done, backend, cache, where)
    assert simulation.states > 100


def test_what_bad_storage_tears_is_noticed(simulation: Simulation, tmp_path: Path) -> None:
    """Half an object under a key of its own is unreachable or named; nobody reads wrong bytes."""
    cache = tmp_path / "cache"
    noticed = 0
    starts = itertools.chain(*(_situations(simulation, length, cache) for length in (0, 1)))
    for _, situation in starts:
        for operation in filter(situation.offers, OPERATIONS[:-1]):
            done = simulation.after(operation, situation, cache).world
            for number in itertools.count(1):
                backend = copy_of(situation.backend)
                if not simulation.die(operation, situation, backend, "torn", number, cache):
                    break
                torn = _torn_keys(backend)
                if torn:
                    noticed += 1
                    with pytest.raises(CorruptObjectError, match=torn[0]):
                        observe(backend)
                    continue
                for again in (cache, None):
                    wreck = copy_of(backend)
                    simulation.recover(operation, situation, done, wreck, again, operation)
    assert noticed > 10


def _torn_keys(backend: MemoryBackend) -> list[str]:
    """Return the keys of refs and segments that are no longer whole."""
    objects = Objects(backend)
    torn = []
    for info in [*backend.list(layout.REFS), *backend.list(layout.INDEX)]:
        try:
            segment = layout.segment_of(info.key)
            if segment is None:
                objects.get_ref(layout.dataset_of(info.key) or "")
            else:
                objects.get_segment(segment)
        except IntegrityError:
            torn.append(info.key)
    return torn
