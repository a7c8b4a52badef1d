"""A store with every kind of object, and harm that is done to it: bits, lengths, whole objects."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from chunkstore import Store, limits
from chunkstore.format.config import ChunkerSpec
from chunkstore.testing.trees import random_bytes, text_bytes, tree_state

KINDS = ("refs", "manifests", "index", "data", "metadata")
"""Kinds of objects that a store can lose and still be opened."""

LIST_CHUNKS = 300


def small_lists() -> contextlib.AbstractContextManager[object]:
    """Let files of 300 chunks have lists, else only those of 4,096; what reads does not care."""
    return mock.patch.object(limits, "MAX_INLINE_CHUNKS", LIST_CHUNKS)


SMALL = {"chunker": ChunkerSpec(min_size=1024, avg_size=2048, max_size=8192), "frame_size": 16_384}
"""How stores are cut here: so many chunks that files have lists, in packs that are quickly read."""


class World:
    """A store of three versions in two datasets, and the trees that they came from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.trees = [root / "one", root / "two", root / "other"]
        one, two, other = self.trees
        one.mkdir(parents=True)
        for number in range(400):  # so many that the pages do not fit into the root
            folder = one / f"folder-{number % 7}"
            folder.mkdir(exist_ok=True)
            name = folder / f"{'n' * 90}-{number:04}"
            name.write_bytes(b"%d" % number if number % 9 else text_bytes(3000, number))
        (one / "empty").mkdir()
        (one / "link").symlink_to("folder-1")
        (one / "long").write_bytes(random_bytes(2_000_000, 1))  # about 1,000 chunks: it has lists
        self.versions = {"data@1": one, "data@2": two, "team/other@1": other}
        with (
            small_lists(),
            Store.create(str(self.store), cache_folder=root / "cache", **SMALL) as store,  # type: ignore[arg-type]  # as given
        ):
            store.push(one, "data", message="first", tags=["good"])
            shutil.copytree(one, two, symlinks=True)
            (two / "big").write_bytes(random_bytes(400_000, 2))
            (two / "folder-3" / "new").write_bytes(text_bytes(50_000, 3))
            store.push(two, "data")
            other.mkdir()
            (other / "small").write_bytes(text_bytes(200_000, 5))
            store.push(other, "team/other")
        self.states = {name: tree_state(tree) for name, tree in self.versions.items()}

    def copy(self, target: Path) -> Path:
        """Copy the store, byte for byte, and return where it is."""
        shutil.copytree(self.store, target)
        return target


def objects_of(store: Path, kind: str) -> list[Path]:
    """Return the objects of one kind, by name."""
    folder = store / ("packs" if kind in ("data", "metadata") else kind)
    found = sorted(p for p in folder.rglob("*") if p.is_file() and "+" not in p.name)
    if kind in ("data", "metadata"):
        found = [path for path in found if path.read_bytes()[5] == (kind == "metadata")]
    return found


@dataclass(frozen=True)
class Harm:
    """One thing that is done to one object."""

    kind: str
    key: str
    how: str
    at: int = 0

    def do(self, store: Path) -> None:
        """Do it."""
        path = store / self.key
        data = path.read_bytes()
        path.unlink()
        if self.how == "flip":
            byte, bit = divmod(self.at, 8)
            path.write_bytes(data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :])
        elif self.how == "cut":
            path.write_bytes(data[: self.at])

    def undo(self, store: Path, whole: Path) -> None:
        """Put the object of the store `whole` back."""
        (store / self.key).unlink(missing_ok=True)
        shutil.copyfile(whole / self.key, store / self.key)


def harms(store: Path, how: str, count: int, seed: object) -> Iterator[Harm]:
    """Yield so many harms of one sort, at random places in objects of every kind in turn."""
    source = random.Random(f"{how}-{seed}")
    victims = {kind: objects_of(store, kind) for kind in KINDS}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        path = source.choice(victims[kind])
        length = path.stat().st_size
        at = source.randrange(length * 8) if how == "flip" else source.randrange(length)
        yield Harm(kind, str(path.relative_to(store)), how, at)
