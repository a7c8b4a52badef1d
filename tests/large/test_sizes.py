"""Files of 2 and 20 GB, and a million files, go in and out in bounded memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.bench_memory import (
    UNITS,
    Content,
    Storage,
    amount,
    room_for,
    round_trip,
    table,
)
from tests.conftest import Place

pytestmark = pytest.mark.large


POINTS: list[tuple[Content, int]] = [
    ("mixture", 2 * UNITS["G"]),
    ("mixture", 20 * UNITS["G"]),
    ("zeros", 2 * UNITS["G"]),
    ("zeros", 20 * UNITS["G"]),
    ("files", 100_000),
    ("files", 1_000_000),
]


@pytest.mark.parametrize(
    ("content", "size"), POINTS, ids=[f"{content}-{size:.0e}" for content, size in POINTS]
)
@pytest.mark.parametrize("place", ["folder", "minio"], indirect=True)
def test_much_goes_in_and_out_in_little_memory(
    place: Place, tmp_path: Path, content: Content, size: int
) -> None:
    """The bytes come back; push stays under 256 MB of memory and pull under 128 MB."""
    if not room_for(content, size, tmp_path):
        pytest.fail(f"no room on the disk for {amount(content, size)} in and out")
    store = place.create()
    try:
        runs = round_trip(Storage(place.url, place.s3, tmp_path), content, size, tmp_path)
        sys.stdout.write(f"\n{table(place.name, content, size, runs)}\n")
    finally:  # the next size needs the room
        backend = store._objects.backend
        backend.delete([info.key for info in backend.list("packs/")][:1000])
        store.close()
    assert all(run.peak < run.limit for run in runs)
