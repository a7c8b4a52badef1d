"""What was measured, kept in one JSON file, so that a bench that was broken off goes on."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.measure import Cost
from bench.workloads import DATA, WORKLOADS

STEPS: Final = {
    "first": "first push",
    "second": "push of v2",
    "unchanged": "push again",
    "pull": "pull v2",
    "over": "pull over v1",
}
"""The steps of a run, and what tables call them."""


@dataclass(frozen=True, slots=True)
class Run:
    """One tool going once through one workload.

    Attributes:
        workload: its name.
        tool: its name.
        version: of the tool.
        at: when it ended, local time in ISO 8601.
        costs: for each step that the tool can do.
        stored: bytes in its store after version 1 and after version 2.
    """

    workload: str
    tool: str
    version: str
    at: str
    costs: dict[str, Cost]
    stored: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some runs."""

    median: float
    least: float
    most: float


@dataclass(slots=True)
class Results:
    """All runs at one scale on one machine.

    Attributes:
        scale: sample, medium or full.
        machine: what it ran on.
        sizes: for each workload the files and bytes of version 1 and version 2.
        runs: in the order in which they were made.
        kernels: for each workload a list of rounds: seconds of each kernel for v1 and for v2.
        together: the same, all kernels in one, while as many run at once as there are cores.
        failures: workload, tool and what went wrong where a tool could not be measured.
    """

    scale: str
    machine: dict[str, str]
    sizes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    kernels: dict[str, list[list[dict[str, float]]]] = field(default_factory=dict)
    together: dict[str, list[list[float]]] = field(default_factory=dict)
    failures: list[tuple[str, str, str]] = field(default_factory=list)

    def of(self, workload: str, tool: str) -> list[Run]:
        """Return the runs of a tool on a workload."""
        return [run for run in self.runs if (run.workload, run.tool) == (workload, tool)]

    def measured(self) -> list[str]:
        """Return the workloads that were measured, in the order of the table."""
        return [workload.name for workload in WORKLOADS if self.tools(workload.name)]

    def tools(self, workload: str) -> list[str]:
        """Return the tools that a workload was measured with, in the order of their first run."""
        return list(dict.fromkeys(run.tool for run in self.runs if run.workload == workload))

    def seconds(self, workload: str, tool: str, step: str) -> Spread | None:
        """Return the seconds by the clock of a step, None where the tool cannot do it."""
        return spread(
            [run.costs[step].seconds for run in self.of(workload, tool) if step in run.costs]
        )

    def stored(self, workload: str, tool: str) -> tuple[float, float, float]:
        """Return the bytes stored after version 1, those that version 2 added, and all."""
        runs = self.of(workload, tool)
        return (
            statistics.median(run.stored[0] for run in runs),
            statistics.median(run.stored[1] - run.stored[0] for run in runs),
            statistics.median(run.stored[1] for run in runs),
        )

    def kernel_seconds(self, workload: str, version: int) -> dict[str, float]:
        """Return the median seconds of CPU of each kernel for version 1 or 2."""
        rounds = [done[version - 1] for done in self.kernels[workload]]
        return {name: statistics.median(done[name] for done in rounds) for name in rounds[0]}

    def together_seconds(self, workload: str, version: int) -> float:
        """Return the median seconds of CPU of all kernels, with as many at once as cores."""
        return statistics.median(done[version - 1] for done in self.together[workload])

    def forget_other_versions(self, tool: str, version: str) -> None:
        """Drop the runs of other versions of a tool than the one that is installed."""
        self.runs = [run for run in self.runs if run.tool != tool or run.version == version]

    def save(self, path: Path) -> None:
        """Write all to a file, whole or not at all."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1))
        part.rename(path)


def spread(values: list[float]) -> Spread | None:
    """Return the median and the range of some values; None of none."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


def load(path: Path, scale: str) -> Results:
    """Return what a file has, or nothing measured where there is none or of another machine."""
    here = machine()
    if not path.exists():
        return Results(scale, here)
    document: dict[str, Any] = json.loads(path.read_text())
    if document["machine"] != here:
        return Results(scale, here)
    runs = [
        Run(
            **{
                **run,
                "costs": {step: Cost(**cost) for step, cost in run["costs"].items()},
                "stored": tuple(run["stored"]),
            }
        )
        for run in document["runs"]
    ]
    sizes = {
        name: [(files, size) for files, size in both] for name, both in document["sizes"].items()
    }
    # what failed is not taken over: it is tried again
    return Results(scale, here, sizes, runs, document["kernels"], document["together"])


def machine() -> dict[str, str]:
    """Return what this machine is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "file system": _file_system(DATA),
        "python": platform.python_version(),
    }


def _file_system(folder: Path) -> str:
    """Return what a folder lies on; of ext4, whether it has a journal, which its speed hangs on."""
    while not folder.exists():
        folder = folder.parent
    status = os.stat(folder)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    try:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        kind = next(line[line.index("-") + 1] for line in mounts if line[2] == device)
        if kind != "ext4":
            return kind
        name = Path(f"/sys/dev/block/{device}").resolve().name
        options = Path(f"/proc/fs/ext4/{name}/options").read_text()
    except (OSError, StopIteration):
        return "an unknown file system"
    return "ext4" if "\ndata=" in options else "ext4 without a journal"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
