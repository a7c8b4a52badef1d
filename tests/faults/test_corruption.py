"""Damage in a store is found and named; it never becomes wrong bytes or a strange error."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chunkstore import ChunkstoreError, Store
from chunkstore.backends.base import CreateOnly
from chunkstore.errors import CorruptObjectError, MissingObjectError, UnsupportedFormatError
from chunkstore.format.pack import HEADER_LENGTH, TRAILER_LENGTH
from chunkstore.testing.trees import random_bytes, text_bytes, tree_state
from tests.conftest import Place

FLIPS = 50
PROMISED = (CorruptObjectError, MissingObjectError, UnsupportedFormatError)


class Sample:
    """A small store with two versions of a dataset, and what was pushed."""

    def __init__(self, root: Path) -> None:
        self.store = root / "store"
        self.trees = [root / "one", root / "two"]
        self.trees[0].mkdir(parents=True)
        for number in range(500):  # so many that the pages do not fit into the root
            folder = self.trees[0] / f"folder-{number % 7}"
            folder.mkdir(exist_ok=True)
            name = folder / f"{'n' * 60}-{number:04}"
            name.write_bytes(b"%d" % number if number % 9 else text_bytes(3000, number))
        (self.trees[0] / "big").write_bytes(random_bytes(700_000, 1))
        with Store.create(str(self.store), cache_folder=root / "cache") as store:
            store.push(self.trees[0], "data")
            shutil.copytree(self.trees[0], self.trees[1], symlinks=True)
            (self.trees[1] / "big").write_bytes(random_bytes(400_000, 2))
            (self.trees[1] / "new").write_bytes(text_bytes(50_000, 3))
            store.push(self.trees[1], "data")
        self.states = [tree_state(tree) for tree in self.trees]

    def files(self, kind: str) -> list[Path]:
        """Return the store's objects of one kind, by name."""
        if kind == "config":
            return [self.store / "config"]
        found = sorted(path for path in (self.store / kind).rglob("*") if path.is_file())
        return [path for path in found if "+" not in path.name]

    def packs(self, pack_class: int) -> list[Path]:
        """Return the packs of data (0) or of metadata (1)."""
        return [path for path in self.files("packs") if path.read_bytes()[5] == pack_class]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    made = Sample(tmp_path_factory.mktemp("sample"))
    assert made.packs(0)
    assert made.packs(1)
    return made


@pytest.fixture
def damaged(sample: Sample) -> Iterator[Callable[[Path, bytes | None], None]]:
    """Put other bytes, or nothing, in place of an object; all is well again afterwards."""
    kept: dict[Path, bytes] = {}

    def damage(path: Path, data: bytes | None) -> None:
        kept.setdefault(path, path.read_bytes())
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    yield damage
    for path, data in kept.items():
        path.unlink(missing_ok=True)
        path.write_bytes(data)


def read_paths(sample: Sample, folder: Path) -> dict[str, Callable[[Store], object]]:
    """Return every way to read a store; each checks the bytes that it gets."""

    def pull(number: int) -> Callable[[Store], object]:
        def run(store: Store) -> None:
            store.pull(f"data@{number}", folder / f"out-{number}", delete=True)
            assert tree_state(folder / f"out-{number}") == sample.states[number - 1]

        return run

    def cat(name: str) -> Callable[[Store], object]:
        def run(store: Store) -> None:
            with store.open_file(f"data:{name}") as file:
                assert file.read() == (sample.trees[1] / name).read_bytes()

        return run

    def tail(store: Store) -> None:
        with store.open_file("data@1:big") as file:
            file.seek(600_000)
            assert file.read() == (sample.trees[0] / "big").read_bytes()[600_000:]

    def ls(store: Store) -> None:
        found = {e.path: e.file_hash.hex() for e in store.entries("data")}
        assert found == {k: v[4] for k, v in sample.states[1].items() if v[0] == "file"}

    def log(store: Store) -> None:
        versions = store.dataset("data").versions
        assert [(version.number, version.files) for version in versions] == [(1, 501), (2, 502)]

    def diff(store: Store) -> None:
        changes = [(change.path, change.kind) for change in store.diff("data@1", "data@2")]
        assert changes == [("big", "modified"), ("new", "added")]

    return {
        "log": log,
        "ls": ls,
        "cat": cat("big"),
        "cat-small": cat("new"),
        "tail": tail,
        "diff": diff,
        "stat": lambda store: store.stat(),
        "dataset-stat": lambda store: store.dataset_stat("data"),
        "status": lambda store: store.status(sample.trees[1], "data"),
        "pull-1": pull(1),
        "pull-2": pull(2),
    }


