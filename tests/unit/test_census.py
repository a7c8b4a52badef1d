"""The total of a push is counted beside it and is the truth."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

from chunkstore import Progress, Store
from chunkstore.census import Census
from chunkstore.filters import EVERYTHING, PathFilter
from chunkstore.source import open_source
from chunkstore.testing.trees import random_bytes
from chunkstore.walk import Found


def counted(census: Census) -> tuple[int, int] | None:
    """Return the totals once the thread has ended."""
    with census:
        census._thread.join()
    return census.totals


def test_the_count_is_what_is_pushed(store: Store, tree: Path) -> None:
    """Files and bytes are those that the version will have, patterns and ignore files included."""
    (tree / ".chunkstoreignore").write_text("*-00*.bin\n")
    for patterns in ((), ("train/",)):
        result = store.push(tree, "data", exclude=patterns)
        source = open_source(tree, None)
        paths = PathFilter(exclude=patterns)
        census = Census(lambda s=source, p=paths: s.walk(p), patience=0)
        assert counted(census) == (result.stats.files, result.stats.size)


def test_a_stream_has_no_total() -> None:
    """What cannot be known is not guessed."""
    source = open_source(io.BytesIO(b"abc"), "name")
    assert counted(Census(lambda: source.walk(EVERYTHING), patience=0)) is None


def test_a_short_push_is_not_counted() -> None:
    """Before its patience is over nothing is walked, and leaving ends the wait."""
    walked: list[int] = []
    with Census(lambda: walked.append(1), patience=3600):
        pass
    assert walked == []


def test_counting_ends_with_the_push() -> None:
    """A count that is not ready when the push ends is given up."""

    def endless() -> Iterator[Found]:
        while True:
            time.sleep(0.001)
            yield from ()
            yield Found("a", 1, "a")  # type: ignore[arg-type]  # a folder, by its number

    with Census(endless, patience=0) as census:
        time.sleep(0.05)
    assert census.totals is None


def test_progress_gets_the_total(store: Store, tmp_path: Path) -> None:
    """A push that takes its time tells the total; the last Progress reaches it."""
    seen: list[Progress] = []

    def watch(event: object) -> None:
        if isinstance(event, Progress):
            seen.append(event)
            time.sleep(0.7)

    for number in range(8):
        (tmp_path / "tree" / str(number)).mkdir(parents=True)
        (tmp_path / "tree" / str(number) / "f").write_bytes(random_bytes(4_200_000, number))
    result = store.push(tmp_path / "tree", "data", progress=watch)
    assert seen[-1].total_bytes == seen[-1].done_bytes == result.stats.size
    assert seen[-1].total_files == seen[-1].done_files == 8
