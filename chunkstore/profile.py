"""Where the time of a push or pull goes: CPU, wall time and bytes of its stages.

A Clock is passed down; whoever has a stage of its own has the function that does it `timed`, once
for many calls. The clock of an operation that nobody profiles hands the function back as it is, so
it costs nothing. Stages nest: what an inner one takes is no part of the outer one, so the outermost
function of a thread stands for all that has no stage of its own. Stands below everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

WAIT: Final = "wait"
"""The stage in which a thread waits for another one: it is idle, whatever the wall says."""

_PREFIX: Final = "chunkstore-"  # of the names of the library's own threads


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """What one stage took in all threads of one group.

    Attributes:
        group: the threads: "caller", or what the names of the library's own have in common.
        stage: what was done.
        calls: how often.
        cpu_seconds: CPU that these threads spent on it.
        wall_seconds: how long it took, summed up over the threads.
        bytes: what went through, 0 where nothing is counted.
    """

    group: str
    stage: str
    calls: int
    cpu_seconds: float
    wall_seconds: float
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTime:
    """What the threads of one group did in all.

    Attributes:
        group: as in StageTime.
        threads: how many of them did anything.
        cpu_seconds: CPU that they spent.
        busy: wall time in stages other than "wait", as a share of what all of them had: 0 to 1. A
            group near 1 is what the operation waits for.
    """

    group: str
    threads: int
    cpu_seconds: float
    busy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileReport:
    """Where the time went.

    Attributes:
        seconds: from the making of the Profile to this report.
        cpu_seconds: CPU of the whole process meanwhile, with what is in no stage.
        groups: one for each group of threads.
        stages: in the order in which the groups stand, the dearest stage first.
    """

    seconds: float
    cpu_seconds: float
    groups: tuple[GroupTime, ...]
    stages: tuple[StageTime, ...]


class Clock:
    """The clock of an operation that nobody profiles; `Profile` is the one that runs."""

    def timed(
        self,
        stage: str,
        function: Callable[Parameters, Result],
        size: Callable[..., int] | None = None,
    ) -> Callable[Parameters, Result]:
        """Return `function`, each call of which counts as `stage`.

        `size` gets the result and the positional arguments of a call, and returns its bytes.
        """
        del stage, size
        return function

    def wait(self, future: Future[Result]) -> Result:
        """Return what a future gives, or raise what it raises; the time counts as WAIT."""
        return self.timed(WAIT, future.result)()


OFF: Final = Clock()


@dataclass(slots=True)
class _Total:
    calls: int = 0
    cpu: int = 0
    wall: int = 0
    size: int = 0


@dataclass(slots=True)
class _Thread:
    """What one thread has done; only that thread writes to it."""

    group: str
    totals: dict[str, _Total] = field(default_factory=dict)
    inner_cpu: int = 0  # of stages that have ended inside the one that runs
    inner_wall: int = 0


class Profile(Clock):
    """The clock of one push or pull. Its own cost is about 2 us for each call that it counts."""

    def __init__(self) -> None:
        """Start the clock."""
        self._lock = threading.Lock()
        self._threads: list[_Thread] = []
        self._local = threading.local()
        self._started = time.perf_counter_ns()
        self._cpu_before = time.process_time_ns()

    def timed(
        self,
        stage: str,
        function: Callable[Parameters, Result],
        size: Callable[..., int] | None = None,
    ) -> Callable[Parameters, Result]:
        """Return `function`, each call of which counts as `stage`; see Clock.timed."""

        def run(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
            thread = self._thread()
            outer_cpu, outer_wall = thread.inner_cpu, thread.inner_wall
            thread.inner_cpu = thread.inner_wall = 0
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            try:
                result = function(*arguments, **named)
            finally:
                cpu = time.thread_time_ns() - cpu
                wall = time.perf_counter_ns() - wall
                total = thread.totals.setdefault(stage, _Total())
                total.calls += 1
                total.cpu += cpu - thread.inner_cpu
                total.wall += wall - thread.inner_wall
                thread.inner_cpu, thread.inner_wall = outer_cpu + cpu, outer_wall + wall
            if size is not None:
                total.size += size(result, *arguments)
            return result

        return run

    def _thread(self) -> _Thread:
        thread: _Thread | None = getattr(self._local, "thread", None)
        if thread is None:
            name = threading.current_thread().name
            own = name.startswith(_PREFIX)
            thread = _Thread(name.removeprefix(_PREFIX).partition("_")[0] if own else "caller")
            self._local.thread = thread
            with self._lock:
                self._threads.append(thread)
        return thread

    def report(self) -> ProfileReport:
        """Return where the time went until now; call it when the operation has ended."""
        wall = time.perf_counter_ns() - self._started
        cpu = time.process_time_ns() - self._cpu_before
        with self._lock:
            threads = list(self._threads)
        groups: list[GroupTime] = []
        stages: list[StageTime] = []
        for group in dict.fromkeys(thread.group for thread in threads):
            members = [thread for thread in threads if thread.group == group]
            found = sorted(_sum(group, members), key=lambda time: -time.wall_seconds)
            busy = sum(each.wall_seconds for each in found if each.stage != WAIT)
            groups.append(
                GroupTime(
                    group=group,
                    threads=len(members),
                    cpu_seconds=sum(each.cpu_seconds for each in found),
                    busy=min(1.0, busy / max(wall / 1e9 * len(members), 1e-9)),
                )
            )
            stages += found
        return ProfileReport(
            seconds=wall / 1e9, cpu_seconds=cpu / 1e9, groups=tuple(groups), stages=tuple(stages)
        )


def _sum(group: str, threads: list[_Thread]) -> list[StageTime]:
    names = dict.fromkeys(name for thread in threads for name in thread.totals)
    found = []
    for name in names:
        totals = [thread.totals[name] for thread in threads if name in thread.totals]
        found.append(
            StageTime(
                group=group,
                stage=name,
                calls=sum(total.calls for total in totals),
                cpu_seconds=sum(total.cpu for total in totals) / 1e9,
                wall_seconds=sum(total.wall for total in totals) / 1e9,
                bytes=sum(total.size for total in totals),
            )
        )
    return found
