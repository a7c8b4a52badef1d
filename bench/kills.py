"""Kill -9 at random moments of push, rm, tag and gc, a thousand times, on one store that lives on.

    python -m bench.kills [--kills 1000] [--life 1.0] [--on folder minio seaweedfs]

A child does one random thing after another and says what it has begun and what was acknowledged.
It is killed, the store is held against what it said, and the next child goes on with the same
store: every version that was acknowledged and not removed is there, every version that is there
is whole, byte for byte, and none is there that nobody pushed. Ends with status 1 where that did not
hold. `bench.bench_kill` kills large transfers, and measures what is sent again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from blake3 import blake3

from bench.sites import Site, sites
from chunkstore import ChunkerSpec, Store
from chunkstore.errors import ChunkstoreError, NotFoundError
from chunkstore.testing.trees import random_bytes

DATASETS: Final = ("first", "second")
TREES: Final = 8
LIFE: Final = 1.0
"""Seconds that a child lives at most."""

_FULL: Final = 25
"""After so many kills every byte of every version is read; after each kill, what is new."""


def write_trees(folder: Path) -> list[Path]:
    """Write trees that share most of their files, about 200 KB each."""
    blocks = [random_bytes(60_000, number) for number in range(6)]
    trees = []
    for number in range(TREES):
        tree = folder / f"tree-{number}"
        (tree / "sub").mkdir(parents=True)
        for place in range(3):
            (tree / "sub" / f"block-{place}").write_bytes(blocks[(number + place * place) % 6])
        (tree / "own").write_bytes(b"tree %d\n" % number)
        trees.append(tree)
    return trees


def digest_of(files: Iterator[tuple[str, bytes]]) -> str:
    """Return one hash of files with their paths."""
    hasher = blake3()
    for path, data in sorted(files):
        hasher.update(b"%s\0%d\0" % (path.encode(), len(data)))
        hasher.update(data)
    return hasher.hexdigest()


def _tree_digest(tree: Path) -> str:
    return digest_of(
        (str(path.relative_to(tree)), path.read_bytes())
        for path in tree.rglob("*")
        if path.is_file()
    )


def _stored_digest(store: Store, address: str) -> str:
    return digest_of(
        (entry.path, content.read(0, content.size))
        for entry, content in store.contents(address)
        if content is not None
    )


def live(store: Store, trees: list[Path], chance: random.Random, said: IO[str]) -> None:
    """Do one thing after another, for ever, and say so."""

    def say(*words: object) -> None:
        print(*words, file=said, flush=True)

    while True:
        dataset = chance.choice(DATASETS)
        doing = chance.choices(["push", "rm", "tag", "gc"], [4, 2, 1, 2])[0]
        try:
            if doing == "push":
                number = chance.randrange(TREES)
                message = f"tree {number} {chance.getrandbits(60):015x}"
                say("begun", dataset, message)
                version = store.push(trees[number], dataset, message=message).version
                say("pushed", dataset, version, number)
            elif doing == "rm":
                numbers = [version.number for version in store.dataset(dataset).versions]
                chosen = chance.sample(numbers, chance.randint(1, len(numbers)))
                say("removing", dataset, *chosen)
                store.remove(dataset, chosen)
            elif doing == "tag":
                store.tag(f"{dataset}@latest", f"tag-{chance.randrange(3)}")
            else:
                store.gc(apply=True, grace=0, reader_grace=0, force=True)
            say("did", doing)
        except NotFoundError:
            say("nothing", doing)


@dataclass
class Ledger:
    """What children have said, and what was seen.

    Attributes:
        acknowledged: number of the tree of each version (dataset, number).
        removed: versions whose removal was begun.
        did: how often each thing was done.
        versions: how many versions were read.
        problems: promises that were broken.
    """

    acknowledged: dict[tuple[str, int], int] = field(default_factory=dict)
    removed: set[tuple[str, int]] = field(default_factory=set)
    read: set[tuple[str, int, str]] = field(default_factory=set)
    did: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    problems: list[str] = field(default_factory=list)

    def hear(self, lines: list[str]) -> None:
        """Take what one child said; its last line may be cut off."""
        for line in lines:
            match line.split():
                case ["pushed", dataset, version, tree]:
                    self.acknowledged[dataset, int(version)] = int(tree)
                case ["removing", dataset, *numbers]:
                    self.removed.update((dataset, int(number)) for number in numbers)
                case ["did", what]:
                    self.did[what] += 1

    def look(self, store: Store, digests: list[str], *, full: bool) -> None:
        """Hold a store against what was said."""
        listed: dict[tuple[str, int], str] = {}
        for name in DATASETS:
            with contextlib.suppress(NotFoundError):
                for version in store.dataset(name).versions:
                    listed[name, version.number] = version.message
        for key in self.acknowledged.keys() - self.removed:
            if key not in listed:
                self.problems.append(f"{key[0]}@{key[1]} was acknowledged and is not there")
        for (name, number), message in listed.items():
            if not full and (name, number, message) in self.read:
                continue
            self.read.add((name, number, message))
            self.versions += 1
            tree = int(message.split()[1])
            try:
                right = _stored_digest(store, f"{name}@{number}") == digests[tree]
            except ChunkstoreError as error:
                self.problems.append(f"{name}@{number} cannot be read: {error}")
                continue
            known = self.acknowledged.get((name, number), tree)
            if not right or digests[known] != digests[tree]:
                self.problems.append(f"{name}@{number} has other bytes than were pushed")


def kill_once(
    open_store: Callable[[], Store], trees: list[Path], seed: int, life: float
) -> list[str]:
    """Let a child live for at most so many seconds, kill it, and return what it had said."""
    chance = random.Random(seed)
    seconds = chance.uniform(0.005, life)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as said, open_store() as store:
                print("ready", file=said, flush=True)
                live(store, trees, chance, said)
        except BaseException as error:  # noqa: BLE001  # a child says it and ends, whatever it is
            os.write(2, f"a child failed: {error!r}\n".encode())
            status = 3
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as heard:
        first = heard.readline()
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        lines = heard.read().splitlines()
    if not os.WIFSIGNALED(status) or first != "ready\n":
        raise RuntimeError(f"the child of seed {seed} failed before it was killed")
    return lines


def run(site: Site, kills: int, folder: Path, *, seed: int = 0, life: float = LIFE) -> Ledger:
    """Kill so many children, one after the other, over one store; return what was seen."""
    trees = write_trees(folder / "trees")
    digests = [_tree_digest(tree) for tree in trees]
    chunker = ChunkerSpec(min_size=1024, avg_size=4096, max_size=16384)
    site.create(chunker=chunker, frame_size=32768, pack_length=65536).close()
    ledger = Ledger()
    for number in range(1, kills + 1):
        ledger.hear(kill_once(site.open, trees, seed + number, life))
        with site.open() as store:
            ledger.look(store, digests, full=number % _FULL == 0 or number == kills)
        if ledger.problems:
            break
    return ledger


def main() -> int:
    """Run it; return 0 if nothing was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--life", type=float, default=LIFE, help="seconds that a child lives at most"
    )
    parser.add_argument("--on", nargs="+", default=["folder"])
    chosen = parser.parse_args()
    broken = 0
    for place in chosen.on:
        with (
            tempfile.TemporaryDirectory(prefix="chunkstore-kills-") as name,
            sites(place, Path(name)) as places,
        ):
            ledger = run(next(places), chosen.kills, Path(name), seed=chosen.seed, life=chosen.life)
        done = ", ".join(f"{count} {what}" for what, count in sorted(ledger.did.items()))
        print(f"{place}: {chosen.kills} kills; done between them: {done}")
        print(f"{len(ledger.acknowledged)} commits acknowledged, {ledger.versions} versions read")
        print("\n".join(ledger.problems) or "0 lost acknowledged commits, 0 half versions")
        broken += len(ledger.problems)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
