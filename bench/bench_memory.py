"""Peak memory of push and pull: the command itself, in a process of its own, at any size.

    python -m bench.bench_memory 500M 2G 20G [--on folder minio seaweedfs] [--of mixture zeros]
    python -m bench.bench_memory --files 1000 100000 1000000 [--on folder minio seaweedfs]

A row is one run of the command. What goes in comes out again and is compared by its BLAKE3; the
source is removed before the pull, so that the disk holds the store and one copy at a time. Growth
is that of the peak since the point before, of the same content on the same storage. Ends with
status 1 where a bound was broken. `tests/library/test_memory.py` and `tests/large` run the same
round trips.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from chunkstore import S3Options
from chunkstore.testing import servers
from chunkstore.testing.trees import hash_of, hash_of_tree, write_mixture, write_small_files

Content: TypeAlias = Literal["mixture", "zeros", "files"]
"""One file of so many bytes, or so many files of 4 KiB: what a size means."""

PUSH_LIMIT: Final = 256 * 1000 * 1000
PULL_LIMIT: Final = 128 * 1000 * 1000
UNITS: Final = {"M": 1000**2, "G": 1000**3}
FILE_SIZE: Final = 4096

# What `wait4` says of a child is never less than what this process had when it started it: the
# kernel carries the mark over `exec`. So the child itself tells the mark of its own address
# space, and its own only where there is no /proc.
CHILD: Final = """
import resource, sys
from chunkstore_cli.boundary import run
report = sys.argv.pop(1)
status = run(sys.argv[1:])
try:
    with open("/proc/self/status") as lines:
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
used = resource.getrusage(resource.RUSAGE_SELF)
with open(report, "w") as file:
    print(peak * 1024, used.ru_utime + used.ru_stime, file=file)
