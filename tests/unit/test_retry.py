"""RetryBackend: what is tried again, for how long, and what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from chunkstore.backends.base import (
    Backend,
    Capabilities,
    CreateOnly,
    Fetched,
    ObjectInfo,
    Overwrite,
    ReplaceIf,
)
from chunkstore.backends.memory import MemoryBackend
from chunkstore.backends.retry import DEFAULT_DEADLINE, FIRST_DEADLINE, RetryBackend
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)
from chunkstore.testing.backends import CountingBackend, FaultBackend, FaultKind

FOR_EVER = range(1, 10_000)


@dataclass
class Clock:
    """A clock that only sleeping moves, and the pauses that were slept."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory() -> MemoryBackend:
    backend = MemoryBackend()
    backend.put("key", [b"bytes"], CreateOnly())
    return backend


def around(inner: Backend, clock: Clock, *, jitter: float = 1.0, **options: float) -> RetryBackend:
    """Return retries by a clock of the test's own, with the same share of every pause."""
    return RetryBackend(
        inner, clock=lambda: clock.now, sleep=clock.sleep, jitter=lambda: jitter, **options
    )


def failing(error: BackendError) -> Callable[[str, str], BaseException]:
    return lambda _method, _key: error


def calls(backend: Backend) -> dict[str, Callable[[], object]]:
    """Every method that is tried again, by name."""
    return {
        "get": lambda: backend.get("key"),
        "put": lambda: backend.put("key", [b"new"], Overwrite()),
        "head": lambda: backend.head("key"),
        "list": lambda: list(backend.list("")),
        "delete": lambda: backend.delete(["key"]),
    }


METHODS = ("get", "put", "head", "list", "delete")


@pytest.mark.parametrize("kind", ["before", "after", "torn"])
@pytest.mark.parametrize("method", METHODS)
def test_what_may_succeed_later_is_tried_again(
    memory: MemoryBackend, clock: Clock, method: str, kind: FaultKind
) -> None:
    """Three failures in a row, of whatever kind, do not show in the result of any method."""
    faulty = FaultBackend(memory, at=[1, 2, 3], kind=kind, methods=[method])
    untouched = MemoryBackend()
    untouched.put("key", [b"bytes"], CreateOnly())
    outcome = calls(around(faulty, clock))[method]()
    expected = calls(untouched)[method]()
    assert faulty.faults == 3
    assert len(clock.pauses) == 3
    if method == "get":
        assert isinstance(outcome, Fetched)
        assert outcome.data == b"bytes"
    elif method == "list":
        assert isinstance(outcome, list)
        assert [info.key for info in outcome] == ["key"]
    else:
        assert type(outcome) is type(expected)
    stored = {info.key: memory.get(info.key).data for info in memory.list("")}
    assert stored == {i.key: untouched.get(i.key).data for i in untouched.list("")}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error",
    [
        KeyAbsentError("absent", operation="get"),
        ConditionFailedError("lost", operation="put"),
        PermissionDeniedError("refused", operation="put"),
        StorageFullError("full", operation="put"),
        UnavailableError("too short", operation="get", retryable=False),
        BackendError("odd", operation="get"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_succeed_later_is_raised_at_once(
    memory: MemoryBackend, clock: Clock, method: str, error: BackendError
) -> None:
    """An error that is not retryable goes through as it is, after one call."""
    faulty = FaultBackend(memory, at=FOR_EVER, methods=[method], error=failing(error))
    with pytest.raises(type(error)) as caught:
        calls(around(faulty, clock))[method]()
    assert caught.value is error
    assert faulty.faults == 1
    assert clock.pauses == []


def test_bad_input_is_not_tried_again(memory: MemoryBackend, clock: Clock) -> None:
    """What the caller did wrong stays wrong."""
    with pytest.raises(InvalidInputError):
        around(memory, clock).get("../key")
    assert clock.pauses == []


@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0])
def test_pauses_grow_and_are_bounded(memory: MemoryBackend, clock: Clock, jitter: float) -> None:
    """The n-th pause is between half and all of 0.1 s doubled n times, at most 5 s."""
    backend = around(FaultBackend(memory, at=range(2, 12)), clock, jitter=jitter, deadline=10_000)
    for _ in range(2):
        backend.get("key")
    longest = [min(5.0, 0.1 * 2**n) for n in range(10)]
    expected = [pause * (1 + jitter) / 2 for pause in longest]
    assert clock.pauses == pytest.approx(expected)
    assert all(most / 2 <= pause <= most for pause, most in zip(clock.pauses, longest, strict=True))


