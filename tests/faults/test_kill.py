"""A process that is killed leaves a whole store behind, and the same command goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore.limits import MIB
from chunkstore.testing.trees import hash_of, write_mixture
from tests.conftest import Place

CHILD = """
import sys
from chunkstore import Credentials, S3Options, Store
verb, url, endpoint, access, secret, cache, source, target = sys.argv[1:]
s3 = None
if endpoint:
    s3 = S3Options(endpoint=endpoint, region="us-east-1", credentials=Credentials(access, secret))
with Store.open(url, s3=s3, cache_folder=cache) as store:
    print("ready", flush=True)
    if verb == "push":
        result = store.push(source, target)
    else:
        result = store.pull(source, target)
print("done", flush=True)
"""


def start(place: Place, verb: str, source: str, target: str) -> subprocess.Popen[str]:
    """Start a push or pull in a process of its own; return when the store is open."""
    s3 = place.s3
    given = s3.credentials if s3 else None
    child = subprocess.Popen(
        [
            *(sys.executable, "-c", CHILD, verb, place.url),
            *((s3.endpoint or "") if s3 else "", given.access_key if given else ""),
            *(given.secret_key if given else "", str(place.cache), source, target),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def kill_after(child: subprocess.Popen[str], seconds: float) -> bool:
    """Kill the child after some time; return whether it had not ended by itself."""
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    output, _ = child.communicate()
    return "done" not in output


def stored_packs(store: Store) -> int:
    """Return the stored bytes of all packs, whether or not an index knows them."""
    return store.stat().pack_bytes


def push_with_kills(place: Place, source: Path, *, kills: int, longest: float, seed: int) -> None:
    """Kill a push again and again; each time look at the store, at last let it finish."""
    clock = random.Random(seed)
    for number in range(kills):
        dataset = f"data-{number}"
        child = start(place, "push", str(source), dataset)
        killed = kill_after(child, clock.uniform(0, longest))
        with place.open() as store:
            present = stored_packs(store)
            versions = dict.fromkeys(store.datasets())
            if dataset in versions and killed:
                stored = store._refs.get(dataset)
                versions_there = stored.ref.versions if stored else ()
                for version in versions_there:  # committed, and only the process was killed
                    assert version.size == source.stat().st_size
    with place.open() as store:
        result = store.push(source, "final")
        assert result.version == 1
        total = source.stat().st_size
        assert result.stats.sent_bytes <= max(0, total - present) + 256 * MIB
        with store.open_file(f"final:{source.name}") as file:
            assert len(file.read(10)) == 10


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_push_leaves_no_half_version(place: Place, tmp_path: Path, seed: int) -> None:
    """After kill -9 the store opens, holds whole versions only, and the next push finishes."""
    source = tmp_path / "file"
    digest = write_mixture(source, 120 * MIB, seed)
    place.create().close()
    push_with_kills(place, source, kills=3, longest=1.2, seed=seed)
    with place.open() as store:
        store.pull("final:file", tmp_path / "out")
    assert hash_of(tmp_path / "out") == digest


def test_a_killed_pull_fetches_nothing_twice(place: Place, tmp_path: Path) -> None:
    """What was written and verified before the kill is reused by the next pull."""
    source = tmp_path / "file"
    digest = write_mixture(source, 200 * MIB, 3)
    with place.create() as store:
        store.push(source, "data")
    target = tmp_path / "out"
    target.mkdir()
    clock = random.Random(3)
    for _ in range(3):
        kill_after(start(place, "pull", "data:file", str(target)), clock.uniform(0.05, 0.4))
        if (target / "file").exists():
            (target / "file").unlink()
        verified = _good_bytes(place, target, source)
        with place.open() as store:
            result = store.pull("data:file", target, dry_run=True)
        assert result.stats.reused_bytes >= verified
    with place.open() as store:
        result = store.pull("data:file", target)
    assert hash_of(target / "file") == digest
    assert result.stats.reused_bytes + result.stats.written_bytes == source.stat().st_size


def _good_bytes(place: Place, target: Path, source: Path) -> int:
    """Return how many bytes of chunks the part file has that are right."""
    parts = list(target.glob(".chunkstore-part-*"))
    if not parts:
        return 0
    have, want = parts[0].read_bytes(), source.read_bytes()
    with place.open() as store:
        (entry,) = store.entries("data:file")
    good = at = 0
    for size in entry.blob.size_array().tolist():
        if have[at : at + size] == want[at : at + size]:
            good += size
        at += size
    return good
