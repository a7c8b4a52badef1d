"""verify: what is damaged is found and named with the paths that it costs; nothing else is."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chunkstore import (
    InvalidInputError,
    LostPath,
    NotFoundError,
    Progress,
    Store,
    UnavailableError,
    VerifyResult,
)
from chunkstore.backends.base import Overwrite
from chunkstore.events import ignore
from chunkstore.format.blob import Blob
from chunkstore.format.gc import GcState, encode_condemned, encode_gc_state
from chunkstore.format.manifest import PackHint
from chunkstore.objects import Objects
from chunkstore.refs import without_expired
from chunkstore.testing.backends import FaultBackend, MeddlingBackend
from chunkstore.testing.trees import random_bytes
from chunkstore.upkeep import Level
from chunkstore.verify import Verification, VerifyOptions
from tests.conftest import Place
from tests.faults.damage import Harm, World, harms, objects_of, small_lists


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return world.copy(tmp_path / "copy")


def verified(store: Path, level: Level = "data", **options: object) -> VerifyResult:
    """Verify a store from a machine without caches."""
    with Store.open(str(store), cache_folder=store.parent / f"cache-{store.name}") as opened:
        return opened.verify(level=level, **options)  # type: ignore[arg-type]  # as given


def keys(result: VerifyResult) -> list[str]:
    return [damage.key for damage in result.damage]


@pytest.mark.parametrize("level", ["listing", "directories", "data"])
def test_a_whole_store_is_well(world: World, level: Level) -> None:
    """Of a store to which nothing happened nothing is said, at any level."""
    result = verified(world.store, level)
    assert result.well
    assert result.damage == ()
    assert (result.versions, result.lost_paths) == (3, 0)
    assert result.packs == len(objects_of(world.store, "data")) + len(
        objects_of(world.store, "metadata")
    )
    assert (result.read_bytes > 2_000_000) == (level != "listing")


@pytest.mark.parametrize("kind", ["data", "metadata", "manifests", "refs", "index"])
def test_what_is_gone_is_found_at_every_level(world: World, copy: Path, kind: str) -> None:
    """A pack, manifest, ref or segment that is not there is named, without reading any data."""
    for path in objects_of(copy, kind):
        key = str(path.relative_to(copy))
        Harm(kind, key, "gone").do(copy)
        for level in ("listing", "directories"):
            result = verified(copy, level)  # type: ignore[arg-type]  # it is one
            expected = "index/" if kind == "index" else key
            assert expected in keys(result), (level, result)
            assert all(damage.mend.startswith("repair") for damage in result.damage)
        Harm(kind, key, "gone").undo(copy, world.store)


def test_what_a_lost_pack_costs_is_told_by_version_and_path(world: World, copy: Path) -> None:
    """Exactly the paths whose chunks lay in it, in every version that has them."""
    with Store.open(str(copy)) as store:
        (page,) = store._reader().manifest(store.version("team/other").manifest_id).pages
        packs = store._reader().manifest(store.version("team/other").manifest_id).packs
    assert page.inline is not None
    for hint in packs:
        name = hint.pack_id.hex()
        (copy / "packs" / name[:2] / name).unlink()
    events: list[object] = []
    result = verified(copy, "directories", progress=events.append)
    lost = [event for event in events if isinstance(event, LostPath)]
    assert [(path.dataset, path.version, path.path) for path in lost] == [
        ("team/other", 1, "small")
    ]
    (damage,) = result.damage
    assert damage.versions == (("team/other", 1, 1),)
    assert damage.paths == ("team/other@1:small",)
    assert damage.kind == "pack"
    assert lost[0].keys == (damage.key,)
    assert not verified(copy, "data", addresses=["team/other"]).well
    assert verified(copy, "data", addresses=["data@1"]).well


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_harm_is_found_and_named(world: World, copy: Path, how: str) -> None:
    """A flipped bit or a lost end of an object of any kind is found, and the object named."""
    for harm in harms(copy, how, 10, "verify"):
        harm.do(copy)
        found = keys(verified(copy))
        assert harm.key in found, harm
        harm.undo(copy, world.store)
    assert verified(copy).well


def test_the_parts_together_are_all(world: World) -> None:
    """Every pack is looked into in exactly one of M parts, and the whole store is found well."""
    whole = verified(world.store)
    parts = [verified(world.store, part=(number, 5)) for number in range(1, 6)]
    assert sum(part.packs for part in parts) == whole.packs
    assert sum(part.read_bytes for part in parts) == whole.read_bytes
    assert all(part.well for part in parts)
    with pytest.raises(InvalidInputError):
        verified(world.store, part=(6, 5))


def test_damage_outside_of_the_part_is_found_by_its_own_part(world: World, copy: Path) -> None:
    """A flipped bit in the data is found by one part of three, and by no other."""
    harm = next(harm for harm in harms(copy, "flip", 5, "part") if harm.kind == "data")
    harm.do(copy)
    found = [harm.key in keys(verified(copy, part=(number, 3))) for number in (1, 2, 3)]
    assert Counter(found) == {True: 1, False: 2}


def test_garbage_is_no_damage(world: World, copy: Path) -> None:
    """What broken pushes leave behind, versions that were let go and unlisted packs are none."""
    with Store.open(str(copy), cache_folder=copy.parent / "cache") as store:
        (copy.parent / "file").write_bytes(random_bytes(300_000, 9))
        store.push(copy.parent / "file", "gone")
        before = {*objects_of(copy, "index")}
        (copy.parent / "file").write_bytes(random_bytes(300_000, 10))
        store.push(copy.parent / "file", "gone")
        store.remove("gone", [1, 2])
    for path in {*objects_of(copy, "index")} - before:
        path.unlink()  # so its packs are in no segment
    assert keys(verified(copy)) == ["index/"]  # undo may yet bring the versions back
    with Store.open(str(copy)) as store:
        store._refs.swap("gone", lambda ref: without_expired(ref, lambda _: True))
    assert verified(copy).well
    unlisted = next(p for p in objects_of(copy, "data") if p.stat().st_size < 320_000)
    other = copy / "packs" / "ff" / ("ff" * 32)
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(unlisted.read_bytes()[:-7])  # torn, and nobody's
    result = verified(copy)
    assert result.well
    assert result.unused_packs == 1


def test_condemned_packs_are_no_damage(world: World, copy: Path) -> None:
    """A pack that the collector has condemned may be there, gone or torn; it may even serve."""
    with Store.open(str(copy), cache_folder=copy.parent / "cache") as store:
        objects = Objects(store._backend)
        packs = [pack for pack, _ in objects.list_packs()]
        key = "gc/condemned/1-test"
        store._backend.put(key, [encode_condemned(frozenset(packs[:2]))], Overwrite())
        store._backend.put("gc/current", [encode_gc_state(GcState(1, key))], Overwrite())
    result = verified(copy)
    assert result.well
    assert result.waiting_packs == 2


def test_the_collectors_state_is_checked(world: World, copy: Path) -> None:
    """gc/current and the list it names: damage there stops every writer, so it is damage."""
    (copy / "gc").mkdir(exist_ok=True)
    (copy / "gc" / "current").write_bytes(b"nonsense")
    assert keys(verified(copy)) == ["gc/current"]
    (copy / "gc" / "current").write_bytes(encode_gc_state(GcState(1, "gc/condemned/1-x")))
    assert keys(verified(copy)) == ["gc/condemned/1-x"]


def test_what_is_stored_meanwhile_is_no_damage(world: World, copy: Path) -> None:
    """A version that appears after the packs were listed is found whole."""
    fresh = copy.parent / "file"
    fresh.write_bytes(random_bytes(300_000, 11))
    pushed = []

    def push_once(event: object) -> None:
        if isinstance(event, Progress) and not pushed:
            with Store.open(str(copy), cache_folder=copy.parent / "second") as second:
                pushed.append(second.push(fresh, "late"))

    result = verified(copy, progress=push_once)
    assert pushed
    assert result.well
    assert result.versions == 4


@pytest.mark.parametrize("moment", range(2, 7))
def test_a_push_at_any_moment_is_no_damage(world: World, copy: Path, moment: int) -> None:
    """Whatever of it was seen: a pack without its segment, a segment without its pack."""
    fresh = copy.parent / "file"
    fresh.write_bytes(random_bytes(100_000, 12))
    pushed: list[object] = []
    with Store.open(str(copy), cache_folder=copy.parent / "cache") as store:

        def push_then(number: int, *_: str) -> None:
            if number == moment and not pushed:
                pushed.append(number)
                with Store.open(str(copy), cache_folder=copy.parent / "second") as second:
                    second.push(fresh, "late")

        meddling = MeddlingBackend(store._backend, after=push_then)
        result = Store(meddling, store.config, str(copy.parent / "cache")).verify(level="data")
    assert pushed
    assert result.damage == ()
    assert result.versions == 4


def test_a_storage_that_fails_is_never_called_well(world: World, tmp_path: Path) -> None:
    """Whatever call fails, verify raises: it says neither that all is well nor that it is not."""
    number = 0
    with Store.open(str(world.store)) as store:
        while True:
            number += 1
            faulty = FaultBackend(store._backend, at=[number])
            tried = Store(faulty, store.config, str(tmp_path / "cache"))
            try:
                result = tried.verify(["team/other"], level="data")
            except UnavailableError:
                assert faulty.faults
                continue
            assert result.well
            break
    assert number > 10


def test_addresses(world: World) -> None:
    """Datasets and versions are verified alone; what is not there, or a path, is refused."""

    def count(*addresses: str) -> tuple[int, int]:
        result = verified(world.store, addresses=addresses)
        assert result.well
        return result.versions, result.packs

    everything = count()
    assert everything[0] == 3
    assert count("data")[0] == 2
    assert count("data@good")[0] == 1
    versions, packs = count("data@2", "team/other@1", "data@2")
    assert versions == 2
    assert packs <= everything[1]
    assert count("team/other")[1] < everything[1]
    refused: Sequence[tuple[str, type[Exception]]] = (
        ("nothing", NotFoundError),
        ("data@9", NotFoundError),
        ("data@1:long", InvalidInputError),
    )
    for address, error in refused:
        with pytest.raises(error):
            verified(world.store, addresses=[address])


def test_an_index_that_is_gone_is_damage_that_costs_no_path(world: World, copy: Path) -> None:
    """Without index/ every version can be read, and verify says that the index is to be rebuilt."""
    shutil.rmtree(copy / "index")
    result = verified(copy)
    assert keys(result) == ["index/"]
    assert result.lost_paths == 0
    assert result.damage[0].mend == "repair --read-data"


def test_verify_on_every_storage(place: Place, tmp_path: Path) -> None:
    """The same on a folder and on S3 servers: well, then a pack too short, then one gone."""
    (tmp_path / "file").write_bytes(random_bytes(300_000, 1))
    with place.create() as store:
        store.push(tmp_path / "file", "data")
        assert store.verify(level="data").well
        backend = store._backend
        (pack,) = [info for info in backend.list("packs/") if info.length > 300_000]
        data = backend.get(pack.key).data
        for harmed in (data[:-10], data[:1000] + b"\0" + data[1001:], None):
            backend.delete([pack.key])
            if harmed is not None:
                backend.put(pack.key, [harmed], Overwrite())
            found = [damage.key for damage in store.verify(level="data").damage]
            assert found == [pack.key]


def test_lists_that_versions_share_are_read_once(world: World, copy: Path) -> None:
    """A large file that ten versions have costs the requests of one, and is still looked at."""
    with (
        Store.open(str(copy), cache_folder=copy.parent / "cache") as store,
        small_lists(),
    ):
        for number in range(10):
            store.push(io.BytesIO(b"%d" % number), "data", name="one more", keep=True)
    with Store.open(str(copy)) as store:
        calls = Counter[str]()
        reader = store._reader()
        children = reader.children

        def counted(blob: Blob, hints: Sequence[PackHint]) -> Iterator[Blob]:
            calls[blob.ids.hex()] += 1
            return children(blob, hints)

        reader.children = counted  # type: ignore[method-assign]  # counts
        options = VerifyOptions()
        with Verification(store._objects, reader, options, ignore, None) as run:
            assert run.run().well
    assert calls
    assert max(calls.values()) == 1
