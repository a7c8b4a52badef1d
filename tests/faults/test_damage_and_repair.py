"""Whatever rots is found, never becomes a wrong byte, and is mended from a second copy.

The numbers here are for every run of the tests; `python -m bench.bench_rot` does thousands.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chunkstore import (
    IntegrityError,
    NotFoundError,
    RepairResult,
    Store,
    UnsupportedFormatError,
    layout,
)
from chunkstore.backends.base import Overwrite
from chunkstore.chunk_index import ChunkIndex, Places
from chunkstore.format.gc import IDLE, GcState, encode_gc_state
from chunkstore.id_runs import as_ids, id_list
from chunkstore.intake import Intake
from chunkstore.segment_cache import SegmentCache
from chunkstore.survey import Survey
from chunkstore.testing.trees import tree_state
from tests.faults.damage import KINDS, Harm, World, harms, objects_of, small_lists

PROMISED = (IntegrityError, UnsupportedFormatError, NotFoundError)
"""NotFoundError only where a ref is gone: then nothing is left that tells of the dataset."""


@pytest.fixture(autouse=True)
def lists() -> Iterator[None]:
    """Files that are cut again get the lists that they have in the world's store."""
    with small_lists():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def mirror(world: World) -> Path:
    """A second store with all that the world has, made by `copy`."""
    path = world.root / "mirror"
    with (
        Store.open(str(world.store), cache_folder=world.root / "cache") as store,
        Store.create(str(path), cache_folder=world.root / "cache") as second,
    ):
        store.copy(second)
    return path


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return world.copy(tmp_path / "copy")


def repaired(path: Path, mirror: Path | None = None, **options: object) -> RepairResult:
    """Repair a store, on a machine without caches."""
    cache = path.parent / f"cache-{random.random()}"
    with Store.open(str(path), cache_folder=cache) as store:
        if mirror is None:
            return store.repair(level="data", **options)  # type: ignore[arg-type]  # as given
        with Store.open(str(mirror), cache_folder=cache) as source:
            return store.repair(level="data", source=source, **options)  # type: ignore[arg-type]  # as given


def never_wrong(world: World, path: Path, folder: Path) -> None:
    """Pull all versions and read files: right bytes, or an error that was promised."""
    with Store.open(str(path), cache_folder=folder / f"cache-{random.random()}") as store:
        for name in world.versions:
            target = folder / "out" / name.replace("/", "-")
            shutil.rmtree(target, ignore_errors=True)
            try:
                store.pull(name, target)
            except PROMISED:
                continue
            assert tree_state(target) == world.states[name]
        for name, path_in in (("data@2", "big"), ("team/other@1", "small")):
            try:
                with store.open_file(f"{name}:{path_in}") as file:
                    data = file.read()
            except PROMISED:
                continue
            assert data == (world.versions[name] / path_in).read_bytes()


def identical(world: World, path: Path, folder: Path) -> None:
    """Hold every version of a store against the trees that they came from, bytes and history."""
    shutil.rmtree(folder, ignore_errors=True)
    with Store.open(str(path), cache_folder=folder / "cache") as store:
        assert store.verify(level="data").well
        for name in world.versions:
            store.pull(name, folder / name.replace("/", "-"))
            assert tree_state(folder / name.replace("/", "-")) == world.states[name]
        assert store.version("data@good").number == 1


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_harm_to_one_object(
    world: World, mirror: Path, copy: Path, tmp_path: Path, how: str
) -> None:
    """It is found by verify, gives no wrong byte, and is mended from the second store."""
    for harm in harms(world.store, how, 3 * len(KINDS), "one"):
        harm.do(copy)
        with Store.open(str(copy), cache_folder=tmp_path / "cache") as store:
            found = [damage.key for damage in store.verify(level="data").damage]
        assert ("index/" if (harm.kind, how) == ("index", "gone") else harm.key) in found
        never_wrong(world, copy, tmp_path)
        result = repaired(copy, mirror)
        assert result.after.well, (harm, result.after)
        assert result.mended
        identical(world, copy, tmp_path / "pulled")
        shutil.rmtree(copy)
        world.copy(copy)


