"""Kill -9 at random moments of a push and of a pull; hold what is left against the promises.

    python -m bench.bench_kill [--size 1000] [--moments 30] [--on folder minio seaweedfs]

Each row is one moment. After a push was killed the store must open and hold no half version, the
same command must finish, and send at most what was missing plus 80 MiB. After a pull was killed,
what lies right in the target must not be fetched again. Ends with status 1 where that did not hold.
`tests/faults/test_kill.py` does the same with less data. The data do not compress, so that stored
and raw bytes are nearly the same.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blake3 import blake3

from bench.sites import Site, sites
from chunkstore import Store
from chunkstore.chunk_index import ABSENT
from chunkstore.limits import MIB
from chunkstore.reader import Reader
from chunkstore.testing.trees import hash_of, random_bytes

MOST_LOST: Final = 80 * MIB
"""Stored bytes that a push may send again after it was killed: two packs whose storing was not
acknowledged yet, and pages."""

MOST_REFETCHED: Final = 32 * MIB
"""Stored bytes that a pull may fetch again: frames that were under way, which hold other chunks."""


def kill_after(child: subprocess.Popen[str], seconds: float) -> bool:
    """Kill the child after some time; return whether it had not ended by itself."""
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    output, _ = child.communicate()
    return "done" not in output


def duration(child: subprocess.Popen[str]) -> float:
    """Wait for the child to end by itself; return the seconds that took."""
    started = time.monotonic()
    output, _ = child.communicate()
    assert output == "done\n"
    return time.monotonic() - started


@dataclass(slots=True)
class Moment:
    """What one kill left behind and what the same command then did; sizes in bytes."""

    seconds: float
    killed: bool
    kept: int
    missing: int
    moved: int
    problems: list[str] = field(default_factory=list)

    def require(self, holds: bool, problem: str) -> None:
        """Note a promise that was broken."""
        if not holds:
            self.problems.append(problem)


def pushed(site: Site, source: Path, digest: str, seconds: float, sent: int) -> Moment:
    """Kill a push into a new store after some seconds, look, and push again.

    `sent` is what an undisturbed push sends.
    """
    site.create().close()
    killed = kill_after(site.start("push", str(source), "data"), seconds)
    with site.open() as store:
        present = sum(length for _, length in store._objects.list_packs())
        moment = Moment(seconds, killed, present, max(0, sent - present), 0)
        stored = store._refs.get("data")
        versions = stored.ref.versions if stored else ()
        moment.require(killed or len(versions) == 1, "an acknowledged version is not there")
        moment.require(all(_whole(store, r.number) for r in versions), "half a version is there")
        result = store.push(source, "data")
        moment.moved = result.stats.sent_bytes
        moment.require(result.version == 1, "the version was doubled")
        moment.require(moment.moved <= moment.missing + MOST_LOST, "too much was sent again")
        if versions:
            moment.require(result.unchanged, "a whole version was pushed again")
        moment.require(_hash(store, source.name) == digest, "other bytes are stored")
    return moment


def _whole(store: Store, number: int) -> bool:
    reader = Reader(store._objects, store._index)
    index = store._index()
    manifest = reader.manifest(store.version(f"data@{number}").manifest_id)
    return not any((index.find(ids) == ABSENT).any() for ids in reader.every_id(manifest))


def _hash(store: Store, name: str) -> str:
    hasher = blake3()
    content = store.file_content(f"data:{name}")
    for block in content.blocks(0, content.size):
        hasher.update(block)
    return hasher.hexdigest()


def pulled(site: Site, source: Path, digest: str, seconds: float, target: Path) -> Moment:
    """Kill a pull of `data` into a new folder after some seconds, look, and pull again."""
    target.mkdir()
    killed = kill_after(site.start("pull", f"data:{source.name}", str(target)), seconds)
    with site.open() as store:
        good = good_bytes(store, target, source)
        size = source.stat().st_size
        result = store.pull(f"data:{source.name}", target)
        moment = Moment(seconds, killed, good, size - good, result.stats.fetched_bytes)
    moment.require(result.stats.reused_bytes >= good, "right bytes were not reused")
    seams = moment.missing // 32  # a frame between two batches is fetched for each
    most = moment.missing + seams + MOST_REFETCHED
    moment.require(moment.moved <= most, "too much was fetched again")
    moment.require(hash_of(target / source.name) == digest, "other bytes were written")
    moment.require([p.name for p in target.iterdir()] == [source.name], "something was left behind")
    return moment


def good_bytes(store: Store, target: Path, source: Path) -> int:
    """Return how many bytes of chunks of the target's file, or part of it, are right."""
    found = [p for p in target.iterdir() if p.is_file()]
    if not found:
        return 0
    (entry,) = store.entries(f"data:{source.name}")
    reader = Reader(store._objects, store._index)
    manifest = reader.manifest(store.version("data").manifest_id)
    good = 0
    with open(found[0], "rb") as have, open(source, "rb") as want:
        for blob in reader.lists(entry.blob, manifest.packs):
            for size in blob.size_array().tolist():
                if have.read(size) == want.read(size):
                    good += size
    return good


