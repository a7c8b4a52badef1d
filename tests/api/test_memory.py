"""A server needs the same memory for a large file as for a small one, whatever its clients do."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from blake3 import blake3

from chunkstore import Store
from chunkstore.testing.trees import mixture
from tests.cli.conftest import PROGRAM

MIB = 1024 * 1024
ONE_TRANSFER = 300 * MIB
"""What a server with one transfer at a time may need at most; 221 to 260 MiB were measured."""


@contextlib.contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Run `chunkstore serve` on a new store; give its address and process."""
    variables = {**os.environ, "CHUNKSTORE_CACHE": str(folder / "cache")}
    Store.create(str(folder / "store")).close()
    command = [PROGRAM, "serve", "-s", folder / "store", "--port", "0", "--quiet", *options]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip(), running.pid
        finally:
            running.terminate()
    assert running.returncode == 0


def peak(pid: int) -> int:
    """Return the most memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def up_and_down(client: httpx.Client, url: str, size: int, seed: int) -> None:
    """Put a file of some size in pieces, and get it back; the bytes must be the same."""
    sent, got = blake3(), blake3()

    def body() -> Iterator[bytes]:
        for block in mixture(size, seed):
            sent.update(block)
            yield block

    answer = client.put(url, content=body())
    assert answer.status_code == 201, answer.text
    assert answer.json()["size"] == size
    with client.stream("GET", url) as download:
        for block in download.iter_raw():
            got.update(block)
    assert got.digest() == sent.digest()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "size", [500_000_000, pytest.param(2_000_000_000, marks=pytest.mark.large)]
)
def test_a_large_file_goes_up_and_down_in_little_memory(tmp_path: Path, size: int) -> None:
    """500 MB and 2 GB in pieces need no more than one transfer does."""
    with process(tmp_path) as (address, pid), httpx.Client(timeout=600) as client:
        url = f"{address}/v1/datasets/pets/versions/latest/files/large.bin"
        up_and_down(client, url, size, 1)
        assert peak(pid) < ONE_TRANSFER


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_many_transfers_at_once_are_bounded(tmp_path: Path) -> None:
    """More clients than there are places need the memory of the places."""
    options = ("--uploads", "1", "--downloads", "2")
    with process(tmp_path, *options) as (address, pid), httpx.Client(timeout=600) as client:
        base = f"{address}/v1/datasets/pets/versions/latest/files"
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: up_and_down(client, f"{base}/{n}", 40_000_000, n), range(8)))
        assert peak(pid) < ONE_TRANSFER + 2 * 40 * MIB
