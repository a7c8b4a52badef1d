"""What is said of savings by kind of file: of versions, datasets and stores, and of pushes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkstore import (
    ChunkerSpec,
    KindStat,
    Notice,
    PushedKind,
    PushResult,
    Store,
    UnreadableFilesError,
    chunk_writer,
)
from chunkstore.testing.trees import random_bytes

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with small chunks and frames, so that little data has many of both."""
    with Store.create(
        str(tmp_path / "store"),
        chunker=ChunkerSpec(min_size=1024, avg_size=4096, max_size=16384),
        frame_size=64 * 1024,
        cache_folder=tmp_path / "cache",
    ) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of several kinds: some compress well, some not at all, two are the same."""
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "a.csv").write_text("".join(f"{n},{n * n}\n" for n in range(20_000)))
    (root / "sub/b.bin").write_bytes(random_bytes(300_000, 1))
    (root / "sub/copy.dat").write_bytes(random_bytes(300_000, 1))
    (root / "notes").write_text("notes\n")
    (root / "link").symlink_to("notes")
    (root / "empty").mkdir()
    for number in range(50):
        (root / f"sub/{number}.txt").write_text(f"text {number}\n" * 100)
    return root


def by_kind(kinds: tuple[KindStat, ...] | tuple[PushedKind, ...]) -> dict[str, int]:
    return {kind.kind: kind.stored_bytes for kind in kinds}


def test_the_kinds_of_a_version_add_up(store: Store, tree: Path) -> None:
    """Files, sizes, unique and stored bytes of the kinds are those of the whole version."""
    pushed = store.push(tree, "pets")
    found = store.version_stat("pets")
    assert found.version == store.version("pets")
    assert sum(kind.files for kind in found.kinds) == pushed.stats.files
    assert sum(kind.size for kind in found.kinds) == pushed.stats.size
    assert found.unique_bytes == sum(kind.unique_bytes for kind in found.kinds)
    assert found.unique_bytes == pushed.stats.new_bytes
    assert found.stored_bytes == sum(kind.stored_bytes for kind in found.kinds)
    assert {"link", "folder", "", ".csv", ".bin", ".dat", ".txt"} == set(by_kind(found.kinds))
    assert list(found.kinds) == sorted(found.kinds, key=lambda kind: -kind.stored_bytes)


def test_stored_bytes_are_those_of_the_frames(store: Store, tree: Path) -> None:
    """Where a version has every chunk of a store, its stored bytes are all frames of the packs."""
    pushed = store.push(tree, "pets")
    found = store.version_stat("pets")
    of_push = {kind.kind: kind.stored_bytes for kind in pushed.stats.kinds}
    of_stat = {kind: stored for kind, stored in by_kind(found.kinds).items() if stored}
    assert of_stat.keys() == {kind for kind, stored in of_push.items() if stored}
    assert all(abs(of_stat[kind] - of_push[kind]) <= 2 for kind in of_stat)  # rounded once each
    assert found.stored_bytes < pushed.stats.stored_bytes < found.stored_bytes + 100_000


def test_what_is_shared_counts_for_the_first(store: Store, tree: Path) -> None:
    """A chunk that two kinds have counts for the first path, one that two versions have once."""
    store.push(tree, "pets")
    kinds = {kind.kind: kind for kind in store.version_stat("pets").kinds}
    assert (kinds[".bin"].unique_bytes, kinds[".dat"].unique_bytes) == (300_000, 0)
    assert kinds[".dat"].size == 300_000
    (tree / "more.bin").write_bytes(random_bytes(50_000, 2))
    store.push(tree, "pets")
    dataset = store.dataset_stat("pets")
    assert sum(kind.size for kind in dataset.kinds) == dataset.total_size
    both = {kind.kind: kind for kind in dataset.kinds}
    assert both[".bin"].unique_bytes == 350_000
    assert both[".bin"].size == 300_000 * 2 + 50_000
    assert both[".txt"].files == 100
    assert both[".txt"].unique_bytes == kinds[".txt"].unique_bytes


def test_a_store_by_kind(store: Store, tree: Path) -> None:
    """The whole store has kinds only where they are asked for; they are those of all datasets."""
    store.push(tree, "pets")
    store.push(tree, "copies")
    assert store.stat().kinds == ()
    found = store.stat(by_kind=True)
    assert sum(kind.size for kind in found.kinds) == found.total_size
    once = store.version_stat("pets")
    assert sum(kind.unique_bytes for kind in found.kinds) == once.unique_bytes


def test_a_file_of_many_chunks(store: Store, tmp_path: Path) -> None:
    """A file so large that its chunks are in lists is counted whole."""
    path = tmp_path / "large.bin"
    path.write_bytes(random_bytes(24 * MIB, 3))
    store.push(path, "large")
    (kind,) = store.version_stat("large").kinds
    assert (kind.files, kind.size, kind.unique_bytes) == (1, 24 * MIB, 24 * MIB)


def _dry(store: Store, tree: Path) -> tuple[PushResult, PushResult]:
    return store.push(tree, "pets", dry_run=True), store.push(tree, "pets")


def test_a_dry_run_says_what_the_push_does(
    store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New bytes of a dry run are those of the push that follows, by kind; stored bytes about."""
    # a push that is held up publishes a segment more, which no dry run can know
    monkeypatch.setattr(chunk_writer, "_INDEX_SECONDS", math.inf)
    for change in range(3):
        if change:
            (tree / f"sub/{change}.txt").write_text(f"changed {change}\n" * 1000)
        dry, real = _dry(store, tree)
        assert dry.stats.new_bytes == real.stats.new_bytes
        assert dry.stats.sent_bytes == 0

        def told(kinds: tuple[PushedKind, ...]) -> dict[str, tuple[int, int, int]]:
            return {kind.kind: (kind.files, kind.size, kind.new_bytes) for kind in kinds}

        assert told(dry.stats.kinds) == told(real.stats.kinds)
        assert sum(kind.new_bytes for kind in real.stats.kinds) == real.stats.new_bytes
        estimated = sum(kind.stored_bytes for kind in dry.stats.kinds)
        stored = sum(kind.stored_bytes for kind in real.stats.kinds)
        assert abs(estimated - stored) <= 0.02 * stored + 10
        assert abs(dry.stats.stored_bytes - real.stats.stored_bytes) <= (
            0.05 * real.stats.stored_bytes + 500
        )
    assert _dry(store, tree)[0].stats.kinds == ()