def _drop(site: Site) -> None:
    with site.open() as store:
        keys = [info.key for info in store._objects.backend.list("")]
        for start in range(0, len(keys), 1000):
            store._objects.backend.delete(keys[start : start + 1000])
    shutil.rmtree(site.cache, ignore_errors=True)


def _bench(place: str, size: int, moments: int, folder: Path) -> int:
    source = folder / "file"
    with open(source, "wb") as file:
        for number in range(0, size, 1_000_000):
            file.write(random_bytes(1_000_000, number))
    digest = hash_of(source)
    with sites(place, folder) as places:
        site = next(places)
        site.create().close()
        longest = duration(site.start("push", str(source), "data"))
        with site.open() as store:
            sent = sum(length for _, length in store._objects.list_packs())
        print(f"{place}: an undisturbed push takes {longest:.1f} s and sends {sent / 1e6:.0f} MB")

        def push(seconds: float) -> Moment:
            other = next(places)
            try:
                return pushed(other, source, digest, seconds, sent)
            finally:
                _drop(other)

        broken = _rounds(place, "push", moments, longest, push)
        target = folder / "out"
        longest = duration(site.start("pull", "data:file", str(target)))
        target.unlink()
        print(f"{place}: an undisturbed pull takes {longest:.1f} s")

        def pull(seconds: float) -> Moment:
            try:
                return pulled(site, source, digest, seconds, target)
            finally:
                shutil.rmtree(target)

        return broken + _rounds(place, "pull", moments, longest, pull)


def _rounds(
    place: str, verb: str, moments: int, longest: float, one: Callable[[float], Moment]
) -> int:
    """Kill at so many moments between 0 and `longest` seconds; a run that ended counts for none.

    Returns how many promises were broken.
    """
    clock = random.Random(7)
    broken = killed = number = 0
    while killed < moments:
        moment = one(clock.uniform(0, longest))
        broken += _tell(place, verb, number, moment)
        number += 1
        killed += moment.killed
        if not moment.killed:
            longest = moment.seconds  # it ends sooner than it did at first
    return broken


def _tell(place: str, verb: str, number: int, moment: Moment) -> int:
    print(
        f"{place:9} {verb} {number + 1:3}  {'killed' if moment.killed else 'ended '} at "
        f"{moment.seconds:5.2f} s  kept {moment.kept / 1e6:7.1f} MB  "
        f"missing {moment.missing / 1e6:7.1f}  moved {moment.moved / 1e6:7.1f}  "
        f"again {max(0, moment.moved - moment.missing) / 1e6:6.1f}  "
        f"{'; '.join(moment.problems) or 'ok'}",
        flush=True,
    )
    return len(moment.problems)


def main() -> int:
    """Run it; return 0 if nothing was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1000, help="MB of the file")
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--on", nargs="+", default=["folder", "minio"])
    chosen = parser.parse_args()
    broken = 0
    for place in chosen.on:
        with tempfile.TemporaryDirectory(prefix="chunkstore-kill-") as name:
            broken += _bench(place, chosen.size * 1_000_000, chosen.moments, Path(name))
    print("every promise held" if not broken else f"{broken} promises were BROKEN")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