def try_all(sample: Sample, folder: Path, *, only: str = "") -> dict[str, ChunkstoreError]:
    """Read in every way from a machine without caches; return what failed, all as promised."""
    failed: dict[str, ChunkstoreError] = {}
    try:
        store = Store.open(str(sample.store))
    except PROMISED as error:
        return {"open": error}
    store._caches.segments._folder = None
    with store:
        for name, read in read_paths(sample, folder).items():
            if only and name not in only.split():
                continue
            try:
                read(store)
            except PROMISED as error:
                failed[name] = error
    return failed


QUICK = "log ls cat cat-small tail diff"


def named(error: ChunkstoreError, path: Path, sample: Sample) -> bool:
    """Whether the error names the damaged object."""
    return str(path.relative_to(sample.store)) in str(error)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def places(kind: str, data: bytes, source: random.Random) -> Iterator[int]:
    """Yield where to flip a bit, in each region of a pack alike."""
    if kind not in ("data", "metadata"):
        while True:
            yield source.randrange(len(data))
    offset = int.from_bytes(data[-TRAILER_LENGTH : -TRAILER_LENGTH + 4], "little")
    end = len(data) - TRAILER_LENGTH
    regions = [(0, HEADER_LENGTH), (HEADER_LENGTH, offset), (offset, end), (end, len(data))]
    while True:
        for low, high in regions:
            yield source.randrange(low, high)


def victims(sample: Sample, kind: str) -> list[Path]:
    if kind in ("data", "metadata"):
        return sample.packs(int(kind == "metadata"))
    return sample.files(kind)


