"""Files of 2 and 20 GB go in and out, in the memory that 500 MB need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.bench_memory import UNITS, Content, Storage, room_for, round_trip, table
from tests.conftest import Place

pytestmark = pytest.mark.large


@pytest.mark.parametrize("size", [2 * UNITS["G"], 20 * UNITS["G"]], ids=["2GB", "20GB"])
@pytest.mark.parametrize("content", ["mixture", "zeros"])
@pytest.mark.parametrize("place", ["folder", "minio"], indirect=True)
def test_large_files_go_in_and_out_in_little_memory(
    place: Place, tmp_path: Path, content: Content, size: int
) -> None:
    """The bytes come back; push stays under 256 MB of memory and pull under 128 MB."""
    if not room_for(size, tmp_path):
        pytest.fail(f"{size / 1e9:.0f} GB in and out need {size * 16 / 10 / 1e9 + 2:.0f} GB free")
    store = place.create()
    try:
        runs = round_trip(Storage(place.url, place.s3, tmp_path), content, size, tmp_path)
        sys.stdout.write(f"\n{table(place.name, content, size, runs)}\n")
    finally:  # the next size needs the room
        backend = store._objects.backend
        backend.delete([info.key for info in backend.list("packs/")][:1000])
        store.close()
    assert all(run.peak < run.limit for run in runs)
