"""Large files by `chunkstore push` and `pull` through a server, on a folder and on MinIO."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.bench_memory import Storage, round_trip, table
from tests.api.processes import process
from tests.api.test_curl import ONE_EACH_WAY, place_of


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["folder", "minio"])
@pytest.mark.parametrize(
    "size", [500_000_000, pytest.param(2_000_000_000, marks=pytest.mark.large)]
)
def test_a_large_file_by_push_and_pull(
    request: pytest.FixtureRequest,
    record_testsuite_property: Callable[[str, object], None],
    tmp_path: Path,
    kind: str,
    size: int,
) -> None:
    """The bytes come back; client and server stay within the bounds that they have anyhow."""
    url, variables = place_of(kind, request, tmp_path)
    with process(tmp_path, store=url, **variables) as server:
        runs = round_trip(Storage(server.address, None, tmp_path), "mixture", size, tmp_path)
        peak = server.peak()
    told = table(kind, "mixture", size, runs)
    sys.stdout.write(f"\n{told}\nserver: peak {peak / 1e6:.1f} MB\n")
    record_testsuite_property(f"peak memory of server, {kind}, {size}", peak)
    assert all(run.peak < run.limit for run in runs)
    assert peak < ONE_EACH_WAY