def test_one_pack_in_twenty_is_mended_from_a_second_store(
    world: World, mirror: Path, copy: Path, tmp_path: Path
) -> None:
    """Nothing is deleted, and every version is identical again; also where half of all is bad."""
    packs = [*objects_of(copy, "data"), *objects_of(copy, "metadata")]
    for number, path in enumerate(packs[: max(1, len(packs) // 2)]):
        how = ("flip", "cut", "gone")[number % 3]
        Harm("data", str(path.relative_to(copy)), how, 8 * 100 + 3).do(copy)
    left = {path.name for path in (copy / "packs").rglob("*") if path.is_file()}
    result = repaired(copy, mirror)
    assert not result.before.well
    assert result.after.well
    assert left <= {path.name for path in (copy / "packs").rglob("*") if path.is_file()}
    identical(world, copy, tmp_path / "pulled")


def test_data_are_mended_from_the_source_folder(world: World, copy: Path, tmp_path: Path) -> None:
    """Chunks and lists of files come out of the files again, whatever they are called now."""
    for number, path in enumerate(objects_of(copy, "data")):
        how = ("flip", "cut", "gone")[number % 3]
        Harm("data", str(path.relative_to(copy)), how, 8 * 5000 + 1).do(copy)
    folder = tmp_path / "elsewhere"
    shutil.copytree(world.trees[1], folder / "renamed", symlinks=True)
    shutil.copytree(world.trees[2], folder / "another", symlinks=True)
    assert not repaired(copy).after.well
    result = repaired(copy, files=[folder])
    assert result.after.well
    assert result.packs == 0
    identical(world, copy, tmp_path / "pulled")


def test_good_chunks_are_copied_out_of_a_damaged_pack(
    world: World, copy: Path, tmp_path: Path
) -> None:
    """One bad frame costs its own chunks; what is lost is named, stays lost, and is not made up."""
    path = max(objects_of(copy, "data"), key=lambda found: found.stat().st_size)
    Harm("data", str(path.relative_to(copy)), "flip", 8 * 1_000_000).do(copy)
    rotten = path.read_bytes()
    result = repaired(copy)
    assert result.chunks > 800
    assert [damage.key for damage in result.after.damage] == [str(path.relative_to(copy))]
    assert result.after.lost_paths == result.before.lost_paths
    assert {lost.partition(":")[2] for lost in result.after.damage[0].paths} == {"long"}
    assert path.read_bytes() == rotten
    again = repaired(copy)
    assert (again.chunks, again.sent_bytes) == (0, 0)
    assert again.after.lost_paths == result.after.lost_paths
    with Store.open(str(copy), cache_folder=tmp_path / "cache") as store:
        with pytest.raises(IntegrityError):
            store.pull("data@1", tmp_path / "out")
        healed = store.push(world.trees[0], "data", allow_same=True)
        assert healed.stats.new_bytes < 40_000  # the index does not name what is bad, so it is sent
    identical(world, copy, tmp_path / "pulled")


def test_a_pack_whose_directory_is_gone_is_read_by_the_index(
    world: World, copy: Path, tmp_path: Path
) -> None:
    """Its chunks come out of it nevertheless."""
    for path in (*objects_of(copy, "data"), *objects_of(copy, "metadata")):
        length = path.stat().st_size
        Harm("data", str(path.relative_to(copy)), "flip", 8 * (length - 20)).do(copy)
    result = repaired(copy)
    assert result.after.well
    identical(world, copy, tmp_path / "pulled")


def test_an_index_that_is_gone_is_rebuilt(world: World, copy: Path, tmp_path: Path) -> None:
    """The view is the same: every chunk is found where it was, and a push sends nothing."""

    def view(path: Path) -> tuple[object, ...]:
        """Return all that the index says, in an order of its own."""
        with Store.open(str(path), cache_folder=tmp_path / f"cache-{random.random()}") as store:
            survey = Survey(store._objects, lambda *_: None, None, workers=1)
            survey.load()
            with survey:
                ids = b"".join(i for p in survey.segments for i in p.ids_in(set(survey.packs)))
                index = store._index()
                places = index.locate(b"".join(sorted({*id_list(as_ids(ids))})))
                packs = [index.pack(number) for number in places.packs.tolist()]
                return (packs, *(column.tolist() for column in columns_of(places)))

    before = view(world.store)
    shutil.rmtree(copy / "index")
    result = repaired(copy)
    assert result.after.well
    assert [step.kind for step in result.mended] == ["index"]
    assert view(copy) == before
    with Store.open(str(copy), cache_folder=tmp_path / "cache") as store:
        assert store.push(world.trees[1], "again").stats.new_bytes == 0


def columns_of(places: Places) -> list[np.ndarray]:
    """Return where chunks lie in their packs."""
    return [
        places.frame_offsets,
        places.frame_lengths,
        places.frame_sizes,
        places.frame_codecs,
        places.offsets,
        places.sizes,
    ]


def test_everything_is_damaged_but_a_second_store_is_there(
    world: World, mirror: Path, copy: Path, tmp_path: Path
) -> None:
    """All refs, manifests, segments and packs at once, each in one of three ways."""
    for number, kind in enumerate(KINDS):
        for other, path in enumerate(objects_of(copy, kind)):
            how = ("flip", "cut", "gone")[(number + other) % 3]
            at = 8 * (path.stat().st_size // 2) + 1
            Harm(kind, str(path.relative_to(copy)), how, at if how == "flip" else at // 8).do(copy)
    result = repaired(copy, mirror)
    assert result.after.well
    identical(world, copy, tmp_path / "pulled")


def test_the_other_store_may_be_damaged_too(world: World, mirror: Path, tmp_path: Path) -> None:
    """Two stores that are damaged in different places mend each other."""
    first, second = world.copy(tmp_path / "first"), tmp_path / "second"
    shutil.copytree(mirror, second)
    ones, others = objects_of(first, "data"), objects_of(second, "data")
    assert {path.name for path in ones} == {path.name for path in others}
    big = max(ones, key=lambda path: path.stat().st_size)
    Harm("data", str(big.relative_to(first)), "flip", 8 * 300_000).do(first)
    Harm("data", str(big.relative_to(first)), "flip", 8 * 1_500_000).do(second)
    assert repaired(first, second).after.well
    assert repaired(second, first).after.well
    identical(world, first, tmp_path / "pulled-1")
    identical(world, second, tmp_path / "pulled-2")


def test_the_collectors_state_is_written_anew(world: World, copy: Path, tmp_path: Path) -> None:
    """As idle, with a generation above all that refs know of; then writers work again."""
    (copy / "gc").mkdir(exist_ok=True)
    for bad in (b"nonsense", encode_gc_state(GcState(7, "gc/condemned/7-gone"))):
        with Store.open(str(copy), cache_folder=tmp_path / "cache") as store:
            store._backend.put("gc/current", [bad], Overwrite())
            with pytest.raises(IntegrityError):
                store.push(world.trees[2], "late")
        assert repaired(copy).after.well
        with Store.open(str(copy), cache_folder=tmp_path / "cache") as store:
            state = store._objects.read_gc_state()
            assert not state.condemned
            assert state.generation == (8 if bad != b"nonsense" else 1)
            assert store.push(world.trees[2], "late").version is not None


def test_nothing_is_done_without_consent(world: World, mirror: Path, copy: Path) -> None:
    """A dry run and a refusal change not one byte, and say what would be done."""
    for harm in harms(world.store, "flip", 5, "consent"):
        harm.do(copy)

    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in copy.rglob("*") if p.is_file()}

    before = content()
    dry = repaired(copy, mirror, dry_run=True)
    assert dry.mended
    assert content() == before
    asked: list[object] = []

    def refuse(found: object, steps: object) -> bool:
        asked.extend([found, steps])
        return False

    refused = repaired(copy, mirror, consent=refuse)
    assert refused.mended == ()
    assert tuple(asked[1]) == dry.mended  # type: ignore[arg-type]  # it is a list
    assert content() == before


def test_a_store_that_is_well_is_left_alone(world: World, mirror: Path, copy: Path) -> None:
    """Nothing is asked, nothing written."""
    before = {str(p): p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    result = repaired(copy, mirror)
    assert (result.mended, result.sent_bytes, result.after.well) == ((), 0, True)
    assert {str(p): p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()} == before


def test_what_only_a_condemned_pack_has_too_is_copied_out(
    world: World, copy: Path, tmp_path: Path
) -> None:
    """A collection at work will delete that one: it is no copy to rely on, but one to take from."""
    with Store.open(str(copy)) as store:
        objects = store._objects
        pack = store._reader().manifest(store.version("team/other").manifest_id).packs[0]
        index = ChunkIndex(objects, SegmentCache(None))
        index.start(IDLE)
        with Intake(objects, store.config, index) as intake:
            packs = iter([(pack.pack_id, pack.length)])
            ((_, twin),) = intake.take_packs(objects, packs, "new")
            intake.finish()
        key = layout.condemned_key(1, "test")
        objects.put_condemned(key, [pack.pack_id])
        objects.put_gc_state(GcState(1, key), None)
    assert twin is not None
    Harm("data", layout.pack_key(twin.pack_id), "flip", 8 * 100).do(copy)
    assert repaired(copy).chunks > len(twin.directory.ids) // 2
    for gone in (pack.pack_id, twin.pack_id):
        (copy / layout.pack_key(gone)).unlink()
    with Store.open(str(copy), cache_folder=tmp_path / "cache") as store:
        assert store.verify(level="data").well
        store.pull("team/other", tmp_path / "target")
    assert tree_state(tmp_path / "target") == world.states["team/other@1"]