KINDS = ["config", "refs", "manifests", "index", "data", "metadata"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_bit_is_found_or_does_no_harm(
    sample: Sample, damaged: Callable[[Path, bytes | None], None], tmp_path: Path, kind: str
) -> None:
    """Every way of reading gives the right bytes or an error that names the object."""
    source = random.Random(kind)
    found = 0
    for number in range(FLIPS):
        paths = victims(sample, kind)
        path = paths[number % len(paths)]
        data = path.read_bytes()
        at = [place for place, _ in zip(places(kind, data, source), range(4), strict=False)][
            number % 4
        ]
        damaged(path, flipped(data, at, source.randrange(8)))
        only = "" if number % 25 == 0 else QUICK
        failed = try_all(sample, tmp_path, only=only)
        for name, error in failed.items():
            assert named(error, path, sample), (name, at, error)
        found += bool(failed)
        path.unlink()
        path.write_bytes(data)
    if kind in ("config", "refs", "manifests"):
        assert found >= FLIPS // 2  # a version that nobody read in that round may be the victim
    elif kind != "index":
        assert found


@pytest.mark.parametrize("how", ["empty", "half", "last byte gone", "more", "other", "zeros"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_other_bytes_is_found_or_does_no_harm(
    sample: Sample,
    damaged: Callable[[Path, bytes | None], None],
    tmp_path: Path,
    kind: str,
    how: str,
) -> None:
    """Cut off, emptied, lengthened or replaced: right bytes or an error that names the object."""
    for path in victims(sample, kind)[-1:]:
        data = path.read_bytes()
        other = next(p for p in sample.files("packs" if kind == "refs" else "refs"))
        replaced = {
            "empty": b"",
            "half": data[: len(data) // 2],
            "last byte gone": data[:-1],
            "more": data + b"\0",
            "other": other.read_bytes(),
            "zeros": bytes(len(data)),
        }
        damaged(path, replaced[how])
        for name, error in try_all(sample, tmp_path, only=f"{QUICK} stat pull-2").items():
            assert named(error, path, sample), (name, error)
        path.unlink()
        path.write_bytes(data)


def test_a_manifest_in_place_of_another_is_found(
    sample: Sample, damaged: Callable[[Path, bytes | None], None], tmp_path: Path
) -> None:
    """A whole, well-formed object under another's name is corrupt, for every immutable kind."""
    for kind in ("manifests", "packs"):
        first, second = sample.files(kind)[:2]
        data = first.read_bytes()
        damaged(first, second.read_bytes())
        for error in try_all(sample, tmp_path, only=f"{QUICK} pull-1").values():
            assert isinstance(error, CorruptObjectError | MissingObjectError)
        first.unlink()
        first.write_bytes(data)


@pytest.mark.parametrize("kind", ["manifests", "data", "metadata"])
def test_a_deleted_object_is_named(
    sample: Sample, damaged: Callable[[Path, bytes | None], None], tmp_path: Path, kind: str
) -> None:
    """What a ref leads to and is gone is a MissingObjectError with its key, never a 404."""
    for path in victims(sample, kind):
        data = path.read_bytes()
        damaged(path, None)
        failed = try_all(sample, tmp_path, only=f"{QUICK} pull-1")
        assert failed
        for name, error in failed.items():
            assert isinstance(error, MissingObjectError), (name, error)
            assert named(error, path, sample), (name, error)
        path.write_bytes(data)


def test_without_any_index_reading_goes_on(
    sample: Sample, damaged: Callable[[Path, bytes | None], None], tmp_path: Path
) -> None:
    """The hints of the manifest lead to all chunks; the index is only needed to write."""
    for path in sample.files("index"):
        damaged(path, None)
    failed = try_all(sample, tmp_path)
    assert failed == {}


def test_a_second_good_copy_is_found(tmp_path: Path) -> None:
    """Where two packs hold a chunk and one is damaged or gone, the other serves."""
    data = random_bytes(300_000, 5)
    (tmp_path / "file").write_bytes(data)
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        store.push(tmp_path / "file", "one")
    index = [p for p in (tmp_path / "store" / "index").rglob("*") if p.is_file()]
    hidden = {path: path.read_bytes() for path in index if "+" not in path.name}
    for path in hidden:
        path.unlink()
    with Store.open(str(tmp_path / "store"), cache_folder=tmp_path / "other") as store:
        assert store.push(tmp_path / "file", "two").stats.new_bytes == len(data)
    for path, content in hidden.items():
        path.write_bytes(content)
    packs = [p for p in (tmp_path / "store" / "packs").rglob("*") if p.is_file()]
    packs = [p for p in packs if "+" not in p.name and p.stat().st_size > len(data)]
    assert len(packs) == 2
    for path in packs:
        content = path.read_bytes()
        for harm in (flipped(content, 1000, 3), flipped(content, len(content) - 90, 3), None):
            path.unlink()
            if harm is not None:
                path.write_bytes(harm)
            with Store.open(str(tmp_path / "store"), cache_folder=tmp_path / "third") as store:
                for dataset in ("one", "two"):
                    with store.open_file(f"{dataset}:file") as file:
                        assert file.read() == data
                    store.pull(f"{dataset}:file", tmp_path / f"out-{dataset}")
                    assert (tmp_path / f"out-{dataset}").read_bytes() == data
                    (tmp_path / f"out-{dataset}").unlink()
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    for path in packs:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(flipped(content, 1000, 3))
    with (
        Store.open(str(tmp_path / "store"), cache_folder=tmp_path / "third") as store,
        pytest.raises(CorruptObjectError, match="packs/"),
    ):
        store.pull("one:file", tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_a_push_on_top_of_damage_keeps_its_promise(
    sample: Sample, tmp_path: Path, kind: str
) -> None:
    """It ends with an error that was promised, or makes a version that is read back whole."""
    for number in range(4):
        copy = tmp_path / f"store-{number}"
        shutil.copytree(sample.store, copy)
        kind_files = victims(sample, kind)
        path = copy / kind_files[number % len(kind_files)].relative_to(sample.store)
        data = path.read_bytes()
        at = random.Random(number).randrange(len(data))
        path.unlink()
        if number % 2:
            path.write_bytes(flipped(data, at, number % 8))
        elif number % 3 or kind in ("config", "refs"):
            path.write_bytes(data[: len(data) // 2])
        tree = tmp_path / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(sample.trees[1], tree, symlinks=True)
        (tree / "fresh").write_bytes(random_bytes(200_000, number))
        with (
            contextlib.suppress(*PROMISED),
            Store.open(str(copy), cache_folder=tmp_path / f"cache-{number}") as store,
        ):
            result = store.push(tree, "data")
            assert result.version is not None
            with store.open_file("data:fresh") as file:
                assert file.read() == (tree / "fresh").read_bytes()


@pytest.mark.parametrize("left", [10])
def test_a_pack_that_was_cut_off_is_named_on_every_storage(
    place: Place, tmp_path: Path, left: int
) -> None:
    """Ranges behind its end are damage, not a storage that is away: nothing waits for them."""
    (tmp_path / "file").write_bytes(random_bytes(300_000, 1))
    with place.create() as store:
        store.push(tmp_path / "file", "data")
        backend = store._backend
        packs = [info.key for info in backend.list("packs/") if info.length > 300_000]
        data = backend.get(packs[0]).data
        backend.delete(packs)
        backend.put(packs[0], [data[:left]], CreateOnly())
    with place.open(cache=tmp_path / "other") as store:
        with pytest.raises(CorruptObjectError, match=packs[0]):
            store.pull("data:file", tmp_path / "out")
        with pytest.raises(CorruptObjectError, match=packs[0]):
            store.file_content("data:file").read(250_000, 250_010)
    assert not (tmp_path / "out").exists()