def test_an_estimate_from_samples(store: Store, tmp_path: Path) -> None:
    """Of much new data only some frames are compressed, and the estimate is still a good one."""
    root = tmp_path / "much"
    root.mkdir()
    for number in range(40):
        (root / f"{number}.bin").write_bytes(random_bytes(200_000, number))
        text = "".join(f"{number * n % 7919}\n" for n in range(60_000))
        (root / f"{number}.txt").write_text(text)
    dry, real = _dry(store, root)
    assert dry.stats.new_bytes == real.stats.new_bytes
    guessed, known = by_kind(dry.stats.kinds), by_kind(real.stats.kinds)
    for kind in (".bin", ".txt"):
        assert abs(guessed[kind] - known[kind]) < 0.15 * known[kind], (guessed, known)


def test_a_status_estimates_nothing(store: Store, tree: Path) -> None:
    """A status says what is new, and spends no time on what that would take up."""
    status = store.status(tree, "pets")
    assert status.stats.new_bytes > 0
    assert status.stats.stored_bytes == 0


# files that cannot be read


def test_a_dry_run_counts_unreadable_files(store: Store, tree: Path) -> None:
    """A dry run counts the files over which the push will fail."""
    os.symlink(b"\xff", tree / "broken")  # no version can hold such a target
    assert store.push(tree, "pets", dry_run=True).unreadable == 1
    with pytest.raises(UnreadableFilesError):
        store.push(tree, "pets")
    assert store.push(tree, "pets", skip_unreadable=True).unreadable == 1


# hints


def _replaced(store: Store, folder: Path, name: str, contents: list[bytes]) -> list[Notice]:
    """Push versions of one file; return the notices of the last push, and of its dry run."""
    folder.mkdir(exist_ok=True)
    for content in contents:
        (folder / name).write_bytes(content)
        dry: list[object] = []
        events: list[object] = []
        store.push(folder, "hints", dry_run=True, progress=dry.append)
        store.push(folder, "hints", progress=events.append)
    found = [event for event in events if isinstance(event, Notice)]
    assert [event for event in dry if isinstance(event, Notice)] == found
    return found


def _parquet(seed: int, size: int, footer: bytes = b"") -> bytes:
    return b"PAR1" + random_bytes(size, seed) + footer + b"\0\0\0\0PAR1"


def test_a_parquet_file_that_was_rewritten(store: Store, tmp_path: Path) -> None:
    """One that replaces an older one and is mostly new gets a hint with the exact parameter."""
    data = tmp_path / "tables"
    (notice,) = _replaced(store, data, "t.parquet", [_parquet(1, 5 * MIB), _parquet(2, 5 * MIB)])
    assert notice.message.startswith("t.parquet has changed, and 100% of 5.0 MiB")
    assert notice.hint is not None
    assert "use_content_defined_chunking=True" in notice.hint
    assert "docs/howto/deduplicate-well.md" in notice.hint


def test_no_hint_without_need(store: Store, tmp_path: Path) -> None:
    """None for a first version, a small file, one that shares much, or one written by content."""
    large = _parquet(1, 6 * MIB)
    mostly_old = large[: 5 * MIB] + random_bytes(MIB, 9)
    by_content = _parquet(2, 5 * MIB, b"content_defined_chunking\0true")
    for name, contents in {
        "first": [large],
        "small": [_parquet(1, MIB), _parquet(2, MIB)],
        "shares": [large, mostly_old],
        "by_content": [large, by_content],
        "same": [large, large],
    }.items():
        assert _replaced(store, tmp_path / name, "t.parquet", contents) == [], name
    assert _replaced(store, tmp_path / "bin", "t.bin", [large, _parquet(3, 6 * MIB)]) == []


def test_one_hint_for_many_files(store: Store, tmp_path: Path) -> None:
    """Of many archives only one is named, with the share of all."""
    data = tmp_path / "archives"
    data.mkdir()
    for seed in (0, 10):
        for number in range(3):
            (data / f"{number}.tar.gz").write_bytes(random_bytes(5 * MIB, seed + number))
        events: list[object] = []
        store.push(data, "archives", progress=events.append)
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.message.startswith("3 .gz files have changed, such as 0.tar.gz, and 100%")
