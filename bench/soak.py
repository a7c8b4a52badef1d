"""Processes that push, read, tag, drop, bring back and collect, while they are killed and stopped.

    python -m bench.soak [--on folder minio seaweedfs] [--seconds 600] [--processes 8] [--seed 1]

Collections have no grace of any kind. Each process has caches of its own, as a machine would. Some
of them are killed by SIGKILL and started again, others stopped by SIGSTOP for up to seconds. What a
version holds follows from its message, so every version that is there can be checked, whoever made
it. It ends with 0 if

- every version that is listed reads back byte for byte, before and after a last collection;
- every version whose push was acknowledged is listed, unless somebody set out to drop it;
- nothing failed but by conflict, or because what was asked for had been dropped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.sites import Site, sites
from chunkstore import ChunkerSpec, Store
from chunkstore.errors import ConflictError, IntegrityError, NotFoundError, RefusedError
from chunkstore.testing.trees import random_bytes

DATASETS: Final = ("one", "two", "three")
_PIECE: Final = 60_000
_PIECES: Final = 12
"""Contents are made of these, so that pushes share chunks with what lives and what is dead."""

_CHUNKER: Final = ChunkerSpec(min_size=1024, avg_size=4096, max_size=16384)
_EXPECTED: Final = (ConflictError, NotFoundError, RefusedError)


def content_of(message: str) -> bytes:
    """Return the bytes of the version with that message: the seeds of its pieces."""
    return b"".join(random_bytes(_PIECE, int(seed)) for seed in message.split())


class Worker:
    """What one process does until its time is over."""

    def __init__(self, store: Store, journal: Path, seed: int) -> None:
        self._store = store
        self._journal = journal
        self._random = random.Random(seed)

    def run(self, until: float) -> None:
        """Act at random; what should not happen is written down as `bad`."""
        acts: list[Callable[[], None]] = [self.push, self.read, self.tag, self.drop]
        acts += [self.undo, self.collect]
        while time.time() < until:
            act = self._random.choices(acts, (6, 4, 1, 4, 1, 3))[0]
            try:
                act()
                self._note(f"done {act.__name__}")
            except _EXPECTED as error:
                self._note(f"refused {act.__name__} {type(error).__name__}")
            except Exception:  # noqa: BLE001  # whatever it is, it is to be told
                self._note(f"bad {act.__name__} {traceback.format_exc()!r}")

    def push(self) -> None:
        """Make a version of pieces that others use too."""
        seeds = self._random.choices(range(_PIECES), k=self._random.randint(1, 4))
        message = " ".join(map(str, seeds))
        dataset = self._random.choice(DATASETS)
        result = self._store.push(
            io.BytesIO(content_of(message)), dataset, name="file", message=message, allow_same=True
        )
        self._note(f"pushed {dataset}@{result.version}")

    def read(self) -> None:
        """Read a version whole; one that is damaged must have been dropped meanwhile."""
        dataset, number = self._any_version()
        try:
            read_version(self._store, dataset, number)
        except IntegrityError:
            if number in [version.number for version in self._store.dataset(dataset).versions]:
                raise

    def tag(self) -> None:
        """Name a version."""
        dataset, number = self._any_version()
        self._store.tag(f"{dataset}@{number}", f"tag-{self._random.randrange(5)}")

    def drop(self) -> None:
        """Drop a version, after that was written down."""
        dataset, number = self._any_version()
        self._note(f"dropping {dataset}@{number}")
        self._store.remove(dataset, [number])

    def undo(self) -> None:
        """Bring back what was dropped last."""
        self._store.undo(self._random.choice(DATASETS))

    def collect(self) -> None:
        """Collect without any grace."""
        self._store.gc(apply=True, grace=0, reader_grace=0, force=True)

    def _any_version(self) -> tuple[str, int]:
        dataset = self._random.choice(DATASETS)
        return dataset, self._random.choice(self._store.dataset(dataset).versions).number

    def _note(self, line: str) -> None:
        with open(self._journal, "a", encoding="utf-8") as file:  # appended as one write
            file.write(line + "\n")


def read_version(store: Store, dataset: str, number: int) -> None:
    """Raise unless a version reads back as its message says."""
    version = store.version(f"{dataset}@{number}")
    with store.open_file(f"{dataset}@{number}:file") as file:
        if file.read() != content_of(version.message):
            raise AssertionError(f"{dataset}@{number} holds other bytes than were pushed")


def work(site: Site, folder: Path, slot: int, seed: int, until: float) -> None:
    """Be one of the processes; called in a child."""
    with site.open(folder / f"cache-of-{slot}", deadline=30) as store:
        Worker(store, folder / f"journal-{slot}", seed).run(until)


class Disturber:
    """Starts the processes, and kills, stops and continues them."""

    def __init__(self, site: Site, folder: Path, processes: int, seed: int, until: float) -> None:
        self._place = (site, folder)
        self._random = random.Random(seed)
        self._until = until
        self._pids = [self._start(slot) for slot in range(processes)]
        self._stopped: dict[int, float] = {}
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Disturb until the time is over, then wait for all."""
        while time.time() < self._until:
            time.sleep(self._random.uniform(0.05, 0.4))
            self._wake(time.time())
            slot = self._random.randrange(len(self._pids))
            if slot in self._stopped:
                continue
            if self._random.random() < 0.4:
                os.kill(self._pids[slot], signal.SIGKILL)
                os.waitpid(self._pids[slot], 0)
                self._pids[slot] = self._start(slot)
                self.counts["killed"] += 1
            else:
                os.kill(self._pids[slot], signal.SIGSTOP)
                self._stopped[slot] = time.time() + self._random.uniform(0.1, 2.5)
                self.counts["stopped"] += 1
        self._wake(float("inf"))
        for pid in self._pids:
            _, status = os.waitpid(pid, 0)
            self.counts["ended badly"] += status != 0

    def _wake(self, now: float) -> None:
        for slot in [slot for slot, until in self._stopped.items() if until <= now]:
            os.kill(self._pids[slot], signal.SIGCONT)
            del self._stopped[slot]

    def _start(self, slot: int) -> int:
        seed = self._random.getrandbits(32)
        pid = os.fork()  # no threads here: a fork starts at once, an interpreter takes a second
        if pid:
            return pid
        status = 1
        try:
            work(*self._place, slot, seed, self._until)
            status = 0
        except BaseException:  # noqa: BLE001  # a child must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(status)


