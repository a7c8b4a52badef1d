"""A process that is killed leaves a whole store behind, and the same command goes on.

`python -m bench.bench_kill` does the same with more data, at more moments.
"""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from bench.bench_kill import MOST_LOST, duration, good_bytes, kill_after
from bench.bench_kill import pulled as kill_pull
from bench.bench_kill import pushed as kill_push
from bench.sites import Site
from chunkstore.limits import MIB
from chunkstore.testing.trees import hash_of, random_bytes, tree_state, write_mixture
from tests.conftest import Place

MOMENTS = 2
SIZE = 120 * MIB


def site_of(place: Place, number: int) -> Site:
    """Return a site of its own beside the place's."""
    base, _, query = place.url.partition("?")
    url = f"{base}-{number}" + (f"?{query}" if query else "")
    return Site(url, place.s3, place.cache.with_name(f"cache-{number}"))


def start(place: Place, verb: str, source: str, target: str) -> subprocess.Popen[str]:
    """Start a push or pull in a process of its own; return when the store is open."""
    return Site(place.url, place.s3, place.cache).start(verb, source, target)


def test_a_killed_push_leaves_no_half_version(place: Place, tmp_path: Path) -> None:
    """After kill -9 the store opens, holds whole versions only, and the same push finishes.

    It sends at most what was missing plus two packs, and makes one version.
    """
    source = tmp_path / "file"
    digest = write_mixture(source, SIZE, 1)
    first = site_of(place, 0)
    first.create().close()
    longest = duration(first.start("push", str(source), "data"))
    with first.open() as store:
        sent = sum(length for _, length in store._objects.list_packs())
    clock = random.Random(place.name)
    for number in range(1, MOMENTS + 1):
        seconds = clock.uniform(0, longest)
        moment = kill_push(site_of(place, number), source, digest, seconds, sent)
        assert moment.problems == [], moment


def test_a_push_that_is_killed_again_and_again_gets_there(local: Place, tmp_path: Path) -> None:
    """What was indexed before a kill is not sent again: pushes that all die make headway.

    The index is written every 128 MiB, so each life that gets further than that leaves some.
    """
    source = tmp_path / "file"
    with open(source, "wb") as file:
        for number in range(300):
            file.write(random_bytes(1_000_000, number))
    site = site_of(local, 0)
    site.create().close()
    indexed = [0]
    for _ in range(30):
        child = site.start("push", str(source), "data")
        while child.poll() is None and _indexed(site) <= indexed[-1]:
            time.sleep(0.002)  # kill it as soon as a new index segment is there
        if not kill_after(child, 0):
            break
        indexed.append(_indexed(site))
    assert len(indexed) > 2
    with site.open() as store:
        present = store.stat().unique_bytes - MIB  # it counts lists and pages too
        result = store.push(source, "data")
        assert result.stats.new_bytes <= source.stat().st_size - present
        assert result.version == 1


def _indexed(site: Site) -> int:
    return sum(1 for path in Path(site.url).glob("index/*") if not path.name.startswith("."))


def test_a_killed_push_of_a_tree_goes_on(place: Place, tmp_path: Path) -> None:
    """A tree of many files, killed in its first second, is pushed and pulled whole afterwards."""
    tree = tmp_path / "tree"
    for number in range(300):
        path = tree / f"{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(20_000, number))
    site = site_of(place, 0)
    site.create().close()
    clock = random.Random(5)
    for _ in range(MOMENTS):
        kill_after(site.start("push", str(tree), "data"), clock.uniform(0, 0.4))
    with site.open() as store:
        result = store.push(tree, "data")
        assert result.version == 1
        assert result.stats.sent_bytes <= 6_500_000 + MOST_LOST
        store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_a_killed_pull_fetches_nothing_twice(place: Place, tmp_path: Path) -> None:
    """What was written and verified before the kill is reused by the next pull."""
    source = tmp_path / "file"
    digest = write_mixture(source, SIZE, 3)
    site = site_of(place, 0)
    with site.create() as store:
        store.push(source, "data")
    whole = tmp_path / "whole"
    whole.mkdir()
    longest = duration(site.start("pull", "data:file", str(whole)))
    clock = random.Random(place.name)
    for number in range(MOMENTS):
        target = tmp_path / f"out-{number}"
        moment = kill_pull(site, source, digest, clock.uniform(0, longest), target)
        assert moment.problems == [], moment


@pytest.mark.parametrize("flips", [1, 50])
def test_what_was_damaged_in_a_part_file_is_fetched(
    local: Place, tmp_path: Path, flips: int
) -> None:
    """A part file is believed chunk by chunk, by id, and not for its length."""
    source, target = tmp_path / "file", tmp_path / "out"
    digest = write_mixture(source, 40 * MIB, 4)
    target.mkdir()
    site = site_of(local, 0)
    with site.create() as store:
        store.push(source, "data")
        part = target / _part_name(site, target)
        data = bytearray(source.read_bytes()[: 30 * MIB])
        clock = random.Random(flips)
        for _ in range(flips):
            data[clock.randrange(len(data))] ^= 1
        part.write_bytes(data)
        good = good_bytes(store, target, source)
        assert 0 < good < 30 * MIB
        result = store.pull("data:file", target)
    assert result.stats.reused_bytes == good
    assert hash_of(target / "file") == digest


def _part_name(site: Site, target: Path) -> str:
    """Return the name that a pull gives to the file while it is not whole."""
    for seconds in (0.05, 0.1, 0.2, 0.3, 0.4):
        kill_after(site.start("pull", "data:file", str(target)), seconds)
        parts = list(target.glob(".chunkstore-part-*"))
        if parts:
            return parts[0].name
        (target / "file").unlink(missing_ok=True)
    raise AssertionError("no pull was killed in time")
