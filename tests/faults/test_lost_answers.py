"""A write whose answer is lost is found again: no false conflict, no version twice."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunkstore import BackendError, Store
from chunkstore.backends.base import Backend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.backends.retry import RetryBackend
from chunkstore.errors import UnavailableError
from chunkstore.limits import MAX_COMMIT_NONCES
from chunkstore.objects import Objects
from chunkstore.testing.backends import FaultBackend, FaultKind, MeddlingBackend
from tests.faults import worlds
from tests.faults.worlds import CONFIG, Files, World, copy_of, new_store, observe, open_store

Command = Callable[[Store], object]


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    return worlds.write_trees(tmp_path, 8)


@pytest.fixture
def backend(trees: list[Path], monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    """A store with two versions of `data`, and chunks that no version needs."""
    worlds.small_is_large(monkeypatch)
    made = MemoryBackend()
    new_store(made)
    for tree in trees[:2]:
        open_store(made).push(tree, "data")
    open_store(made).push(trees[7], "gone")
    open_store(made).remove("gone", [1])
    return made


def commands(trees: list[Path]) -> dict[str, Command]:
    """One of every kind that writes."""
    return {
        "push": lambda store: store.push(trees[2], "data", tags=["good"]),
        "push new": lambda store: store.push(trees[2], "other"),
        "push stream": lambda store: store.push(worlds.stream_of(1), "stream", name="file"),
        "tag": lambda store: store.tag("data@1", "good"),
        "tag by push": lambda store: store.push(trees[1], "data", tags=["good"]),
        "rm": lambda store: store.remove("data", [1]),
        "gc": lambda store: store.gc(apply=True, grace=0, reader_grace=0, force=True),
    }


NAMES = list(commands([Path()] * 8))


def retried(backend: Backend) -> RetryBackend:
    """Try again as the real backends do, without waiting."""
    return RetryBackend(backend, sleep=lambda _: None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["before", "after"])
def test_any_one_lost_answer_is_got_over(
    backend: MemoryBackend, trees: list[Path], name: str, kind: FaultKind
) -> None:
    """Whichever call fails once, with its effect or without, the command does its work once."""
    command = commands(trees)[name]
    plain = copy_of(backend)
    command(open_store(plain))
    done = observe(plain)
    for number in itertools.count(1):
        storage = copy_of(backend)
        faulty = FaultBackend(storage, at=[number], kind=kind)
        command(open_store(retried(faulty)))
        assert observe(storage) == done, faulty.calls
        if not faulty.faults:
            break
    assert number > 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["before", "after", "torn"])
def test_any_one_failure_is_a_clean_error_or_none(
    backend: MemoryBackend, trees: list[Path], name: str, kind: FaultKind
) -> None:
    """Without trying again the command succeeds, or says so and works when it is run again."""
    command = commands(trees)[name]
    plain = copy_of(backend)
    command(open_store(plain))
    before, done = observe(backend), observe(plain)
    methods = ("get", "head", "list", "put") if kind != "torn" else ("get", "head", "list")
    for number in itertools.count(1):
        storage = copy_of(backend)
        faulty = FaultBackend(storage, at=[number], kind=kind, methods=methods)
        try:
            command(open_store(faulty))
        except BackendError:
            assert observe(storage) in (before, done), faulty.calls
            if observe(storage) == before or name != "rm":  # what was dropped is gone: it says so
                command(open_store(storage))
        assert observe(storage) == done, faulty.calls
        if not faulty.faults:
            break


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_lost_answer_to_the_config_is_read_back(kind: FaultKind) -> None:
    """Who created the store is told so; who did not, is told the failure."""
    storage = MemoryBackend()
    objects = Objects(FaultBackend(storage, at=[1], kind=kind))
    if kind == "after":
        assert objects.create_config(CONFIG)
    else:
        with pytest.raises(BackendError, match="on purpose"):
            objects.create_config(CONFIG)
        assert objects.create_config(CONFIG)
    assert Objects(storage).read_config() == CONFIG


@pytest.mark.parametrize("others", [1, 3, MAX_COMMIT_NONCES + 6])
def test_a_lost_commit_is_found_below_those_of_others(
    backend: MemoryBackend, trees: list[Path], others: int
) -> None:
    """Others may push, any number of times, before the writer looks: it has committed once."""

    def meddle(number: int, method: str, key: str) -> None:
        if method == "put" and key == "refs/data" and not met:
            met.append(number)
            other = open_store(backend)
            for count in range(others):
                other.tag("data@1", f"tag{count % 3}")
            other.push(trees[3], "data")

    met: list[int] = []
    meddling = MeddlingBackend(backend, after=meddle)
    lossy = FaultBackend(meddling, at=_ref_puts(backend, trees), kind="after", methods=["put"])
    result = open_store(retried(lossy)).push(trees[2], "data")
    assert met
    assert lossy.faults == 1
    versions = observe(backend)["data"].versions
    assert result.version == 3
    assert [number for number, _ in versions] == [1, 2, 3, 4]
    assert len({files for _, files in versions}) == 4


def _ref_puts(backend: MemoryBackend, trees: list[Path]) -> list[int]:
    """Return which put of a push of the third tree is that of the ref."""
    watched = FaultBackend(copy_of(backend), methods=["put"])
    open_store(watched).push(trees[2], "data")
    return [n for n, (_, key) in enumerate(watched.calls, 1) if key == "refs/data"]


def test_another_s_commit_is_never_taken_for_one_s_own(
    backend: MemoryBackend, trees: list[Path]
) -> None:
    """A writer that was refused because another was first commits after it, also without ETags."""

    def meddle(_: int, method: str, key: str) -> None:
        if method == "put" and key == "refs/data" and len(met) < 5:
            met.append(key)
            open_store(backend).push(trees[2 + len(met)], "data")

    met: list[str] = []
    result = open_store(MeddlingBackend(backend, before=meddle)).push(trees[2], "data")
    assert result.version == 8
    versions = observe(backend)["data"].versions
    assert [number for number, _ in versions] == list(range(1, 9))
    assert versions[-1][1] == _files(trees[2])


def _files(tree: Path) -> Files:
    backend = MemoryBackend()
    new_store(backend)
    open_store(backend).push(tree, "data")
    return observe(backend)["data"].versions[0][1]


def test_a_version_dropped_by_another_is_pushed_again_not_tagged(
    backend: MemoryBackend, trees: list[Path]
) -> None:
    """A push of what is there, that only tags, notices that it no longer is; no ref is spoilt."""

    def meddle(_: int, method: str, key: str) -> None:
        if method == "put" and not met:
            met.append(key)
            open_store(backend).remove("data", [2])

    met: list[str] = []
    result = open_store(MeddlingBackend(backend, before=meddle)).push(
        trees[1], "data", tags=["good"]
    )
    assert met == ["refs/data"]
    line = observe(backend)["data"]
    assert (result.version, line.tags) == (3, (("good", 3),))
    assert [number for number, _ in line.versions] == [1, 3]


def test_racing_writers_on_a_bad_line_commit_once_each(trees: list[Path]) -> None:
    """Six writers, one call in six failing with or without effect: six rounds, 36 versions."""
    backend = MemoryBackend()
    new_store(backend)

    def push(writer: int) -> list[int | None]:
        source = random.Random(writer)
        numbers = []
        for round_ in range(6):
            kind: FaultKind = source.choice(["before", "after"])
            at = {n for n in range(1, 400) if source.random() < 1 / 6}
            store = open_store(retried(FaultBackend(backend, at=at, kind=kind)))
            stream = worlds.stream_of(writer * 10 + round_)
            numbers.append(store.push(stream, "data", name="file").version)
        return numbers

    with ThreadPoolExecutor(6) as pool:
        numbers = sorted(n or 0 for found in pool.map(push, range(6)) for n in found)
    assert numbers == list(range(1, 37))
    world: World = observe(backend)
    assert [number for number, _ in world["data"].versions] == numbers
    assert len({files for _, files in world["data"].versions}) == 36


def test_a_storage_that_dies_is_called_unavailable(
    backend: MemoryBackend, trees: list[Path]
) -> None:
    """A storage that is gone for good from any call on ends the command with that error."""
    for name, command in commands(trees).items():
        for number in itertools.count(1):
            faulty = FaultBackend(copy_of(backend), at=[number], dies=True)
            with contextlib.suppress(UnavailableError):
                command(open_store(faulty))
            if not faulty.faults:
                break
        assert number > 3, name