def check(store: Store, notes: list[str]) -> list[str]:
    """Return what is wrong with a store after all that was noted."""
    wrong = [note for note in notes if note.startswith("bad ")]
    listed: set[str] = set()
    for dataset in DATASETS:
        with contextlib.suppress(NotFoundError):
            for version in store.dataset(dataset).versions:
                listed.add(f"{dataset}@{version.number}")
                try:
                    read_version(store, dataset, version.number)
                except Exception as error:  # noqa: BLE001  # each is told
                    wrong.append(f"{dataset}@{version.number}: {error!r}")
    pushed = {note.split()[1] for note in notes if note.startswith("pushed ")}
    dropped = {note.split()[1] for note in notes if note.startswith("dropping ")}
    wrong += [f"{name} was acknowledged, and is gone" for name in pushed - dropped - listed]
    return wrong


def notes_in(folder: Path) -> list[str]:
    """Return all that the processes have written down."""
    return [
        line for journal in folder.glob("journal-*") for line in journal.read_text().splitlines()
    ]


def soak(name: str, seconds: float, processes: int, seed: int) -> bool:
    """Soak one storage; print what came of it and return whether all was well."""
    with tempfile.TemporaryDirectory(prefix="chunkstore-soak-") as root:
        folder = Path(root)
        with sites(name, folder) as places:
            site = next(places)
            site.create(chunker=_CHUNKER, pack_length=1 << 20).close()
            disturber = Disturber(site, folder, processes, seed, time.time() + seconds)
            disturber.run()
            notes = notes_in(folder)
            with site.open(folder / "fresh") as store:
                wrong = check(store, notes)
                store.gc(apply=True, grace=0, reader_grace=0, force=True)
                wrong += check(store, [note for note in notes if not note.startswith("bad ")])
                left = store.gc(grace=0).plan
                if not left.nothing or left.condemned_packs:
                    wrong.append(f"the last collection left something: {left}")
    counts = Counter(" ".join(note.split()[:2]) for note in notes if note.startswith("done "))
    counts.update(note.split()[0] for note in notes if note.startswith("refused "))
    counts += disturber.counts
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{name} seed {seed}: {told}", flush=True)
    for line in wrong[:20]:
        print(f"  WRONG {line}", flush=True)
    return not wrong and not disturber.counts["ended badly"]


def main() -> int:
    """Soak each storage in turn; return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--on", nargs="+", default=["folder", "minio", "seaweedfs"])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    good = [soak(name, chosen.seconds, chosen.processes, chosen.seed) for name in chosen.on]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
