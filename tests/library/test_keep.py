"""A single file is put beside the other files of a version, whoever else does so meanwhile."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from chunkstore import ConflictError, InvalidInputError, Store, writer
from chunkstore.format.manifest import Manifest
from chunkstore.ids import PackId
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.conftest import Place


def content(store: Store, address: str = "pets") -> dict[str, bytes | None]:
    """Return every path of a version with its bytes, None where it is no file."""
    return {
        entry.path: file.read(0, file.size) if file else None
        for entry, file in store.contents(address)
    }


def put(store: Store, name: str, data: bytes, **more: object) -> int | None:
    """Put a file into `pets` and return the version."""
    return store.push(io.BytesIO(data), "pets", name=name, keep=True, **more).version  # type: ignore[arg-type]  # as given


def test_the_other_files_stay(place: Place, tmp_path: Path) -> None:
    """A new version has the file and all entries of the one before, which stays as it was."""
    tree = make_tree(tmp_path / "tree")
    with place.create() as store:
        store.push(tree, "pets")
        before = content(store)
        assert put(store, "m/new.bin", data := random_bytes(3_000_000, 7)) == 2
        assert content(store) == {**before, "m/new.bin": data}
        assert put(store, "m/new.bin", b"other") == 3
        assert content(store) == {**before, "m/new.bin": b"other"}
        assert content(store, "pets@1") == before
        store.pull("pets@3", tmp_path / "out")
    state = tree_state(tmp_path / "out", times=False)
    assert {**state, **tree_state(tree, times=False)} == state


@pytest.mark.parametrize("known", [0, 32])
def test_hints_promise_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, known: int) -> None:
    """Where the latest version has no hints, or they lead nowhere, a tiny file joins it too."""

    def misled(manifest: Manifest) -> Manifest:
        packs = [hint._replace(pack_id=PackId(b"?" * known)) for hint in manifest.packs if known]
        pages = [page._replace(packs=page.packs if known else ()) for page in manifest.pages]
        return replace(manifest, packs=tuple(packs), pages=tuple(pages))

    monkeypatch.setattr(writer, "fit_manifest", misled)
    put(store, "a", b"1" * 1000)
    monkeypatch.undo()
    assert put(store, "b", b"2") == 2
    assert content(store) == {"a": b"1" * 1000, "b": b"2"}


def test_a_first_file_begins_the_dataset(store: Store) -> None:
    """Where there is no version yet, the file is all of the first."""
    assert put(store, "a", b"1") == 1
    assert put(store, "b", b"2") == 2
    assert content(store) == {"a": b"1", "b": b"2"}


def test_the_same_again_makes_no_version(store: Store) -> None:
    """A file that is there already, beside others too, changes nothing."""
    put(store, "a", b"1")
    put(store, "b", b"2")
    again = store.push(io.BytesIO(b"1"), "pets", name="a", keep=True, tags=["t"])
    assert (again.version, again.unchanged) == (2, True)
    assert store.version("pets@t").number == 2


def test_an_empty_folder_is_filled(store: Store, tmp_path: Path) -> None:
    """The entry of an empty folder goes when a file comes into it; others stay."""
    for name in ("empty", "other"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    store.push(tmp_path / "tree", "pets")
    put(store, "empty/a", b"1")
    assert content(store) == {"empty/a": b"1", "other/": None}


def test_a_file_is_no_folder(store: Store) -> None:
    """A file cannot be put below a file, or where a folder is."""
    put(store, "a/b", b"1")
    for name in ("a", "a/b/c"):
        with pytest.raises(InvalidInputError):
            put(store, name, b"2")
    assert content(store) == {"a/b": b"1"}


def test_only_single_files_are_kept_beside(store: Store, tmp_path: Path) -> None:
    """A folder cannot be pushed so; a file can."""
    with pytest.raises(InvalidInputError, match="single file"):
        store.push(tmp_path, "pets", keep=True)
    (tmp_path / "f").write_bytes(b"1")
    store.push(tmp_path / "f", "pets", keep=True)
    store.push(tmp_path / "f", "pets", name="g", keep=True)
    assert content(store) == {"f": b"1", "g": b"1"}


def test_expect_holds_too(store: Store) -> None:
    """With `expect` another version is a conflict, not something to go on from."""
    put(store, "a", b"1")
    put(store, "b", b"2", expect="1")
    with pytest.raises(ConflictError):
        put(store, "c", b"3", expect="1")


class Meddling(io.RawIOBase):
    """A stream that does something when it is read the first time."""

    def __init__(self, data: bytes, then: Iterator[object]) -> None:
        self._data = io.BytesIO(data)
        self._then = then

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        next(self._then, None)
        return self._data.readinto(buffer)  # type: ignore[arg-type]  # as given


@pytest.mark.parametrize("size", [10, 100_000, 9_000_000])
def test_a_version_that_came_meanwhile_is_kept(store: Store, size: int) -> None:
    """A stream is read once, and joins whatever is latest when it has ended."""
    put(store, "a", b"1")
    data = random_bytes(size, 3)

    def others() -> Iterator[object]:
        yield put(store, "b", b"2")
        yield put(store, "a", b"3")

    stream = Meddling(data, others())
    assert store.push(stream, "pets", name="c", keep=True).version == 4
    assert content(store) == {"a": b"3", "b": b"2", "c": data}


def test_all_versions_dropped_meanwhile(store: Store) -> None:
    """Where every version was dropped while the stream was read, the file stands alone."""
    put(store, "a", b"1")
    stream = Meddling(b"2", iter([store.remove("pets", [1])][:0]))
    store.push(io.BytesIO(b"0"), "pets", name="z")

    def drop() -> Iterator[object]:
        yield store.remove("pets", [2])

    stream = Meddling(b"2" * 100_000, drop())
    store.push(stream, "pets", name="c", keep=True)
    assert [*content(store)] == ["c"]


def test_many_at_once_lose_nothing(place: Place) -> None:
    """Each of many concurrent pushes of one file is in the newest version."""
    data = {f"f{number:02}": random_bytes(10_000 * number, number) for number in range(16)}
    with place.create() as store, ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda item: put(store, *item), data.items()))
        assert sorted(filter(None, versions)) == list(range(1, 17))
        assert content(store) == data
