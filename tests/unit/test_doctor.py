"""doctor: each thing that can be wrong is found, named, and comes with advice."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from chunkstore import layout
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.errors import PermissionDeniedError
from chunkstore.format.gc import GcState, encode_condemned, encode_gc_state
from chunkstore.objects import Objects
from chunkstore.testing.backends import FaultBackend
from chunkstore.testing.trees import random_bytes
from chunkstore.values import DoctorCheck
from tests.faults.worlds import new_store, open_store


def checks_of(
    backend: MemoryBackend | FaultBackend, cache: Path | None = None
) -> dict[str, DoctorCheck]:
    return {check.name: check for check in open_store(backend, cache).doctor()}


def test_all_is_well(tmp_path: Path) -> None:
    """Nothing is wrong with a new store, and nothing is left in it."""
    backend = MemoryBackend()
    new_store(backend)
    found = checks_of(backend, tmp_path / "cache")
    assert all(check.ok for check in found.values())
    assert [info.key for info in backend.list("")] == ["config"]
    assert list(found) == [
        *("storage", "rights", "clock", "latency"),
        *("chunker", "index", "spread", "gc", "cache"),
    ]


@pytest.mark.parametrize(("seconds", "word"), [(600.5, "ahead of"), (-7200, "behind")])
def test_a_clock_that_is_off(seconds: float, word: str) -> None:
    """By more than a minute, ahead or behind, is told with the number of seconds."""
    backend = MemoryBackend(clock=lambda: time.time() + seconds)
    new_store(backend)
    check = checks_of(backend)["clock"]
    assert not check.ok
    assert f" s {word} this machine's" in check.detail
    assert check.hint is not None


@pytest.mark.parametrize(
    ("method", "advice"), [("delete", "gc cannot run"), ("put", "push does not")]
)
def test_rights_that_lack(method: str, advice: str) -> None:
    """What the credentials may not do is named, and what does not work without."""
    backend = MemoryBackend()
    new_store(backend)

    def denied(name: str, key: str) -> BaseException:
        return PermissionDeniedError(f"{name} of {key} is denied", operation=name, key=key)

    faulty = FaultBackend(backend, at=range(1, 1000), methods=[method], error=denied)
    check = checks_of(faulty)["rights"]
    assert not check.ok
    assert f"may not {'write' if method == 'put' else method}" in check.detail
    assert advice in (check.hint or "")


def test_a_collection_that_was_broken_off() -> None:
    """Condemned packs that are left are counted, with the command that ends it."""
    backend = MemoryBackend()
    new_store(backend)
    open_store(backend).push(io.BytesIO(random_bytes(20_000, 1)), "data", name="file")
    packs = frozenset(pack for pack, _ in Objects(backend).list_packs())
    backend.put("gc/condemned/3-test", [encode_condemned(packs)], Overwrite())
    backend.put(
        layout.GC_CURRENT, [encode_gc_state(GcState(3, "gc/condemned/3-test"))], Overwrite()
    )
    check = checks_of(backend)["gc"]
    assert not check.ok
    assert f"{len(packs)} condemned pack" in check.detail
    assert "gc with --apply" in (check.hint or "")
    backend.put(layout.GC_CURRENT, [encode_gc_state(GcState(4, ""))], Overwrite())
    assert checks_of(backend)["gc"].detail == "collected 4 times"


def test_damage_that_it_meets() -> None:
    """A check that meets damage is not well; the others go on."""
    backend = MemoryBackend()
    new_store(backend)
    backend.put(layout.GC_CURRENT, [b"nonsense"], Overwrite())
    found = checks_of(backend)
    assert not found["gc"].ok
    assert layout.GC_CURRENT in found["gc"].detail
    assert found["spread"].ok
