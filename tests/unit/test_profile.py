"""The clock of stages: what it counts, and that it costs nothing where it does not run."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from chunkstore import profile
from chunkstore.profile import OFF, WAIT, Profile, ProfileReport, StageTime


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that go on by a second whenever they are read."""
    for name in ("perf_counter_ns", "thread_time_ns", "process_time_ns"):
        ticks = itertools.count(0, 1_000_000_000)
        monkeypatch.setattr(profile.time, name, lambda ticks=ticks: next(ticks))


def stage(report: ProfileReport, name: str) -> StageTime:
    (found,) = (each for each in report.stages if each.stage == name)
    return found


def test_a_clock_that_is_off_is_not_there() -> None:
    """Nothing stands between the caller and the function where nobody profiles."""
    assert OFF.timed("cut", len) is len


def test_an_inner_stage_is_no_part_of_the_outer_one(ticking: None) -> None:
    """The stages of a thread add up to what its outermost functions took."""
    clock = Profile()
    inner = clock.timed("inner", lambda: None)
    clock.timed("outer", lambda: (inner(), inner()))()
    report = clock.report()
    assert (stage(report, "inner").wall_seconds, stage(report, "inner").calls) == (2, 2)
    # The outer clock was read at its begin and end, and twice by each inner one: 5 seconds.
    assert stage(report, "outer").wall_seconds == 5 - 2
    assert report.groups[0].cpu_seconds == 5


def test_what_raises_counts_too(ticking: None) -> None:
    """A call that raised has taken its time, but has dealt with no bytes."""
    clock = Profile()
    with pytest.raises(ValueError, match="invalid"):
        clock.timed("parse", int, lambda *_: 100)("x")
    assert (stage(clock.report(), "parse").calls, stage(clock.report(), "parse").bytes) == (1, 0)


def test_bytes_are_those_that_calls_dealt_with() -> None:
    """The bytes of a stage are the sum over its calls."""
    clock = Profile()
    read = clock.timed("read", lambda size: b"x" * size, lambda data, _: len(data))
    assert [read(size) for size in (3, 0, 4)] == [b"xxx", b"", b"xxxx"]
    assert stage(clock.report(), "read").bytes == 7


def test_threads_are_grouped_by_name() -> None:
    """Threads of one pool are one group, all others the caller."""
    clock = Profile()
    barrier = threading.Barrier(2)
    work = clock.timed("work", barrier.wait)
    with ThreadPoolExecutor(2, "chunkstore-pool") as pool:
        for future in [pool.submit(work), pool.submit(work)]:
            clock.wait(future)
    report = clock.report()
    assert {(each.group, each.threads) for each in report.groups} == {("pool", 2), ("caller", 1)}
    assert (stage(report, "work").group, stage(report, "work").calls) == ("pool", 2)
    assert stage(report, WAIT).group == "caller"


def test_who_waits_is_not_busy(ticking: None) -> None:
    """Waiting for another thread takes wall time and is no work."""
    clock = Profile()
    clock.timed(WAIT, lambda: None)()
    assert [group.busy for group in clock.report().groups] == [0]