def test_a_storage_that_has_answered_is_waited_for_until_the_deadline(
    memory: MemoryBackend, clock: Clock
) -> None:
    """The last try is at the deadline, not before; the error has address, cause and remedy."""
    faulty = FaultBackend(memory, at=range(2, 10_000))
    backend = around(faulty, clock, deadline=60)
    backend.get("key")
    started = clock.now
    with pytest.raises(UnavailableError, match=r"failed on purpose; given up after 60 s") as c:
        backend.get("key")
    assert clock.now - started == pytest.approx(60)
    assert isinstance(c.value.__cause__, BackendError)
    assert c.value.hint is not None
    assert (c.value.operation, c.value.key) == ("get", "key")
    assert not c.value.retryable  # so that retries around retries do not wait twice


def test_each_call_has_the_whole_deadline(memory: MemoryBackend, clock: Clock) -> None:
    """What one call has waited is not taken from the next."""
    faulty = FaultBackend(memory, at=[n for n in range(2, 400) if n % 10])
    backend = around(faulty, clock, deadline=30)
    for _ in range(30):
        assert backend.get("key").data == b"bytes"
    assert clock.now > 1000 + 10 * 30


def test_a_storage_that_never_answered_is_waited_for_a_short_time(
    memory: MemoryBackend, clock: Clock
) -> None:
    """Until the first answer the address may be wrong, so the wait is short."""
    backend = around(FaultBackend(memory, at=FOR_EVER), clock, deadline=DEFAULT_DEADLINE)
    with pytest.raises(UnavailableError, match=f"given up after {FIRST_DEADLINE:.0f} s"):
        backend.get("key")
    assert clock.now - 1000 == pytest.approx(FIRST_DEADLINE)


def test_a_refusal_is_an_answer_too(memory: MemoryBackend, clock: Clock) -> None:
    """A storage that says no is there, so the next call waits for the whole deadline."""
    backend = around(FaultBackend(memory, at=range(2, 10_000)), clock, deadline=100)
    with pytest.raises(KeyAbsentError):
        backend.get("absent")
    with pytest.raises(UnavailableError, match="given up after 100 s"):
        backend.get("key")


def test_a_deadline_of_nothing_means_one_try(memory: MemoryBackend, clock: Clock) -> None:
    """With deadline 0 the first failure is the last."""
    faulty = FaultBackend(memory, at=FOR_EVER)
    with pytest.raises(UnavailableError):
        around(faulty, clock, deadline=0).get("key")
    assert faulty.faults == 1


