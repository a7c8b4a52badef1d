"""How fast is the first push of a real tree, beside restic where that is installed?

Both take the same tree in turn, into fresh stores in the same folder, with the page cache warm and
the disk synced before each run. Prints medians and their ratio. Run it with `make bench-push`.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.package_tree import package_tree
from chunkstore.testing.trees import hash_of

COMMAND = Path(sys.executable).with_name("chunkstore")


@dataclass(frozen=True)
class Run:
    """One push: seconds by the clock, seconds of CPU, peak memory and stored bytes."""

    seconds: float
    cpu: float
    memory: int
    stored: int


def measure(command: list[str], store: Path, environment: dict[str, str]) -> Run:
    """Run a command to its end."""
    os.sync()
    started = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if child.returncode:
        raise RuntimeError(f"{command[0]} ended with status {child.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(seconds, cpu, usage.ru_maxrss * 1024, stored_bytes(store))


def stored_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def push_by_chunkstore(tree: Path, work: Path) -> Run:
    """Make a store and push into it."""
    environment = {"CHUNKSTORE_CACHE": str(work / "cache")}
    store = work / "store"
    command = [str(COMMAND), "--quiet", "--store", str(store)]
    subprocess.run([*command, "init"], check=True, stdout=subprocess.DEVNULL)
    return measure([*command, "push", str(tree), "packages"], store, environment)


def push_by_restic(tree: Path, work: Path) -> Run:
    """Make a repository and back up into it."""
    environment = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(work / "cache")}
    repository = work / "repository"
    command = ["restic", "--quiet", "--repo", str(repository)]
    subprocess.run([*command, "init"], check=True, env={**os.environ, **environment})
    return measure([*command, "backup", str(tree)], repository, environment)


def main() -> int:
    """Run the rounds and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    tree = package_tree()
    files = [path for path in tree.rglob("*") if path.is_file()]
    size = stored_bytes(tree)
    for path in files:
        hash_of(path)  # so that the page cache is warm
    print(f"{len(files):,} files, {size / 1e9:.2f} GB; {os.cpu_count()} cores, Python")
    print(f"{platform.python_version()}, {platform.system()}; {rounds} rounds in turn\n")
    tools: dict[str, Callable[[Path, Path], Run]] = {"chunkstore": push_by_chunkstore}
    if shutil.which("restic"):
        version = subprocess.run(["restic", "version"], check=True, capture_output=True, text=True)
        print(version.stdout)
        tools["restic"] = push_by_restic
    else:
        print("no restic on PATH: measured alone\n")
    runs: dict[str, list[Run]] = {name: [] for name in tools}
    for _ in range(rounds):
        for name, push in tools.items():
            with tempfile.TemporaryDirectory(prefix="chunkstore-bench-") as work:
                runs[name].append(push(tree, Path(work)))
    report(runs)
    return 0


def report(runs: dict[str, list[Run]]) -> None:
    """Print medians, the range of the seconds, and the ratios to chunkstore."""
    print(
        f"{'':12}{'seconds':>9} {'(min-max)':>13} {'CPU s':>7} {'memory MB':>10} {'stored MB':>10}"
    )
    medians = {}
    for name, done in runs.items():
        seconds = sorted(run.seconds for run in done)
        medians[name] = statistics.median(seconds)
        span = f"({seconds[0]:.1f}-{seconds[-1]:.1f})"
        cpu = statistics.median(run.cpu for run in done)
        memory = max(run.memory for run in done) / 1e6
        stored = statistics.median(run.stored for run in done) / 1e6
        print(f"{name:12}{medians[name]:9.1f} {span:>13} {cpu:7.1f} {memory:10.0f} {stored:10.0f}")
    for name in runs:
        if name != "chunkstore":
            print(f"\n{name} takes {medians[name] / medians['chunkstore']:.2f} times as long")


if __name__ == "__main__":
    sys.exit(main())
