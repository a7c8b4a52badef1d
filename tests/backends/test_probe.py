"""The probe: what racing writers find out, also of a storage that fails meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from chunkstore.backends.base import (
    Backend,
    Buffer,
    CreateOnly,
    ObjectInfo,
    Overwrite,
    PutMode,
    ReplaceIf,
)
from chunkstore.backends.emulated import CheckThenPutBackend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.backends.probe import race
from chunkstore.errors import PermissionDeniedError, UnavailableError
from chunkstore.testing.backend_suite import keys_of
from chunkstore.testing.backends import CountingBackend, FaultBackend


class Ignoring(MemoryBackend):
    """A storage that takes no notice of some conditions."""

    def __init__(self, *ignored: type[object]) -> None:
        super().__init__()
        self._ignored = ignored

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        return super().put(key, data, Overwrite() if isinstance(mode, self._ignored) else mode)


class Slow(MemoryBackend):
    """A storage whose answers to `head` take a moment, in which others write."""

    def head(self, key: str) -> ObjectInfo:
        try:
            return super().head(key)
        finally:
            time.sleep(0.01)


class Refusing(MemoryBackend):
    """A storage that lets nobody win."""

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        if isinstance(mode, CreateOnly):
            super().put(key, [b"of somebody else"], Overwrite())
        return super().put(key, data, mode)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (MemoryBackend(), (True, True)),
        (Ignoring(CreateOnly, ReplaceIf), (False, False)),
        (Ignoring(CreateOnly), (False, True)),
        (Ignoring(ReplaceIf), (True, False)),
        (CheckThenPutBackend(Slow()), (False, False)),
        (Refusing(), (False, True)),
    ],
    ids=["both", "neither", "replace only", "create only", "looks first", "nobody wins"],
)
def test_each_condition_is_found_out(backend: Backend, expected: tuple[bool, bool]) -> None:
    """A condition is honoured where exactly one of racing writers wins, every time."""
    assert race(backend) == expected
    assert keys_of(backend) == []


def test_failures_that_pass_do_not_decide() -> None:
    """A round in which an answer was lost says nothing and is run again."""
    for kind in ("before", "after"):
        faulty = FaultBackend(MemoryBackend(), at=[3, 14], kind=kind, methods=["put"])
        assert race(_Patient(faulty)) == (True, True)
        assert faulty.faults == 2
        assert keys_of(faulty) == []


class _Patient(CountingBackend):
    """Makes good what the probe does before a round, so that faults meet its racing writes."""

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        if not isinstance(mode, Overwrite):
            return super().put(key, data, mode)
        while True:
            try:
                return super().put(key, data, mode)
            except UnavailableError:
                continue


def test_a_storage_that_fails_for_ever_is_an_error() -> None:
    """Nothing is claimed of a storage that could not be tried."""
    with pytest.raises(UnavailableError):
        race(FaultBackend(MemoryBackend(), at=range(1, 10_000), methods=["put"]))


def test_a_storage_that_may_not_be_written_is_an_error() -> None:
    """A refusal is passed on as it is, and not taken for a lost race."""
    refused = PermissionDeniedError("no", operation="put")
    backend = FaultBackend(
        MemoryBackend(), at=range(1, 10_000), methods=["put"], error=lambda *_: refused
    )
    with pytest.raises(PermissionDeniedError):
        race(backend)


def test_the_probe_is_cheap() -> None:
    """It makes at most 40 requests, and reads nothing."""
    backend = CountingBackend(MemoryBackend())
    race(backend)
    assert sum(backend.requests.values()) <= 40
    assert backend.requests["get"] == 0
