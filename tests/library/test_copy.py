"""copy: versions of one store become versions of another, whole, verified, sent once."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkstore import (
    BackendError,
    CopyResult,
    InvalidInputError,
    NotFoundError,
    Notice,
    Store,
)
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.format.gc import GcState, encode_condemned, encode_gc_state
from chunkstore.testing.backends import CountingBackend, FaultBackend, MeddlingBackend
from chunkstore.testing.trees import random_bytes, text_bytes, tree_state
from tests.conftest import Place
from tests.faults.damage import Harm, World, objects_of
from tests.faults.worlds import copy_of, new_store, open_store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@contextlib.contextmanager
def two(world: World, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Open the world's store, and a new one."""
    with (
        Store.open(str(world.store), cache_folder=tmp_path / "cache") as source,
        Store.create(str(tmp_path / "target"), cache_folder=tmp_path / "cache") as target,
    ):
        yield source, target


def history(store: Store) -> list[tuple[object, ...]]:
    """Return what stores must agree on of every version."""
    return [
        (v.dataset, v.number, v.manifest_id, v.created_ns, v.message, v.files, v.size, v.tags)
        for name in store.datasets()
        for v in store.dataset(name).versions
    ]


def check(store: Store, world: World, folder: Path, names: list[str] | None = None) -> None:
    """Hold versions of a store against the trees that they came from."""
    assert store.verify(level="data").well
    for name in names or world.versions:
        target = folder / name.replace("/", "-")
        store.pull(name, target)
        assert tree_state(target) == world.states[name]


def test_everything_is_copied(world: World, tmp_path: Path) -> None:
    """Versions, numbers, ids and tags are the same; every byte is; a second run sends nothing."""
    with two(world, tmp_path) as (source, target):
        result = source.copy(target)
        assert [version.new for version in result.versions] == [True] * 3
        assert history(target) == history(source)
        check(target, world, tmp_path)
        again = source.copy(target)
        assert [version.new for version in again.versions] == [False] * 3
        assert (again.sent_bytes, again.new_bytes) == (0, 0)


def test_only_what_lacks_is_sent(world: World, tmp_path: Path) -> None:
    """The second version costs what it added; what other datasets brought is not sent again."""
    with two(world, tmp_path) as (source, target):
        first = source.copy(target, ["data@1"])
        dry = source.copy(target, ["data"], dry_run=True)
        second = source.copy(target, ["data"])
        assert dry.new_bytes == second.new_bytes < 500_000
        assert second.sent_bytes < 800_000 < first.sent_bytes
        third = source.copy(target, ["data"], dataset="renamed/data")
        assert third.new_bytes == 0
        assert third.sent_bytes < 600_000  # manifests
        check(target, world, tmp_path, ["data@1", "data@2"])
        ids = [v.manifest_id for v in target.dataset("renamed/data").versions]
        assert {v.manifest_id for v in target.dataset("data").versions}.isdisjoint(ids)
        assert not any(
            v.new for v in source.copy(target, ["data"], dataset="renamed/data").versions
        )
        target.pull("renamed/data@2", tmp_path / "renamed")
        assert tree_state(tmp_path / "renamed") == world.states["data@2"]


def test_packs_are_copied_as_they_are(world: World, tmp_path: Path) -> None:
    """Where all of it is wanted; then hints lead there, and a pull of the copy asks no index."""
    with two(world, tmp_path) as (source, target):
        source.copy(target)
    kinds = ("data", "metadata")
    names = [
        {p.name for k in kinds for p in objects_of(s, k)}
        for s in (world.store, tmp_path / "target")
    ]
    assert names[0] == names[1]


def test_tags(world: World, tmp_path: Path) -> None:
    """A whole dataset moves tags; a single version sets only those that are free."""
    with two(world, tmp_path) as (source, target):
        source.copy(target, ["data@1"])
        assert target.version("data@good").number == 1
        source.copy(target, ["data@2"])
        target.tag("data@2", "good")
        source.copy(target, ["data@1"])
        assert target.version("data@good").number == 2
        source.copy(target, ["data"])
        assert target.version("data@good").number == 1


def test_a_number_that_is_taken(world: World, tmp_path: Path) -> None:
    """A version whose number another one has there gets the next; nothing there is lost."""
    (tmp_path / "mine").write_bytes(b"mine\n")
    with two(world, tmp_path) as (source, target):
        mine = target.push(tmp_path / "mine", "data")
        result = source.copy(target, ["data"])
        assert [version.version for version in result.versions] == [2, 3]
        assert target.version("data@1").manifest_id == mine.manifest_id
        assert target.version("data@good").number == 2
        target.pull("data@3", tmp_path / "out")
        assert tree_state(tmp_path / "out") == world.states["data@2"]
        assert not any(version.new for version in source.copy(target, ["data"]).versions)


