"""Files that nobody touched are not read again, and no edit is ever missed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore import slicer as slicer_module
from chunkstore.testing.trees import random_bytes, tree_state

OLD = (1_600_000_000_000_000_000, 1_600_000_000_000_000_000)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that pushes open to read them."""
    names: list[str] = []
    real = os.open

    def count(path: str, *arguments: object, **options: object) -> int:
        names.append(path)
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    class Counting:
        """`os` as the slicer sees it."""

        open = staticmethod(count)

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    monkeypatch.setattr(slicer_module, "os", Counting())
    return names


def settled_tree(root: Path) -> Path:
    """Make a tree whose files are past the time in which they may change without a trace."""
    root.mkdir()
    for number in range(5):
        (root / f"f{number}").write_bytes(random_bytes(1000 + number, number))
    return root


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file count as old enough: ctime cannot be set to the past."""
    monkeypatch.setattr("chunkstore.filestate._SETTLED_NS", -3_600_000_000_000)


@pytest.mark.usefixtures("settled")
def test_unchanged_files_are_not_read(store: Store, tmp_path: Path, opened: list[str]) -> None:
    """Nothing is opened in a tree that nobody touched; a new file alone is read."""
    tree = settled_tree(tmp_path / "tree")
    store.push(tree, "data")
    assert sorted(opened) == [f"f{number}" for number in range(5)]
    opened.clear()
    assert store.push(tree, "data").unchanged
    assert opened == []
    (tree / "new").write_text("x")
    assert store.push(tree, "data").version == 2
    assert opened == ["new"]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("how", ["mtime", "size", "inode", "content with the old mtime", "mode"])
def test_a_file_with_another_state_is_read_again(
    store: Store, tmp_path: Path, opened: list[str], how: str
) -> None:
    """Each of size, mtime, ctime and inode is enough, so no edit is missed."""
    tree = settled_tree(tmp_path / "tree")
    os.utime(tree / "f2", ns=OLD)
    store.push(tree, "data")
    opened.clear()
    path = tree / "f2"
    data = path.read_bytes()
    if how == "mtime":
        os.utime(path, ns=(1, OLD[1] + 1))
    elif how == "size":
        path.write_bytes(data + b"!")
    elif how == "inode":
        (tree / "copy").write_bytes(data)
        os.rename(tree / "copy", path)
    elif how == "mode":
        path.chmod(0o755)
    else:
        path.write_bytes(data[::-1])
    os.utime(path, ns=OLD)
    store.push(tree, "data")
    assert opened == ["f2"]
    with store.open_file("data:f2") as file:
        assert file.read() == path.read_bytes()


def test_files_that_changed_just_now_are_read_again(
    store: Store, tmp_path: Path, opened: list[str]
) -> None:
    """An edit of the same size within one tick of the clock is noticed."""
    tree = settled_tree(tmp_path / "tree")
    store.push(tree, "data")
    opened.clear()
    status = (tree / "f2").stat()
    for letter in b"abc":
        (tree / "f2").write_bytes(bytes([letter]) * status.st_size)
        os.utime(tree / "f2", ns=(status.st_atime_ns, status.st_mtime_ns))
        store.push(tree, "data")
        with store.open_file("data:f2") as file:
            assert file.read() == (tree / "f2").read_bytes()
    assert "f2" in opened


@pytest.mark.usefixtures("settled")
def test_a_file_is_sent_again_where_the_store_has_lost_it(
    local_store: tuple[Store, Path], tmp_path: Path
) -> None:
    """The cache says only that a file is the same, not that the store has it."""
    store, place = local_store
    tree = settled_tree(tmp_path / "tree")
    store.push(tree, "data")
    for kind in ("packs", "index"):
        for path in (place / kind).rglob("*"):
            if path.is_file():
                path.unlink()
    (tree / "new").write_text("x")
    result = store.push(tree, "data")
    assert result.stats.new_bytes > 5000
    store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)


@pytest.fixture
def local_store(tmp_path: Path) -> Iterator[tuple[Store, Path]]:
    place = tmp_path / "a-store"
    with Store.create(str(place), cache_folder=tmp_path / "cache") as opened_store:
        yield opened_store, place


def test_two_pushes_of_one_folder_at_once_both_finish(store: Store, tmp_path: Path) -> None:
    """They share a file-state cache and neither spoils the other's."""
    tree = settled_tree(tmp_path / "tree")
    threads = [
        threading.Thread(target=store.push, args=(tree, f"data-{number}")) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert store.push(tree, f"data-{number}").unchanged