sys.exit(status)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command: its peak memory in bytes, its time, the last line it printed.

    `cpu` is its user and system time in seconds, without that of a server.
    """

    verb: str
    peak: int
    cpu: float
    seconds: float
    summary: dict[str, Any]

    @property
    def limit(self) -> int:
        """What its peak must stay under."""
        return PUSH_LIMIT if self.verb == "push" else PULL_LIMIT


class Storage:
    """A store's address, and how the command gets to it."""

    def __init__(self, url: str, s3: S3Options | None, folder: Path) -> None:
        """Keep caches and settings below `folder`."""
        self._folder = folder
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CHUNKSTORE_", "AWS_"))},
            "CHUNKSTORE_STORE": url,
            "CHUNKSTORE_CACHE": str(folder / "cache"),
            "CHUNKSTORE_CONFIG": str(folder / "config.toml"),
        }
        if s3 is not None and s3.credentials is not None:
            self._environment |= {
                "AWS_ACCESS_KEY_ID": s3.credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": s3.credentials.secret_key,
                "AWS_REGION": s3.region or "us-east-1",
            }

    def run(self, verb: str, *arguments: str) -> Run:
        """Run one verb.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        report = self._folder / "peak"
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(report), verb, *arguments, "--json", "--no-progress"],
            env=self._environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        seconds = time.monotonic() - started
        lines = done.stdout.splitlines() if verb in ("push", "pull") else [done.stdout]
        peak, cpu = report.read_text().split()
        return Run(verb, int(peak), float(cpu), seconds, json.loads(lines[-1]))


def write_source(path: Path, content: Content, size: int) -> str:
    """Write a file of that content and size, or so many files; return a BLAKE3 in hex."""
    if content == "files":
        return write_small_files(path, size, seed=size % 1009, size=FILE_SIZE)
    if content == "mixture":
        return write_mixture(path, size, seed=size % 1009)
    with open(path, "wb") as file:
        file.truncate(size)  # a hole reads as zeros
    return hash_of(path)


def round_trip(storage: Storage, content: Content, size: int, folder: Path) -> tuple[Run, Run]:
    """Push what `write_source` makes, remove it, pull it, compare; return what both needed.

    Raises:
        AssertionError: other bytes came back.
    """
    source = folder / "source"
    dataset = f"{content}-{size}"
    digest = write_source(source, content, size)
    is_folder = source.is_dir()
    try:
        pushed = storage.run("push", str(source), dataset)
        _remove(source)
        pulled = storage.run("pull", dataset if is_folder else f"{dataset}:source", str(source))
        found = hash_of_tree(source) if is_folder else hash_of(source)
        assert found == digest, "what came back is something else"
    finally:
        _remove(source)
    return pushed, pulled


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def room_for(content: Content, size: int, folder: Path) -> bool:
    """Whether the disk below `folder` has room for such a round trip, and some more.

    Of either content about 35 % are stored, beside one copy.
    """
    size *= FILE_SIZE if content == "files" else 1
    return shutil.disk_usage(folder).free > size * 14 // 10 + 1000**3


def amount(content: Content, size: int) -> str:
    """Say how much is pushed and pulled."""
    return f"{size:,} files" if content == "files" else f"{size / 1e6:,.0f} MB"


def table(
    place: str, content: Content, size: int, runs: Sequence[Run], before: Sequence[Run] = ()
) -> str:
    """Return rows: place, content, amount, verb, peak memory, bound, growth, CPU, rate.

    `before` has the runs of the point before, () where this one is the first.
    """
    rows = []
    for number, run in enumerate(runs):
        growth = f"{(run.peak - before[number].peak) / 1e6:+6.1f} MB" if before else ""
        if content == "files":
            rate = f"{run.cpu / size * 1e6:5.0f} us/file"
        else:
            rate = f"{size / 1e6 / run.seconds:5.0f} MB/s"
        rows.append(
            f"{place:10} {content:8} {amount(content, size):>15}  {run.verb:5} "
            f"peak {run.peak / 1e6:5.1f} MB of {run.limit / 1e6:.0f} {growth:9}  "
            f"CPU {run.cpu:6.1f} s  {run.seconds:7.1f} s  {rate}"
            + ("" if run.peak < run.limit else "  BROKEN: the bound")
        )
    return "\n".join(rows)


@contextlib.contextmanager
def storages(name: str, folder: Path) -> Iterator[Storage]:
    """Run a server, or take a folder, with a new store in it."""
    with contextlib.ExitStack() as stack:
        if name == "folder":
            storage = Storage(str(folder / "store"), None, folder)
        else:
            server = stack.enter_context(getattr(servers, name)())
            server.make_bucket("bench")
            storage = Storage(server.store_url("bench"), server.options, folder)
        storage.run("init")
        yield storage


def _size(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1].upper()]


def _measure(place: str, content: Content, size: int, before: Sequence[Run]) -> tuple[Run, ...]:
    """Run one point in a new store and print its rows; () where the disk has no room."""
    with tempfile.TemporaryDirectory(prefix="chunkstore-memory-") as name:
        folder = Path(name)
        if not room_for(content, size, folder):
            print(f"{place} {content} {amount(content, size)}: no room on the disk", flush=True)
            return ()
        with storages(place, folder) as storage:
            runs = round_trip(storage, content, size, folder)
    print(table(place, content, size, runs, before), flush=True)
    return runs


def main() -> int:
    """Run the round trips that were asked for; return 0 if all stayed within the bounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=_size, help="bytes of one file: 500M, 2G")
    parser.add_argument("--files", nargs="+", type=int, default=[], help="how many of 4 KiB")
    parser.add_argument("--on", nargs="+", default=["folder", "minio", "seaweedfs"])
    parser.add_argument("--of", nargs="+", default=["mixture", "zeros"])
    chosen = parser.parse_args()
    sizes = chosen.sizes or ([] if chosen.files else [500 * UNITS["M"]])
    points = [(content, size) for size in sorted(sizes) for content in chosen.of]
    points += [("files", count) for count in sorted(chosen.files)]
    before: dict[tuple[str, str], tuple[Run, ...]] = {}
    passed = True
    for content, size in points:
        for place in chosen.on:
            runs = _measure(place, content, size, before.get((place, content), ()))
            before[place, content] = runs
            passed &= bool(runs) and all(run.peak < run.limit for run in runs)
    print(f"bounds: push {PUSH_LIMIT / 1e6:.0f} MB, pull {PULL_LIMIT / 1e6:.0f} MB: ", end="")
    print("kept everywhere" if passed else "NOT kept, or not measured, everywhere")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