def test_a_store_that_cuts_otherwise(
    world: World, tmp_path: Path, tmp_path_factory: object
) -> None:
    """Chunks are copied as they are into a store with another chunker, and that is said."""
    events: list[object] = []
    with two(world, tmp_path) as (source, target):
        assert source.config.chunker != target.config.chunker
        source.copy(target, ["team/other"], progress=events.append)
        notices = [event.message for event in events if isinstance(event, Notice)]
        assert any("cut files differently" in notice for notice in notices)
        check(target, world, tmp_path, ["team/other@1"])


def test_a_damaged_version_is_left_out(world: World, tmp_path: Path) -> None:
    """It is named, nothing of it appears, and all others are copied."""
    store = world.copy(tmp_path / "damaged")
    with Store.open(str(store)) as opened:
        packs = opened._reader().manifest(opened.version("team/other").manifest_id).packs
    pack = packs[0].pack_id.hex()
    Harm("data", f"packs/{pack[:2]}/{pack}", "flip", 8 * 2000).do(store)
    with (
        Store.open(str(store), cache_folder=tmp_path / "cache") as source,
        Store.create(str(tmp_path / "target"), cache_folder=tmp_path / "cache") as target,
    ):
        result = source.copy(target)
        assert [(name, number) for name, number, _ in result.failed] == [("team/other", 1)]
        assert len(result.versions) == 2
        assert "team/other" not in target.datasets()
        check(target, world, tmp_path, ["data@1", "data@2"])


@pytest.mark.parametrize("byte", [4, 40])
def test_a_damaged_manifest(world: World, tmp_path: Path, byte: int) -> None:
    """Of the source it costs its version; of the target the version is copied anew.

    Byte 4 is the version of the format: the manifest may be one of a newer program.
    """
    store = world.copy(tmp_path / "damaged")
    with (
        Store.open(str(store), cache_folder=tmp_path / "cache") as source,
        Store.create(str(tmp_path / "target"), cache_folder=tmp_path / "cache") as target,
    ):
        target.objects.put_gc_state(GcState(1, ""), None)
        assert [v.new for v in source.copy(target, ["data"]).versions] == [True, True]
        first, _ = target.dataset("data").versions
        key = f"manifests/{first.manifest_id.hex()}"
        Harm("manifest", key, "flip", 8 * byte).do(tmp_path / "target")
        assert [v.new for v in source.copy(target, ["data"]).versions] == [True, False]
        assert [v.new for v in source.copy(target, ["data"]).versions] == [False, False]
        target.pull("data@3", tmp_path / "out")
        key = f"manifests/{source.version('data@2').manifest_id.hex()}"
        Harm("manifest", key, "flip", 8 * byte).do(store)
        result = source.copy(target)
        assert [failed[:2] for failed in result.failed] == [("data", 2)]
        assert {v.source_dataset for v in result.versions} == {"data", "team/other"}
    assert tree_state(tmp_path / "out") == world.states["data@1"]


def test_what_cannot_be_copied(world: World, tmp_path: Path) -> None:
    """Paths, several datasets under one name, and what is not there, are refused."""
    with two(world, tmp_path) as (source, target):
        with pytest.raises(InvalidInputError):
            source.copy(target, ["data@1:long"])
        with pytest.raises(InvalidInputError):
            source.copy(target, ["data", "team/other"], dataset="one")
        with pytest.raises(InvalidInputError):
            source.copy(target, dataset="one")
        for address in ("nothing", "data@9"):
            with pytest.raises(NotFoundError):
                source.copy(target, [address])
        assert target.datasets() == []


def test_a_copy_that_is_broken_off_goes_on(tmp_path: Path) -> None:
    """Whichever write fails, no half version appears, and the next run sends only the rest."""
    with Store.create(
        str(tmp_path / "source"), cache_folder=tmp_path / "cache", pack_length=1 << 20
    ) as source:
        for number in range(2):
            (tmp_path / "file").write_bytes(random_bytes(2_500_000, number))
            source.push(tmp_path / "file", "data")
        whole = sum(length for _, length in source._objects.list_packs())
        for number in itertools.count(1):
            cache = str(tmp_path / f"cache-{number}")
            folder = str(tmp_path / f"target-{number}")
            with Store.create(folder, cache_folder=cache, pack_length=1 << 20) as target:
                counting = CountingBackend(target._backend)
                kind = "after" if number % 2 else "before"
                faulty = FaultBackend(counting, at=[number], kind=kind, methods=["put"], dies=True)  # type: ignore[arg-type]  # it is one
                with contextlib.suppress(BackendError):
                    source.copy(Store(faulty, target.config, cache))
                assert target.verify(level="data").well
                source.copy(Store(counting, target.config, cache))
                assert history(target) == history(source)
                assert counting.bytes_in < whole * 2
                assert target.verify(level="data").well
            if not faulty.faults:
                break
    assert number > 6


