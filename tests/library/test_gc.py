"""A collection frees what no version needs, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chunkstore import MissingObjectError, RefusedError, Store, layout
from chunkstore.backends.base import CreateOnly, Fetched, ObjectInfo, Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.errors import ConflictError
from chunkstore.format.gc import GcState, encode_gc_state
from chunkstore.ids import SegmentId
from chunkstore.objects import Objects
from chunkstore.testing.backends import CountingBackend, MeddlingBackend
from chunkstore.testing.trees import random_bytes
from chunkstore.values import GcPlan, GcResult
from chunkstore.view import View
from tests.conftest import Place
from tests.faults import worlds
from tests.faults.worlds import new_store, open_store

NOW: dict[str, Any] = {"apply": True, "grace": 0, "reader_grace": 0, "force": True}
"""Without any patience."""


@pytest.fixture
def backend() -> MemoryBackend:
    made = MemoryBackend()
    new_store(made)
    return made


def packs_of(backend: MemoryBackend) -> set[bytes]:
    return {pack for pack, _ in Objects(backend).list_packs()}


def push(store: Store, dataset: str, *seeds: int, size: int = 24_000) -> None:
    data = b"".join(random_bytes(size, seed) for seed in seeds)
    store.push(io.BytesIO(data), dataset, name="file")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_segment_that_a_list_did_not_show_is_looked_for_again(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A LIST that began before a segment was replaced may lack the old and the new: no damage."""
    store = open_store(backend)
    push(store, "kept", 1)
    world, whole = worlds.observe(backend), backend.list
    listings: list[str] = []

    def listed(prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        listings.append(prefix)
        if prefix == layout.INDEX and listings.count(prefix) <= times:
            return iter(())
        return whole(prefix, after=after)

    monkeypatch.setattr(backend, "list", listed)
    if times < 3:
        assert store.gc(**NOW).deleted_packs == 0
    else:
        with pytest.raises(MissingObjectError, match="kept@1"):
            store.gc(**NOW)
    monkeypatch.undo()
    assert worlds.observe(backend) == world


@pytest.mark.parametrize("ended", [True, False])
def test_a_list_that_another_collection_removed_is_no_damage(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Also the last time: if the other one has ended that is a conflict, else the list is lost."""
    store = open_store(backend)
    push(store, "kept", 1)
    lost = "gc/condemned/3-lost"
    backend.put(layout.GC_CURRENT, [encode_gc_state(GcState(3, lost))], Overwrite())
    monkeypatch.setattr("chunkstore.gc._ATTEMPTS", 1)
    whole = backend.get

    def got(key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        if key == lost and ended:
            backend.put(layout.GC_CURRENT, [encode_gc_state(GcState(3, ""))], Overwrite())
        return whole(key, byte_range)

    monkeypatch.setattr(backend, "get", got)
    with pytest.raises(ConflictError if ended else MissingObjectError):
        store.gc(**NOW)


def test_a_dropped_version_gives_its_space_back(backend: MemoryBackend) -> None:
    """What only it needed goes: packs, entries of the index, manifest; all others read back."""
    store = open_store(backend)
    push(store, "kept", 1)
    kept = packs_of(backend)
    world = worlds.observe(backend)
    push(store, "gone", 2)
    gone = packs_of(backend) - kept
    store.remove("gone", [1])
    result = store.gc(**NOW)
    assert packs_of(backend) == kept
    assert worlds.observe(backend) == world
    assert result.deleted_packs == len(gone)
    assert result.deleted_manifests == 1
    assert result.deleted_bytes == result.plan.dead_bytes > 24_000
    assert len(list(Objects(backend).list_manifests())) == 1


def test_a_plan_writes_nothing(backend: MemoryBackend) -> None:
    """Without `apply` not one object is put or deleted, and the plan says what would be."""
    store = open_store(backend)
    push(store, "gone", 2)
    push(store, "kept", 1)
    store.remove("gone", [1])
    counting = CountingBackend(backend)
    result = open_store(counting).gc(grace=0)
    assert counting.requests["put"] == counting.requests["delete"] == 0
    assert not result.applied
    assert result.plan.dead_packs == 1
    assert open_store(backend).gc(**NOW).plan == result.plan


def test_nothing_young_is_deleted(backend: MemoryBackend) -> None:
    """What was written within the grace stays, and is counted."""
    store = open_store(backend)
    push(store, "gone", 2)
    backend.delete([layout.ref_key("gone")])
    before = packs_of(backend)
    result = store.gc(**NOW | {"grace": 3600})
    assert packs_of(backend) == before
    assert result.plan.young_packs == len(before)
    assert result.plan.nothing


def test_a_mostly_dead_pack_is_packed_again(backend: MemoryBackend) -> None:
    """What is alive in it is copied, verified and indexed before the pack goes."""
    store = open_store(backend)
    push(store, "data", 1)
    store.push(io.BytesIO(random_bytes(24_000, 1)[:9_000]), "data", name="file")
    store.remove("data", [1])
    before = packs_of(backend)
    world = worlds.observe(backend)
    result = store.gc(**NOW)
    assert result.plan.sparse_packs == result.deleted_packs == 1
    assert 0 < result.copied_bytes < result.deleted_bytes
    assert len(before & packs_of(backend)) == len(before) - 1
    assert worlds.observe(backend) == world
    assert open_store(backend).gc(grace=0).plan.nothing


def test_of_doubled_chunks_one_copy_stays(backend: MemoryBackend) -> None:
    """Two writers who sent the same leave two copies; a collection leaves one."""
    first = open_store(backend)

    def meddle(_: int, method: str, key: str) -> None:
        if method == "put" and key.startswith(layout.PACKS) and not met:
            met.append(key)
            push(first, "one", 1)

    met: list[str] = []
    push(open_store(MeddlingBackend(backend, before=meddle)), "two", 1)
    double = len(packs_of(backend))
    world = worlds.observe(backend)
    open_store(backend).gc(**NOW)
    assert met
    assert len(packs_of(backend)) < double
    assert worlds.observe(backend) == world


def test_leftovers_of_dead_pushes_go(backend: MemoryBackend) -> None:
    """Packs in no index, manifests that no ref names, lists that were never named, old notes."""
    store = open_store(backend)
    push(store, "data", 1)
    world = worlds.observe(backend)
    objects = Objects(backend)
    push(store, "dead", 5)
    stored = objects.get_ref("dead")
    assert stored is not None
    before = objects.list_segments()
    backend.delete([layout.ref_key("dead"), layout.segment_key(next(iter(before)))])
    objects.put_condemned(layout.condemned_key(0, "old"), [])
    objects.put_condemned(layout.condemned_key(7, "of-a-later-generation"), [])
    note = layout.note_key("dead", SegmentId(bytes(32)))
    backend.put(note, [b""], CreateOnly())
    store.gc(**NOW | {"grace": 3600})
    assert backend.head(note)
    result = store.gc(**NOW)
    assert (result.deleted_packs, result.deleted_manifests) == (1, 1)
    assert not list(backend.list(layout.NOTES))
    assert [generation for _, generation in objects.list_condemned()] == [7]
    assert worlds.observe(backend) == world


def test_a_missing_chunk_stops_it(backend: MemoryBackend) -> None:
    """Where a version needs what no pack has, nothing is deleted, and both are named."""
    store = open_store(backend)
    push(store, "gone", 1)
    push(store, "data", 2)
    store.remove("gone", [1])
    version = store.version("data")
    manifest = Objects(backend).get_manifest(version.manifest_id)
    backend.delete([layout.pack_key(hint.pack_id) for hint in manifest.packs])
    before = packs_of(backend)
    with pytest.raises(MissingObjectError, match="data@1") as caught:
        store.gc(**NOW)
    assert "nothing was deleted" in (caught.value.hint or "")
    assert packs_of(backend) == before


def test_a_missing_manifest_stops_it(backend: MemoryBackend) -> None:
    """So does a version whose manifest is gone."""
    store = open_store(backend)
    push(store, "gone", 1)
    push(store, "data", 2)
    store.remove("gone", [1])
    backend.delete([layout.manifest_key(store.version("data").manifest_id)])
    before = packs_of(backend)
    with pytest.raises(MissingObjectError, match="data@1"):
        store.gc(**NOW)
    assert packs_of(backend) == before


def test_more_than_half_must_be_meant(backend: MemoryBackend) -> None:
    """A plan that would delete most of the store is refused without `force`."""
    store = open_store(backend)
    push(store, "data", 1)
    push(store, "gone", 2, 3, 4)
    store.remove("gone", [1])
    assert "more than half" in store.gc(grace=0).plan.refusal
    before = packs_of(backend)
    with pytest.raises(RefusedError, match="more than half"):
        store.gc(**NOW | {"force": False})
    assert packs_of(backend) == before
    store.gc(**NOW)
    assert packs_of(backend) < before


def test_a_storage_that_shows_less_must_be_meant(backend: MemoryBackend) -> None:
    """A LIST with fewer refs than the last collection left is no ground to delete on."""
    store = open_store(backend)
    for seed in range(1, 6):
        push(store, f"data-{seed}", seed)
    push(store, "gone", 9)
    store.remove("gone", [1])
    store.gc(**NOW)
    push(store, "gone", 10)
    store.remove("gone", [2])
    backend.delete([layout.ref_key("data-2")])
    with pytest.raises(RefusedError, match="refs"):
        store.gc(**NOW | {"force": False})


def test_a_ref_that_was_lost_must_be_meant(backend: MemoryBackend) -> None:
    """Manifests of a dataset whose ref is gone are what it can be found by again."""
    store = open_store(backend)
    push(store, "data", 1)
    push(store, "lost", 2)
    backend.delete([layout.ref_key("lost")])
    before = packs_of(backend)
    assert "'lost'" in store.gc(grace=0).plan.refusal
    with pytest.raises(RefusedError, match="'lost'"):
        store.gc(**NOW | {"force": False})
    assert packs_of(backend) == before


def test_the_plan_is_confirmed_before_anything_changes(backend: MemoryBackend) -> None:
    """What the confirmation raises ends the run, with the store as it was."""
    store = open_store(backend)
    push(store, "gone", 2)
    store.remove("gone", [1])
    counting = CountingBackend(backend)

    def no(plan: GcPlan) -> None:
        raise RefusedError(f"no: {plan.dead_packs}")

    with pytest.raises(RefusedError, match="no: 1"):
        open_store(counting).gc(**NOW, confirm=no)
    assert counting.requests["put"] == counting.requests["delete"] == 0


def test_many_segments_become_few(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection merges small index segments, where it has nothing else to do too."""
    monkeypatch.setattr(View, "compact", lambda *_: None)
    for number in range(40):
        push(open_store(backend), "data", number, size=2000)
    store = open_store(backend)
    before = len(Objects(backend).list_segments())
    world = worlds.observe(backend)
    result = store.gc(**NOW)
    assert len(Objects(backend).list_segments()) < before
    assert result.plan.nothing
    assert worlds.observe(backend) == world


def test_on_real_storage(place: Place, tmp_path: Path) -> None:
    """The same on a folder, SeaweedFS and MinIO: what is dropped goes, the rest reads back."""
    (tmp_path / "one").write_bytes(random_bytes(3_000_000, 1))
    (tmp_path / "two").write_bytes(random_bytes(3_000_000, 2))
    with place.create() as store:
        store.push(tmp_path / "one", "data")
        store.push(tmp_path / "two", "data")
        before = store.stat()
        store.remove("data", [1])
        result = store.gc(**NOW)
        after = store.stat()
        assert after.pack_bytes == before.pack_bytes - result.deleted_bytes
        assert result.deleted_bytes > 3_000_000
        store.pull("data", tmp_path / "out")
    assert (tmp_path / "out" / "two").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_collection_that_never_comes_to_act_is_a_conflict(backend: MemoryBackend) -> None:
    """Where others collect each time before this one can condemn, it gives up as a conflict."""
    store = open_store(backend)
    push(store, "gone", 2)
    store.remove("gone", [1])

    def meddle(_: int, method: str, key: str) -> None:
        if method == "put" and key == layout.GC_CURRENT:
            other: Callable[..., GcResult] = open_store(backend).gc
            push(open_store(backend), "more", len(packs_of(backend)) + 50)
            open_store(backend).remove("more", [open_store(backend).version("more").number])
            other(**NOW)
            push(open_store(backend), "gone", len(packs_of(backend)) + 90)
            open_store(backend).remove("gone", [open_store(backend).version("gone").number])

    with pytest.raises(ConflictError, match="other collections"):
        open_store(MeddlingBackend(backend, before=meddle)).gc(**NOW)
