"""Peak memory of push and pull: the command itself, in a process of its own, at any size.

    python -m bench.bench_memory 500M 2G 20G [--on folder minio seaweedfs] [--of mixture zeros]

A row is one run of the command. Files go in and out again and are compared by their BLAKE3; the
source is removed before the pull, so that the disk holds the store and one copy at a time. Ends
with status 1 where a limit was passed. `tests/library/test_memory.py` and `tests/large` run the
same round trips.
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
from chunkstore.testing.trees import hash_of, write_mixture

Content: TypeAlias = Literal["mixture", "zeros"]

PUSH_LIMIT: Final = 256 * 1000 * 1000
PULL_LIMIT: Final = 128 * 1000 * 1000
UNITS: Final = {"M": 1000**2, "G": 1000**3}

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
with open(report, "w") as file:
    print(peak * 1024, file=file)
sys.exit(status)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command: its peak memory in bytes, its time, the last line it printed."""

    verb: str
    peak: int
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
        return Run(verb, int(report.read_text()), seconds, json.loads(lines[-1]))


def write_source(path: Path, content: Content, size: int) -> str:
    """Write a file of that content and size; return its BLAKE3 in hex."""
    if content == "mixture":
        return write_mixture(path, size, seed=size % 1009)
    with open(path, "wb") as file:
        file.truncate(size)  # a hole reads as zeros
    return hash_of(path)


def round_trip(storage: Storage, content: Content, size: int, folder: Path) -> tuple[Run, Run]:
    """Push a file, remove it, pull it, compare; return what push and pull needed.

    Raises:
        AssertionError: other bytes came back.
    """
    source = folder / "file"
    dataset = f"{content}-{size}"
    digest = write_source(source, content, size)
    try:
        pushed = storage.run("push", str(source), dataset)
        source.unlink()
        pulled = storage.run("pull", f"{dataset}:file", str(source))
        assert source.stat().st_size == size
        assert hash_of(source) == digest, "the file that came back is another one"
    finally:
        source.unlink(missing_ok=True)
    return pushed, pulled


def room_for(size: int, folder: Path) -> bool:
    """Whether the disk below `folder` has room for a round trip of that size, and some more."""
    return shutil.disk_usage(folder).free > size * 16 // 10 + 2 * 1000**3


def table(place: str, content: Content, size: int, runs: Sequence[Run]) -> str:
    """Return rows: place, content, size, verb, peak memory, limit, rate."""
    return "\n".join(
        f"{place:10} {content:8} {size / 1e6:>8,.0f} MB  {run.verb:5} "
        f"peak {run.peak / 1e6:5.1f} MB of {run.limit / 1e6:.0f}  "
        f"{run.seconds:7.1f} s  {size / 1e6 / run.seconds:6.0f} MB/s"
        for run in runs
    )


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


def main() -> int:
    """Run the round trips that were asked for; return 0 if all stayed within the limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=_size, default=[500 * UNITS["M"]])
    parser.add_argument("--on", nargs="+", default=["folder", "minio", "seaweedfs"])
    parser.add_argument("--of", nargs="+", default=["mixture", "zeros"])
    chosen = parser.parse_args()
    passed = True
    for size in chosen.sizes:
        for place in chosen.on:
            for content in chosen.of:
                with tempfile.TemporaryDirectory(prefix="chunkstore-memory-") as name:
                    folder = Path(name)
                    if not room_for(size, folder):
                        print(f"{place} {content} {size / 1e9:.0f} GB: no room on the disk")
                        passed = False
                        continue
                    with storages(place, folder) as storage:
                        runs = round_trip(storage, content, size, folder)
                    print(table(place, content, size, runs), flush=True)
                    passed &= all(run.peak < run.limit for run in runs)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