def test_each_failure_is_told(
    memory: MemoryBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_retry` hears of every error that is tried again; the log has it with the time left."""
    told: list[BackendError] = []
    backend = RetryBackend(
        FaultBackend(memory, at=[1, 2]),
        clock=lambda: clock.now,
        sleep=clock.sleep,
        on_retry=told.append,
    )
    backend.get("key")
    assert [error.key for error in told] == ["key", "key"]
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]
    assert "trying again for 20 s" in caplog.records[0].getMessage()


@pytest.mark.parametrize("condition", ["create only", "replace if"])
def test_a_lost_answer_shows_as_a_lost_condition(
    memory: MemoryBackend, clock: Clock, condition: str
) -> None:
    """A conditional put that meets its own success is refused; reading back tells."""
    mode = CreateOnly() if condition == "create only" else ReplaceIf(memory.head("key").version)
    key = "new" if condition == "create only" else "key"
    backend = around(FaultBackend(memory, at=[1], kind="after", methods=["put"]), clock)
    with pytest.raises(ConditionFailedError):
        backend.put(key, [b"mine"], mode)
    assert backend.get(key).data == b"mine"


def test_the_probe_is_not_hidden(clock: Clock) -> None:
    """Racing writers meet the storage itself: a retried write would seem to have lost."""
    counting = CountingBackend(MemoryBackend())
    assert around(counting, clock).probe() == Capabilities("memory", True, True)


# listings


class Paged(MemoryBackend):
    """A memory whose listings fail now and then, and can or cannot be gone on with."""

    def __init__(self, *, resumable: bool, fail_before: list[int]) -> None:
        super().__init__()
        self.resumable = resumable
        self.fail_before = fail_before
        self.begun = 0
        for number in range(10):
            self.put(f"{number:02}", [b"x"], CreateOnly())

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        self.begun += 1
        return _Listing(self, list(super().list(prefix, after=after)))


class _Listing(Iterator[ObjectInfo]):
    def __init__(self, backend: Paged, found: list[ObjectInfo]) -> None:
        self.resumable = backend.resumable
        self._backend = backend
        self._found = found
        self._at = 0

    def __next__(self) -> ObjectInfo:
        if self._backend.fail_before and self._backend.fail_before[0] == self._at:
            self._backend.fail_before.pop(0)
            raise UnavailableError("page failed", operation="list", retryable=True)
        if self._at == len(self._found):
            raise StopIteration
        self._at += 1
        return self._found[self._at - 1]


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize("fail_before", [[0], [10], [3, 3, 3], [1, 5, 9], [0, 0, 10, 10]])
def test_a_listing_that_failed_loses_and_doubles_nothing(
    clock: Clock, resumable: bool, fail_before: list[int]
) -> None:
    """Wherever pages fail, each key comes once and in order; only what can be is gone on with."""
    failures = len(fail_before)
    inner = Paged(resumable=resumable, fail_before=fail_before)
    keys = [info.key for info in around(inner, clock).list("")]
    assert keys == [f"{number:02}" for number in range(10)]
    assert len(clock.pauses) == failures
    assert inner.begun == (1 if resumable else 1 + failures)


def test_a_listing_that_fails_for_ever_raises(clock: Clock, memory: MemoryBackend) -> None:
    """A listing never ends early without an error."""
    faulty = FaultBackend(memory, at=FOR_EVER, methods=["list"], kind="torn")
    with pytest.raises(UnavailableError):
        list(around(faulty, clock, deadline=5).list(""))


def test_time_between_items_is_not_counted(clock: Clock) -> None:
    """A slow reader of a listing does not use up its deadline."""
    backend = around(Paged(resumable=True, fail_before=[5, 5]), clock, deadline=1)
    seen = 0
    for _ in backend.list(""):
        seen += 1
        clock.now += 100
    assert seen == 10


# closing


def test_closing_wakes_sleepers(memory: MemoryBackend) -> None:
    """A call that waits to try again ends with its error when the backend is closed."""
    retried, ended = threading.Event(), threading.Event()
    failures: list[BaseException] = []
    backend = RetryBackend(
        FaultBackend(memory, at=FOR_EVER),
        deadline=3600,
        jitter=lambda: 1.0,
        on_retry=lambda _: retried.set(),
    )

    def call() -> None:
        try:
            backend.get("key")
        except BackendError as error:
            failures.append(error)
        ended.set()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    assert retried.wait(60)
    backend.close()
    assert ended.wait(60)
    assert isinstance(failures[0], UnavailableError)
    assert "on purpose" in str(failures[0])


def test_a_closed_backend_does_not_wait(memory: MemoryBackend, clock: Clock) -> None:
    """After `close` a failure is final."""
    backend = around(FaultBackend(memory, at=FOR_EVER), clock)
    backend.close()
    with pytest.raises(UnavailableError):
        backend.get("key")
    assert clock.pauses == []
