"""Does a store survive rot? Flips bits, cuts and deletes objects, one at a time, a thousand times.

    python -m bench.bench_rot                                 1,000 flips, 200 cuts, 200 deletions
    python -m bench.bench_rot --flips 20 --cuts 5 --gone 5    a look

After each: `verify --read-data` must name the object; a pull of one of the versions, in turn, and
reads of its single files must give the right bytes or an error. Then ten are damaged at once, and a
repair from a second store must make every version identical again. The laws are those of
tests/faults/test_damage_and_repair.py. A line for each ten, a summary at the end; the status is 1
if anything was missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from chunkstore import ChunkstoreError, Store
from chunkstore.testing.trees import tree_state
from tests.faults.damage import Harm, World, harms, small_lists

BATCH = 10


class Rot:
    """One run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.world = World(root / "world")
        self.copy = self.world.copy(root / "copy")
        self.mirror = root / "mirror"
        self.counts: Counter[str] = Counter()
        with (
            Store.open(str(self.world.store), cache_folder=root / "cache") as store,
            Store.create(str(self.mirror), cache_folder=root / "cache") as mirror,
        ):
            store.copy(mirror)

    def one(self, harm: Harm) -> None:
        """Do one harm, hold the store against the laws, and undo it."""
        harm.do(self.copy)
        self.counts["harms"] += 1
        with Store.open(str(self.copy), cache_folder=self.root / "cold") as store:
            found = {damage.key for damage in store.verify(level="data").damage}
            expected = "index/" if (harm.kind, harm.how) == ("index", "gone") else harm.key
            self.counts["found" if expected in found else "MISSED"] += 1
            if expected not in found:
                print("missed", harm, found)
            name = [*self.world.versions][self.counts["harms"] % len(self.world.versions)]
            self._read(store, name, self.world.versions[name])
        shutil.rmtree(self.root / "cold", ignore_errors=True)
        harm.undo(self.copy, self.world.store)

    def _read(self, store: Store, name: str, tree: Path) -> None:
        out = self.root / "out"
        shutil.rmtree(out, ignore_errors=True)
        try:
            store.pull(name, out)
        except ChunkstoreError:
            self.counts["pulls refused"] += 1
            for path in out.rglob("*") if out.exists() else ():
                theirs = tree / path.relative_to(out)
                if path.is_file() and ".chunkstore-part-" not in path.name:
                    self._count(path.read_bytes() == theirs.read_bytes(), "files")
        else:
            self._count(tree_state(out) == self.world.states[name], "pulls")
        for path in sorted(path for path in tree.iterdir() if path.is_file()):
            try:
                with store.open_file(f"{name}:{path.name}") as file:
                    self._count(file.read() == path.read_bytes(), "reads")
            except ChunkstoreError:
                self.counts["reads refused"] += 1

    def _count(self, right: bool, what: str) -> None:
        self.counts[f"{what} right" if right else f"WRONG {what}"] += 1

    def many(self, batch: Sequence[Harm]) -> None:
        """Damage several objects at once, repair from the mirror, compare all.

        Not the ref and all manifests of a dataset: then nothing is left that tells of it.
        """
        if any(harm.kind == "refs" for harm in batch):
            batch = [harm for harm in batch if harm.kind != "manifests"]
        for harm in {harm.key: harm for harm in batch}.values():
            harm.do(self.copy)
        cache = self.root / "repair-cache"
        with (
            small_lists(),
            Store.open(str(self.copy), cache_folder=cache) as store,
            Store.open(str(self.mirror), cache_folder=cache) as mirror,
        ):
            well = store.repair(level="data", source=mirror).after.well
            well = well and store.verify(level="data").well
            for name in self.world.versions:
                out = self.root / "out"
                shutil.rmtree(out, ignore_errors=True)
                if well:
                    store.pull(name, out)
                    well = tree_state(out) == self.world.states[name]
        self.counts["repairs well" if well else "REPAIRS NOT WELL"] += 1
        shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(self.copy)
        self.world.copy(self.copy)


def main() -> int:
    """Run; return the status."""
    parser = argparse.ArgumentParser(description="does a store survive rot?")
    for name, default in (("flips", 1000), ("cuts", 200), ("gone", 200), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chunkstore-rot-") as folder:
        rot = Rot(Path(folder))
        for how, count in (("flip", options.flips), ("cut", options.cuts), ("gone", options.gone)):
            batch: list[Harm] = []
            for harm in harms(rot.world.store, how, count, options.seed):
                rot.one(harm)
                batch.append(harm)
                if len(batch) == BATCH:
                    rot.many(batch)
                    batch = []
                    print(how, dict(rot.counts), flush=True)
        seconds = time.monotonic() - started
    print(f"{seconds:,.0f} s:", ", ".join(f"{n} {what}" for what, n in sorted(rot.counts.items())))
    bad = ("MISSED", "WRONG", "REPAIRS NOT")
    return 1 if any(what.startswith(bad) for what in rot.counts) else 0


if __name__ == "__main__":
    sys.exit(main())