def test_a_collection_meanwhile(world: World, tmp_path: Path) -> None:
    """What a collector condemns while it is relied on is sent again before the commit (W6)."""
    with two(world, tmp_path) as (source, target):
        source.copy(target, ["data@1"])
        doomed = [pack for pack, _ in target._objects.list_packs()]
        key = "gc/condemned/1-test"
        target._backend.put(key, [encode_condemned(frozenset(doomed))], Overwrite())
        seen = []

        def condemn(event: object) -> None:
            if not seen:
                seen.append(event)
                target._backend.put("gc/current", [encode_gc_state(GcState(1, key))], Overwrite())

        result = source.copy(target, ["data@2"], progress=condemn)
        assert result.versions[0].new
        target._backend.delete([f"packs/{pack.hex()[:2]}/{pack.hex()}" for pack in doomed])
        target.pull("data@2", tmp_path / "out")
        assert tree_state(tmp_path / "out") == world.states["data@2"]


def test_copy_between_storages(place: Place, tmp_path: Path) -> None:
    """From a folder to each storage and back, the history and the bytes stay the same."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(random_bytes(400_000, 1))
    (tmp_path / "tree" / "b").write_bytes(text_bytes(400_000, 2))
    with (
        Store.create(str(tmp_path / "first"), cache_folder=tmp_path / "cache") as first,
        place.create() as middle,
        Store.create(str(tmp_path / "last"), cache_folder=tmp_path / "cache") as last,
    ):
        first.push(tmp_path / "tree", "data", tags=["v1"])
        first.copy(middle)
        middle.copy(last)
        assert history(first) == history(middle) == history(last)
        last.pull("data@v1", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tmp_path / "tree")


def test_a_copy_at_any_moment_of_a_collection() -> None:
    """A version that was in the target before and is about to be let go may be copied there again.

    The collector deletes its manifest by name: the copy must not count on that name.
    """
    source, first = MemoryBackend(), MemoryBackend()
    for backend in (source, first):
        new_store(backend)
    for number in range(2):
        open_store(source).push(io.BytesIO(random_bytes(9_000, number)), "data", name="file")
    open_store(source).copy(open_store(first))
    open_store(first).remove("data", [1, 2])
    open_store(first).push(io.BytesIO(b"x"), "other", name="file")
    for call in range(1, 100):
        backend = copy_of(first)
        results: list[CopyResult] = []

        def copy(
            number: int,
            *_: str,
            backend: MemoryBackend = backend,
            results: list[CopyResult] = results,
            at: int = call,
        ) -> None:
            if number == at:
                results.append(open_store(source).copy(open_store(backend)))

        meddling = MeddlingBackend(backend, before=copy)
        open_store(meddling).gc(apply=True, grace=0, reader_grace=0, force=True)
        if not results:
            break
        store = open_store(backend)
        assert store.verify(level="data").damage == (), call
        copied = results[0].versions
        for version in copied:
            found = store.version(f"data@{version.version}")
            assert found.manifest_id == version.manifest_id
        again = open_store(source).copy(store).versions
        assert [v.new for v in again] == [False, False]
        assert [v.manifest_id for v in again] == [v.manifest_id for v in copied]
    else:
        pytest.fail("a collection makes more calls")
    assert call > 20


def test_copies_at_once_into_a_collected_store() -> None:
    """Two at the same work leave one version, though each would give its manifest another name."""
    source, first = MemoryBackend(), MemoryBackend()
    for backend in (source, first):
        new_store(backend)
    open_store(source).push(io.BytesIO(random_bytes(9_000, 1)), "data", name="file")
    objects = open_store(first).objects
    objects.put_gc_state(GcState(3, ""), None)
    for call in range(1, 60):
        backend = copy_of(first)

        def copy(number: int, *_: str, backend: MemoryBackend = backend, at: int = call) -> None:
            if number == at:
                open_store(source).copy(open_store(backend))

        meddling = MeddlingBackend(backend, before=copy)
        (copied,) = open_store(source).copy(open_store(meddling)).versions
        store = open_store(backend)
        assert [v.manifest_id for v in store.dataset("data").versions] == [copied.manifest_id]
        assert copied.manifest_id != open_store(source).version("data").manifest_id
        assert store.verify(level="data").well
        if meddling.calls < call:
            break
    else:
        pytest.fail("a copy makes more calls")
