"""A server needs the same memory for a large file as for a small one, whatever its clients do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from blake3 import blake3

from chunkstore import Store
from chunkstore.testing.trees import mixture
from tests.api.processes import MIB, process

ONE_TRANSFER = 300 * MIB
"""What a server with one transfer at a time may need at most; 221 to 260 MiB were measured."""


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
def test_many_transfers_at_once_are_bounded(tmp_path: Path) -> None:
    """More clients than there are places need the memory of the places."""
    Store.create(str(tmp_path / "store")).close()
    options = ("--uploads", "1", "--downloads", "2")
    with process(tmp_path, *options) as server, httpx.Client(timeout=600) as client:
        base = server.files
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: up_and_down(client, f"{base}/{n}", 40_000_000, n), range(8)))
        assert server.peak() < ONE_TRANSFER + 2 * 40 * MIB
