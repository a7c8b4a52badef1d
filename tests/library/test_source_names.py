"""The names in the user's folder: which a version can hold, and what is said of the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore.filters import EVERYTHING
from chunkstore.testing.trees import tree_state
from chunkstore.walk import walk
from tests.library.test_sources import refused


def test_names_that_no_version_can_hold_are_reported(store: Store, tmp_path: Path) -> None:
    """Each is named in a form that can be printed, and no control character reaches a terminal."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good").write_text("x")
    names = [b"new\nline", b"esc\x1b[2J", b"back\\slash", b"\xff\xfe", b"del\x7f", b"c1\xc2\x9b"]
    for name in names:
        with open(os.path.join(os.fsencode(tree), name), "wb"):
            pass
    os.mkdir(os.path.join(os.fsencode(tree), b"folder\xff"))
    reasons = refused(store, tree)
    assert len(reasons) == len(names) + 1
    assert all(path.isprintable() for path in reasons)
    assert "new\\nline" in reasons
    assert "\\xff\\xfe" in reasons
    result = store.push(tree, "data", skip_unreadable=True)
    assert len(result.left_out) == len(names) + 1
    assert [entry.path for entry in store.entries("data")] == ["good"]


def test_names_are_stored_in_nfc(store: Store, tmp_path: Path) -> None:
    """Whatever form the file system has, the version has one, in the order of its bytes."""
    tree = tmp_path / "tree"
    (tree / "e\u0301t\u00e9").mkdir(parents=True)
    (tree / "e\u0301t\u00e9" / "u\u0308").write_text("x")
    (tree / "ez").write_text("y")
    store.push(tree, "data")
    assert [entry.path for entry in store.entries("data")] == ["ez", "\u00e9t\u00e9/\u00fc"]
    assert store.push(tree, "data").unchanged
    store.push(tree / "e\u0301t\u00e9" / "u\u0308", "single")
    assert [entry.path for entry in store.entries("single")] == ["\u00fc"]


@pytest.mark.parametrize("kinds", ["files", "folders", "file and folder"])
def test_names_that_are_one_in_nfc_are_reported(store: Store, tmp_path: Path, kinds: str) -> None:
    """The one that is in NFC already is kept, the other is named, whatever else lies between."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, is_folder in (
        ("\u00e9", kinds == "folders"),
        ("e\u0301", kinds != "files"),
        ("\u00e9.between", False),
    ):
        if is_folder:
            (tree / name).mkdir()
            (tree / name / "x").write_text(name)
        else:
            (tree / name).write_text(name)
    reasons = refused(store, tree)
    assert list(reasons.values()) == [
        "another name beside it is the same in Unicode normal form NFC"
    ]
    store.push(tree, "data", skip_unreadable=True)
    path = "\u00e9/x" if kinds == "folders" else "\u00e9"
    with store.open_file(f"data:{path}") as file:
        assert file.read().decode() == "\u00e9"


def test_names_that_differ_in_case_are_different(store: Store, tmp_path: Path) -> None:
    """A version tells them apart; a pull onto a file system that does not says so."""
    tree = tmp_path / "tree"
    (tree / "A").mkdir(parents=True)
    (tree / "a").mkdir()
    for name in ("A/x", "a/x", "README", "readme"):
        (tree / name).write_text(name)
    store.push(tree, "data")
    store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_long_and_deep_paths_go_in_and_out(store: Store, tmp_path: Path) -> None:
    """Paths of up to 4,096 bytes and 128 parts, which no system call takes whole, come back."""
    tree = tmp_path / "tree"
    tree.mkdir()
    wide, deep = ["n" * 250] * 15 + ["w" * 255], ["d"] * 127 + ["e" * 255]
    for parts in (wide, deep):
        here = os.open(tree, os.O_RDONLY)
        for part in parts[:-1]:
            os.mkdir(part, dir_fd=here)
            here, above = os.open(part, os.O_RDONLY, dir_fd=here), here
            os.close(above)
        file = os.open(parts[-1], os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(file, parts[-1].encode())
        os.close(file)
        os.close(here)
    assert store.push(tree, "data").stats.files == 2
    paths = {"/".join(wide), "/".join(deep)}
    assert {entry.path for entry in store.entries("data")} == paths
    assert store.push(tree, "data").unchanged
    store.pull("data", tmp_path / "out")
    found = {item.path for item in walk(str(tmp_path / "out"), EVERYTHING)}
    assert found == paths
    assert store.pull("data", tmp_path / "out", delete=True).stats.deleted == 0


def test_what_is_too_deep_is_reported(store: Store, tmp_path: Path) -> None:
    """A folder of more than 128 parts is named and not gone into, however deep it is."""
    tree = tmp_path / "tree"
    tree.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    reasons = refused(store, tree)
    subprocess.run(["rm", "-rf", tree], check=True)  # pytest cannot remove what is so deep
    assert list(reasons.values()) == ["it has more than 128 parts"]
