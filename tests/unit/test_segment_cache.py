"""The cache of index segments keeps its bound and its folder to itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chunkstore.format.index import encode_segment
from chunkstore.ids import SegmentId, content_hash
from chunkstore.segment_cache import SegmentCache
from tests.properties.test_index import many_packs


def kept(cache: SegmentCache, seed: int) -> tuple[SegmentId, int]:
    """Put a segment into the cache; return its id and length."""
    data = encode_segment(many_packs(300, seed=seed))
    segment = SegmentId(content_hash([data]))
    cache.keep(segment, data, "made")
    return segment, len(data)


def test_over_the_bound_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    """Opened or read counts as used; what the store no longer lists goes whatever its age."""
    cache = SegmentCache(str(tmp_path / "index"))
    segments = [kept(cache, seed) for seed in range(5)]
    for age, (segment, _) in enumerate(segments):
        os.utime(tmp_path / "index" / segment.hex(), (1000 + age, 1000 + age))
    assert cache.open(*segments[0]) is not None
    assert cache.read(*segments[1]) is not None
    cache.bound = sum(path.stat().st_size for path in (tmp_path / "index").iterdir()) * 7 // 10
    names = [segment.hex() for segment, _ in segments]
    cache.trim({*names})
    assert {path.name for path in (tmp_path / "index").iterdir()} == {names[0], names[1], names[4]}
    cache.trim({names[4]})
    assert [path.name for path in (tmp_path / "index").iterdir()] == [names[4]]


def test_the_folder_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made for its user alone, closed where others can write, and left alone if theirs."""
    folder = tmp_path / "cache" / "index"
    cache = SegmentCache(str(folder))
    segment, length = kept(cache, 1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert cache.open(segment, length) is not None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert cache.open(segment, length) is None
    assert cache.read(segment, length) is None
    other, length = kept(cache, 2)
    assert not (folder / other.hex()).exists()
