"""Versions that were dropped can be brought back until a collection lets them go; thinning out."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from chunkstore import IntegrityError, InvalidInputError, NotFoundError, Store
from chunkstore.backends.memory import MemoryBackend
from chunkstore.retention import Retention
from chunkstore.testing.backends import MeddlingBackend
from chunkstore.testing.trees import random_bytes
from tests.faults import worlds
from tests.faults.worlds import new_store, open_store

NOW: dict[str, Any] = {"apply": True, "grace": 0, "reader_grace": 0, "force": True}


@pytest.fixture
def backend() -> MemoryBackend:
    """A store with five versions of `data`; the second has the tag `good`."""
    made = MemoryBackend()
    new_store(made)
    store = open_store(made)
    for number in range(1, 6):
        tags = ["good"] if number == 2 else []
        store.push(io.BytesIO(random_bytes(9_000, number)), "data", name="file", tags=tags)
    return made


def numbers(store: Store) -> list[int]:
    return [version.number for version in store.dataset("data").versions]


def test_what_was_dropped_last_comes_back(backend: MemoryBackend) -> None:
    """With number, tags and every byte; dropping and undoing again changes nothing else."""
    store = open_store(backend)
    world = worlds.observe(backend)
    store.remove("data", [1])
    store.remove("data", [2, 3])
    assert [(v.number, v.tags) for v in store.dropped("data")] == [(1, ()), (2, ("good",)), (3, ())]
    assert [v.number for v in store.undo("data")] == [2, 3]
    assert store.version("data@good").number == 2
    assert [v.number for v in store.undo("data")] == [1]
    assert worlds.observe(backend) == world
    with pytest.raises(NotFoundError, match="no dropped versions"):
        store.undo("data")


def test_a_tag_that_was_given_away_stays_there(backend: MemoryBackend) -> None:
    """A version that comes back takes no tag from another one."""
    store = open_store(backend)
    store.remove("data", [2])
    store.tag("data@3", "good")
    (back,) = store.undo("data", [2])
    assert back.tags == ()
    assert store.version("data@good").number == 3


def test_within_the_grace_nothing_of_it_goes(backend: MemoryBackend) -> None:
    """A collection with a grace keeps what was dropped within it; one without lets it go."""
    store = open_store(backend)
    world = worlds.observe(backend)
    store.remove("data", [1, 2])
    plan = store.gc(**NOW | {"grace": 3600}).plan
    assert (plan.versions, plan.restorable, plan.expired) == (5, 2, 0)
    store.undo("data")
    assert worlds.observe(backend) == world
    store.remove("data", [1, 2])
    result = store.gc(**NOW)
    assert (result.plan.versions, result.plan.expired) == (3, 2)
    assert result.deleted_manifests == 2
    assert store.dropped("data") == []
    with pytest.raises(NotFoundError, match="cannot be brought back"):
        store.undo("data", [1])


def test_a_rule_thins_out(backend: MemoryBackend) -> None:
    """What any part of it keeps stays; so do the latest and what has a tag."""
    store = open_store(backend)
    found = store.thin("data", Retention(last=2), dry_run=True)
    assert [version.number for version in found.dropped] == [1, 3]
    reasons = {version.number: reason for version, reason in found.kept}
    assert reasons == {2: "tagged good", 4: "one of the last 2", 5: "latest"}
    assert numbers(store) == [1, 2, 3, 4, 5]
    assert store.thin("data", Retention(last=2)) == found
    assert numbers(store) == [2, 4, 5]
    assert not store.thin("data", Retention(within=3600)).dropped
    assert [v.number for v in store.thin("data", Retention(tags=["g*"])).dropped] == [4]
    assert [v.number for v in store.thin("data", Retention(last=1, tags=["v*"])).dropped] == [2]
    assert numbers(store) == [5]


@pytest.mark.parametrize("parts", [{}, {"last": 0}, {"within": -1.0}])
def test_a_rule_says_what_is_kept(parts: dict[str, Any]) -> None:
    """One that keeps nothing, or cannot be, is refused."""
    with pytest.raises(InvalidInputError):
        Retention(**parts)


def test_a_collection_thins_out_first(backend: MemoryBackend) -> None:
    """In every dataset; with a grace the space is freed later, without one at once."""
    store = open_store(backend)
    store.push(io.BytesIO(b"one"), "other", name="file")
    store.push(io.BytesIO(b"two"), "other", name="file")
    keep = Retention(last=1)
    plan = store.gc(grace=0, keep=keep).plan
    assert plan.dropped == (("data", 1), ("data", 3), ("data", 4), ("other", 1))
    assert numbers(store) == [1, 2, 3, 4, 5]
    store.gc(**NOW | {"grace": 3600, "keep": keep})
    assert numbers(store) == [2, 5]
    assert len(store.dropped("data")) == 3
    store.undo("data")
    packs = store.stat().packs
    store.gc(**NOW | {"keep": keep})
    assert numbers(store) == [2, 5]
    assert store.dropped("data") == []
    assert store.stat().packs < packs
    worlds.observe(backend)


def test_times_of_the_rule_are_those_of_the_commit(backend: MemoryBackend) -> None:
    """`within` looks at when a version was committed."""
    store = open_store(backend)
    created = store.version("data@3").created_ns / 1e9
    rule = Retention(within=time.time() - created + 3600)
    assert not store.thin("data", rule).dropped
    assert [v.number for v in store.thin("data", Retention(within=0)).dropped] == [1, 3, 4]


def test_verify_looks_at_what_can_be_brought_back(backend: MemoryBackend) -> None:
    """A dropped version counts until a collection has let it go, and damage to it is damage."""
    store = open_store(backend)
    doomed = store.version("data@2")
    store.remove("data", [2, 3])
    assert store.verify().versions == 5
    backend.delete([f"manifests/{doomed.manifest_id.hex()}"])
    for addresses in ([], ["data"]):
        (damage,) = store.verify(addresses).damage
        assert damage.versions == (("data", 2, 1),)
    assert store.verify(["data@1"]).well
    with pytest.raises(IntegrityError) as raised:
        store.gc(apply=True)
    assert "once its --grace is over" in (raised.value.hint or "")
    store.gc(**NOW)
    result = store.verify()
    assert result.well
    assert result.versions == 3


def test_verify_names_a_dataset_of_which_all_is_dropped(backend: MemoryBackend) -> None:
    """Its versions can be brought back, so they are looked at; of an empty one there is nothing."""
    store = open_store(backend)
    store.remove("data", [1, 2, 3, 4, 5])
    assert store.verify(["data"]).versions == 5
    store.gc(**NOW)
    with pytest.raises(NotFoundError, match="has no versions"):
        store.verify(["data"])


def test_a_version_that_is_let_go_while_verify_looks_is_no_damage(backend: MemoryBackend) -> None:
    """A collection works when the ref was read, so that verify looks twice, and one at any call."""
    for late in range(1, 100):
        fresh, looks = worlds.copy_of(backend), list[int]()
        store = open_store(fresh)
        store.remove("data", [2])

        def meddle(
            number: int,
            method: str,
            key: str,
            store: Store = store,
            looks: list[int] = looks,
            late: int = late,
        ) -> None:
            if (method, key) == ("get", "refs/data"):
                looks.append(number)
                if len(looks) == 1:
                    store.gc(**NOW)
            if number == late:
                store.remove("data", [3])
                store.gc(**NOW)

        meddling = MeddlingBackend(fresh, after=meddle)
        assert open_store(meddling).verify(level="data").damage == (), late
        assert len(looks) >= 2 or late < looks[0]
        if late > meddling.calls:
            break
    else:
        pytest.fail("verify makes more calls")
