"""chunkstore beside other tools, on one's own machine: time, CPU, memory, bytes stored.

    python -m bench.run                        # a sample of each workload, some minutes
    python -m bench.run --scale medium --publish
    python -m bench.run --workload packages csv --tool chunkstore restic

The tools take turns: round 1 of each, then round 2. A run makes a store, pushes version 1, version
2 and version 2 again, pulls version 2 into an empty folder and over a copy of version 1. A command
is a fresh process; what was pulled is compared by hash; the page cache is warm. Each run is kept in
`bench/data/SCALE/results.json` when it ends, and only what is not there yet is run.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import report
from bench.measure import Cost, digest_of, measure, size_of
from bench.peers import ROOT, TOOLS, Tool
from bench.results import Results, Run, load
from bench.workloads import DATA, EXTRA, SCALES, WORKLOADS, Workload, data_of


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other bench runs at this scale: it would use the same data and results."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def standing(root: Path, version: str) -> Iterator[Path]:
    """Let a version stand at the one place that all pushes are made from, as a user's folder does.

    It is renamed and not copied, so that what is the same file in both versions stays so.
    """
    source = root / "current"
    (root / version).rename(source)
    try:
        yield source
    finally:
        source.rename(root / version)


def put_back(root: Path) -> None:
    """Give the version that a killed bench left standing its name back."""
    if (root / "current").exists():
        lost = "v1" if (root / "v2").exists() else "v2"
        (root / "current").rename(root / lost)


class Course:
    """One tool, one workload, one time through."""

    def __init__(self, tool: Tool, root: Path, digests: dict[str, str], work: Path) -> None:
        """`root` has the two versions, `digests` what each hashes to; `work` is made anew."""
        shutil.rmtree(work, ignore_errors=True)
        (work / "cache").mkdir(parents=True)
        self._tool, self._root, self._digests, self._work = tool, root, digests, work
        self._places = {
            "store": str(work / "store"),
            "cache": str(work / "cache"),
            "source": str(root / "current"),
            "out": str(work / "out"),
        }

    def run(self) -> tuple[dict[str, Cost], tuple[int, int]]:
        """Return what each step cost, and the bytes stored after version 1 and 2.

        Raises:
            RuntimeError: a command failed, or other files came back.
        """
        tool, costs = self._tool, {}
        self._do(tool.init, "v1", self._work)
        with standing(self._root, "v1") as source:
            costs["first"] = self._do(tool.push, "v1", source)
            first = self._stored()
        with standing(self._root, "v2") as source:
            costs["second"] = self._do(tool.push, "v2", source)
            second = self._stored()
            if tool.again:
                costs["unchanged"] = self._do(tool.push, "again", source)
        if tool.pulls_at_most is not None and self._files() > tool.pulls_at_most:
            return costs, (first, second)
        with self._target() as out:
            costs["pull"] = self._do(tool.pull, "v2", out)
            self._compare(out)
        if tool.over:
            with self._target() as out:
                self._do(tool.pull, "v1", out)
                costs["over"] = self._do(tool.over, "v2", out)
                self._compare(out)
        return costs, (first, second)

    def _do(self, template: str, label: str, folder: Path) -> Cost:
        command = self._tool.command(template, label=label, **self._places)
        return measure(command, folder, self._tool.variables(**self._places))

    def _files(self) -> int:
        return sum(path.is_file() for path in (self._root / "v2").rglob("*"))

    def _stored(self) -> int:
        folders = (counted.format(**self._places) for counted in self._tool.counted)
        return sum(size_of(Path(folder)) for folder in folders)

    @contextlib.contextmanager
    def _target(self) -> Iterator[Path]:
        out = self._work / "out"
        out.mkdir()
        yield out
        shutil.rmtree(out)

    def _compare(self, out: Path) -> None:
        if digest_of(out) != self._digests["v2"]:
            raise RuntimeError(f"{self._tool.name} restored other files than were pushed")


class Bench:
    """Runs what is lacking, and keeps it."""

    def __init__(self, results: Results, path: Path, work: Path) -> None:
        """`results` are kept at `path`; stores are made in `work`."""
        self._results, self._path, self._work = results, path, work

    def workload(
        self, workload: Workload, root: Path, tools: Sequence[tuple[Tool, str]], rounds: int
    ) -> None:
        """Run rounds of all tools, given with their versions, in turn; then of the kernels."""
        put_back(root)
        lacking = [
            (number, tool, version)
            for number in range(1, rounds + 1)
            for tool, version in tools
            if len(self._results.of(workload.name, tool.name)) < number
        ]
        kernels = self._results.kernels.setdefault(workload.name, [])
        if not lacking and len(kernels) >= rounds:
            return
        digests = {version: digest_of(root / version) for version in ("v1", "v2")}  # warms as well
        self._results.sizes[workload.name] = [
            (sum(path.is_file() for path in (root / version).rglob("*")), size_of(root / version))
            for version in ("v1", "v2")
        ]
        for number, tool, version in lacking:
            try:
                costs, stored = Course(tool, root, digests, self._work).run()
            except RuntimeError as error:
                print(f"{workload.name} {number}: {error}", file=sys.stderr, flush=True)
                self._results.failures.append((workload.name, tool.name, str(error)))
                continue
            finally:
                shutil.rmtree(self._work)
            at = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
            run = Run(workload.name, tool.name, version, at, costs, stored)
            self._results.runs.append(run)
            self._results.save(self._path)
            print(f"{workload.name} {number}: {line(run)}", flush=True)
        together = self._results.together.setdefault(workload.name, [])
        cores = os.cpu_count() or 1
        while len(kernels) < rounds:
            kernels += kernel_seconds(root, 1)
            both = [[sum(of.values()) for of in done] for done in kernel_seconds(root, cores)]
            together.append([statistics.mean(version) for version in zip(*both, strict=True)])
            self._results.save(self._path)


def kernel_seconds(root: Path, processes: int) -> list[list[dict[str, float]]]:
    """Return what so many processes of the kernels, at the same time, take for each version."""
    command = [sys.executable, "-m", "bench.kernels", str(root / "v1"), str(root / "v2")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(processes)
    ]
    printed = [process.communicate()[0] for process in running]
    for process in running:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return [json.loads(text) for text in printed]


def line(run: Run) -> str:
    """Return a run in one line."""
    seconds = ", ".join(f"{step} {cost.seconds:.2f} s" for step, cost in run.costs.items())
    added = (run.stored[1] - run.stored[0]) / 1e6
    return f"{run.tool:11} {seconds}, {run.stored[0] / 1e6:.1f} + {added:.2f} MB"


def main() -> int:
    """Read the options; return 0 if all tools got through."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    usual = [workload.name for workload in WORKLOADS if workload.name not in EXTRA]
    parser.add_argument("--scale", choices=SCALES, default="sample")
    parser.add_argument("--rounds", type=int, default=3, help="0: show what was measured")
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--workload", nargs="+", choices=names, default=usual, metavar="NAME")
    tool_names = [tool.name for tool in TOOLS]
    parser.add_argument("--tool", nargs="+", choices=tool_names, default=tool_names, metavar="NAME")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--publish", action="store_true", help="write it into docs and README.md")
    chosen = parser.parse_args()

    with alone(DATA / chosen.scale):
        return bench(chosen)


def bench(chosen: argparse.Namespace) -> int:
    """Do what the options say."""
    path = DATA / chosen.scale / "results.json"
    if chosen.fresh:
        path.unlink(missing_ok=True)
    results = load(path, chosen.scale)
    tools = []
    for tool in TOOLS:
        version = tool.installed()
        if version is None:
            print(f"{tool.name} is not installed: left out")
            continue
        if chosen.rounds:  # with none, what is there is shown as it is
            results.forget_other_versions(tool.name, version)
        if tool.name in chosen.tool:
            tools.append((tool, version))
    runner = Bench(results, path, DATA / chosen.scale / "work")
    for workload in WORKLOADS:
        if workload.name in chosen.workload and chosen.rounds:
            started = time.monotonic()
            runner.workload(workload, data_of(workload, chosen.scale), tools, chosen.rounds)
            print(f"{workload.name}: {time.monotonic() - started:.0f} s\n", flush=True)
    print(report.tables(results))
    if chosen.publish:
        report.publish(results)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
