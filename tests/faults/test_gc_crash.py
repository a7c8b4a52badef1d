"""A collector may die, sleep or meet others at every call: nothing that a version needs is lost.

Simulated on memory, without any patience: both graces are nothing. What each crash leaves behind is
in section 8 of docs/design/consistency.md.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from chunkstore import ConflictError, Store
from chunkstore.backends.base import Backend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.errors import BackendError, NotFoundError
from chunkstore.objects import Objects
from chunkstore.testing.backends import (
    METHODS,
    CrashError,
    FaultBackend,
    FaultKind,
    MeddlingBackend,
    crash,
)
from chunkstore.testing.trees import random_bytes
from tests.faults.worlds import World, copy_of, new_store, observe, open_store

NOW: dict[str, Any] = {"apply": True, "grace": 0, "reader_grace": 0, "force": True}


def put(store: Store, dataset: str, data: bytes) -> None:
    store.push(io.BytesIO(data), dataset, name="file")


@pytest.fixture(scope="module")
def stocked() -> MemoryBackend:
    """A store with dead packs, a mostly dead one, doubled chunks and versions that live."""
    backend = MemoryBackend()
    new_store(backend)
    store = open_store(backend)
    put(store, "live", random_bytes(20_000, 1))
    put(store, "dead", random_bytes(60_000, 2))
    put(store, "sparse", random_bytes(24_000, 3))
    put(store, "sparse", random_bytes(24_000, 3)[:9_000])
    store.remove("dead", [1])
    store.remove("sparse", [1])
    return backend


def world_of(backend: Backend) -> World:
    """Return what a store holds; packs that the index lists may be gone."""
    return observe(backend, every_pack=False)


class Meddler:
    """Has something done once, before the call of that number.

    Attributes:
        backend: the storage, for who is to be meddled with.
        seen: what the store held then; nothing if there was no such call.
    """

    def __init__(
        self, storage: MemoryBackend, number: int, act: Callable[[MemoryBackend], object]
    ) -> None:
        self.backend = MeddlingBackend(storage, before=self._meddle)
        self.seen: list[World] = []
        self._storage = storage
        self._number = number
        self._act = act

    def _meddle(self, now: int, *_: object) -> None:
        if now == self._number:
            self._act(self._storage)
            self.seen.append(world_of(self._storage))


def assert_clean(backend: MemoryBackend) -> None:
    """Nothing is left that another collection would remove, nor any trace of this one."""
    plan = open_store(backend).gc(grace=0).plan
    assert plan.nothing, plan
    objects = Objects(backend)
    state = objects.read_gc_state()
    assert not state.condemned
    named = [key for key, generation in objects.list_condemned() if generation <= state.generation]
    assert named == []
    observe(backend)  # the index lists no pack that is gone


@pytest.mark.parametrize(
    ("kind", "methods"), [("before", METHODS), ("after", METHODS), ("torn", ("delete",))]
)
def test_a_collector_that_dies_at_any_call_is_taken_over(
    stocked: MemoryBackend, kind: FaultKind, methods: tuple[str, ...]
) -> None:
    """Every version reads back after the crash, and the next run brings it to its end."""
    world = world_of(stocked)
    for number in itertools.count(1):
        storage = copy_of(stocked)
        dying = FaultBackend(
            storage, at=[number], kind=kind, methods=methods, dies=True, error=crash
        )
        with contextlib.suppress(CrashError):
            open_store(dying).gc(**NOW)
        assert world_of(storage) == world, dying.calls
        put(open_store(storage), "next", random_bytes(60_000, 2))  # what is about to go
        after = world_of(storage)
        open_store(storage).gc(**NOW)
        assert world_of(storage) == after, dying.calls
        assert_clean(storage)
        if not dying.faults:
            break
    assert number > (30 if methods == METHODS else 3)


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_call_that_fails_is_an_error_and_no_loss(stocked: MemoryBackend, kind: FaultKind) -> None:
    """A failure is raised, or was the lost answer of something that took place."""
    world = world_of(stocked)
    for number in itertools.count(1):
        storage = copy_of(stocked)
        failing = FaultBackend(storage, at=[number], kind=kind)
        with contextlib.suppress(BackendError):
            open_store(failing).gc(**NOW)
        assert world_of(storage) == world, failing.calls
        open_store(storage).gc(**NOW)
        assert_clean(storage)
        if not failing.faults:
            break
    assert number > 30


def push_dead(storage: MemoryBackend) -> None:
    """Commit a version of chunks that are about to go."""
    put(open_store(storage), "again", random_bytes(60_000, 2)[10_000:])


def push_sparse(storage: MemoryBackend) -> None:
    """Commit a version to a dataset that exists, of chunks of a mostly dead pack."""
    put(open_store(storage), "sparse", random_bytes(24_000, 3)[5_000:])


def undo_dead(storage: MemoryBackend) -> None:
    """Bring back a version whose chunks are about to go, unless it is let go already."""
    with contextlib.suppress(NotFoundError):
        open_store(storage).undo("dead")


def undo_and_drop(storage: MemoryBackend) -> None:
    """Bring a version back, drop another one that lives."""
    undo_dead(storage)
    with contextlib.suppress(NotFoundError):
        open_store(storage).remove("live", [1])


def collect(storage: MemoryBackend) -> None:
    """Another collector, from the beginning to the end."""
    open_store(storage).gc(**NOW)


def push_and_collect(storage: MemoryBackend) -> None:
    """A version of chunks that are about to go, and another collector."""
    push_dead(storage)
    collect(storage)


def collect_and_push(storage: MemoryBackend) -> None:
    """Two whole cycles, and versions of what the first has deleted between them."""
    collect(storage)
    put(open_store(storage), "again", random_bytes(60_000, 2))
    put(open_store(storage), "sparse", random_bytes(24_000, 3))
    collect(storage)


def collect_twice(storage: MemoryBackend) -> None:
    """Two whole cycles."""
    collect(storage)
    collect(storage)


@pytest.mark.parametrize(
    "act",
    [push_dead, push_sparse, undo_dead, undo_and_drop, collect, push_and_collect, collect_and_push],
)
def test_others_may_act_at_any_call(
    stocked: MemoryBackend, act: Callable[[MemoryBackend], None]
) -> None:
    """Whatever others commit before any call of the collector reads back when it is done.

    One that slept while another ended, and others pushed, wakes up and deletes nothing that lives.
    """
    for number in itertools.count(1):
        storage = copy_of(stocked)
        meddler = Meddler(storage, number, act)
        with contextlib.suppress(ConflictError):
            open_store(meddler.backend).gc(**NOW)
        if not meddler.seen:
            break
        assert world_of(storage) == meddler.seen[0], number
        collect(storage)
        assert world_of(storage) == meddler.seen[0], number
        assert_clean(storage)
    assert number > 30


def test_a_push_that_sleeps_through_collections_commits_a_whole_version(
    stocked: MemoryBackend,
) -> None:
    """Two whole cycles between any two calls of a push: its version is whole, or it is refused."""
    refused = 0
    for number in itertools.count(1):
        storage = copy_of(stocked)
        meddler = Meddler(storage, number, collect_twice)
        try:
            put(open_store(meddler.backend), "again", random_bytes(60_000, 2))
        except ConflictError:
            refused += 1
            put(open_store(storage), "again", random_bytes(60_000, 2))
        if not meddler.seen:
            break
        assert len(world_of(storage)["again"].versions) == 1
        collect(storage)
        assert_clean(storage)
    assert refused
    assert number > 8
