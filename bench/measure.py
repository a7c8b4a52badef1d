"""One command in a process of its own, measured; and whether two folders are equal."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took: seconds by the clock and of CPU, peak memory in bytes.

    CPU is that of the command and its children. The kernel carries the mark of memory over from the
    process that started it, so that nothing takes less than the bench itself, about 25 MB.
    """

    seconds: float
    cpu: float
    memory: int


def measure(command: list[str], folder: Path, variables: dict[str, str]) -> Cost:
    """Run a command in a folder to its end, after the disk has become quiet.

    Raises:
        RuntimeError: it failed; the message ends with what it wrote to stderr.
    """
    os.sync()
    with tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{said}")
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def digest_of(folder: Path) -> str:
    """Return a hash over the names and the bytes of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # in other processes, so that what this one takes stays small: see Cost
    with ProcessPoolExecutor() as pool:
        hashes = list(pool.map(_hash, map(str, files), chunksize=64))
    whole = hashlib.sha256()
    for path, digest in zip(files, hashes, strict=True):
        whole.update(f"{path.relative_to(folder)}\0{digest}\n".encode())
    return whole.hexdigest()


def _hash(path: str) -> str:
    from chunkstore.testing.trees import hash_of  # noqa: PLC0415  # only in the children

    return hash_of(Path(path))
