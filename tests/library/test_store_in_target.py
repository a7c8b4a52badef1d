"""A pull never removes or overwrites the store that it reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from chunkstore import RefusedError, Store
from chunkstore.testing.trees import tree_state


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pulled into, with the store in it; the current folder."""
    (tmp_path / "project" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a\n")
    Store.create("./inner/store", cache_folder=tmp_path / "cache").close()
    return tmp_path / "project"


def open_store(project: Path) -> Store:
    return Store.open("./inner/store", cache_folder=project.parent / "cache")


@pytest.mark.parametrize("target", [".", "inner", "inner/store", "../link"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_delete_is_refused_where_the_store_lies(project: Path, target: str, dry_run: bool) -> None:
    """With `delete` a target that is, holds or leads to the store is refused and left alone."""
    os.symlink(project, project.parent / "link")
    with open_store(project) as store:
        store.push("../data", "data")
        before = tree_state(project)
        with pytest.raises(RefusedError, match="would be removed"):
            store.pull("data", target, delete=True, dry_run=dry_run)
        assert tree_state(project) == before


@pytest.mark.parametrize("target", ["inner/store", "inner/store/packs/new", "../link/config"])
def test_nothing_is_pulled_into_the_store(project: Path, target: str) -> None:
    """A version may have files that are called as the store's are."""
    os.symlink(project / "inner/store", project.parent / "link")
    (project.parent / "data/config").write_text("mine\n")
    with open_store(project) as store:
        store.push("../data", "data")
        before = tree_state(project)
        for address in ("data", "data:config"):
            for delete in (False, True):
                with pytest.raises(RefusedError):
                    store.pull(address, target, delete=delete)
        assert tree_state(project) == before


def test_delete_works_beside_the_store(project: Path) -> None:
    """A folder beside the store, one that leaves it out and a pull without `delete` are fine."""
    with open_store(project) as store:
        store.push("../data", "data")
        before = tree_state(project / "inner")
        (project / "old.txt").write_text("old\n")
        store.pull("data", ".")
        store.pull("data", "inner/store-2", delete=True)
        store.pull("data", ".", delete=True, include=["*.txt"])
        assert not (project / "old.txt").exists()
        shutil.rmtree(project / "inner" / "store-2", ignore_errors=True)
        (project / "old.txt").write_text("old\n")
        store.pull("data", ".", delete=True, exclude=["/inner/store/"])
        assert not (project / "old.txt").exists()
        assert tree_state(project / "inner") == before
        assert store.version("data").number == 1
