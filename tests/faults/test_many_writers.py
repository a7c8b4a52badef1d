"""Writers that work at the same time lose nothing of each other."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore.backends.base import Backend, CreateOnly, ReplaceIf
from chunkstore.backends.location import open_backend
from chunkstore.errors import ConditionFailedError
from chunkstore.testing.trees import make_tree, tree_state
from tests.conftest import Place
from tests.faults.test_kill import start


def test_eight_processes_push_to_one_dataset(place: Place, tmp_path: Path) -> None:
    """Eight pushes make eight versions, each readable as it was pushed."""
    trees = [make_tree(tmp_path / f"tree-{n}", seed=n, files=6) for n in range(8)]
    place.create().close()
    children = [start(place, "push", str(tree), "data") for tree in trees]
    for child in children:
        output, _ = child.communicate(timeout=120)
        assert output == "done\n"
    states = [tree_state(tree) for tree in trees]
    with place.open() as store:
        assert [v.number for v in store.dataset("data").versions] == list(range(1, 9))
        for number in range(1, 9):
            out = tmp_path / f"out-{number}"
            store.pull(f"data@{number}", out)
            assert tree_state(out) in states
            states.remove(tree_state(out))
    assert states == []


@pytest.mark.parametrize("condition", ["create only", "replace if"])
def test_of_sixteen_racing_writers_one_wins(place: Place, condition: str) -> None:
    """In each of 100 rounds exactly one write is accepted, and it is the one that is there."""
    rounds = 50 if place.name == "seaweedfs" else 100  # it takes a second for each
    with (
        open_backend(place.url, s3=place.s3, deadline=30) as backend,
        ThreadPoolExecutor(16) as pool,
    ):
        for number in range(rounds):
            key = f"race/{condition.replace(' ', '-')}-{number}"
            mode = CreateOnly()
            if condition == "replace if":
                mode = ReplaceIf(backend.put(key, [b"first"], CreateOnly()))

            def write(writer: int, key: str = key, mode: CreateOnly | ReplaceIf = mode) -> bool:
                return _wins(backend, key, b"writer %d" % writer, mode)

            winners = [n for n, won in enumerate(pool.map(write, range(16))) if won]
            assert len(winners) == 1
            assert backend.get(key).data == b"writer %d" % winners[0]


def _wins(backend: Backend, key: str, data: bytes, mode: CreateOnly | ReplaceIf) -> bool:
    try:
        backend.put(key, [data], mode)
    except ConditionFailedError:
        return False
    return True


def test_the_child_of_these_tests_says_when_it_fails(local: Place) -> None:
    """The processes above would not pass by dying early."""
    done = subprocess.run(
        [sys.executable, "-c", "import chunkstore; chunkstore.Store.open('/nowhere/at/all')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "no store at" in done.stderr
    assert isinstance(local.create(), Store)
