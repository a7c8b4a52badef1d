"""What a push or pull needs in memory does not depend on how much there is.

`tests/large` holds the same limits at 2 and 20 GB, `python -m bench.bench_memory` at any size.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.bench_memory import UNITS, Content, Storage, round_trip, table
from tests.conftest import Place

SIZE = 500 * UNITS["M"]


@pytest.mark.parametrize("content", ["mixture", "zeros"])
def test_500_mb_go_in_and_out_in_little_memory(
    place: Place, tmp_path: Path, content: Content
) -> None:
    """The command's peak stays under 256 MB for push and 128 MB for pull; the bytes come back."""
    place.create().close()
    runs = round_trip(Storage(place.url, place.s3, tmp_path), content, SIZE, tmp_path)
    sys.stdout.write(f"\n{table(place.name, content, SIZE, runs)}\n")
    assert all(run.peak < run.limit for run in runs)
