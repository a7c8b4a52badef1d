"""No room left: a clear error, nothing half done, and the same command finishes afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chunkstore import FilesystemError, Store
from chunkstore.errors import StorageFullError
from chunkstore.limits import MIB
from chunkstore.testing.trees import random_bytes, tree_state
from chunkstore.walk import PART_PREFIX

CHILD = """
import resource, sys
from chunkstore import ChunkstoreError, Store
verb, limit, url, cache, source, target = sys.argv[1:]
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store.open(url, cache_folder=cache) as store:
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        print(getattr(store, verb)(source, target).stats.size)
    except ChunkstoreError as error:
        print(type(error).__name__, error, "hint:", error.hint)
"""


@contextmanager
def small_disk(where: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of that size, or fall back on a limit on the size of files."""
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(where)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here: only the limit on file sizes was tried")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def grow(where: Path, megabytes: int) -> None:
    """Make room on a disk."""
    command = ["mount", "-o", f"remount,size={megabytes}m", str(where)]
    subprocess.run(command, check=True)


def leftovers(root: Path) -> list[str]:
    """Return temporary and part files below `root`."""
    names = [path.name for path in root.rglob("*") if path.is_file()]
    return [n for n in names if n.startswith((".tmp+", PART_PREFIX)) or n.endswith(".tmp")]


@pytest.fixture
def big_tree(tmp_path: Path) -> Path:
    """Some small files, and some that are larger than a small disk."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(8):
        (tree / f"file-{number}").write_bytes(random_bytes(3 * MIB, number))
        (tree / f"small-{number}").write_bytes(b"%d" % number)
    return tree


def test_a_push_to_a_full_disk_goes_on_when_there_is_room(big_tree: Path, tmp_path: Path) -> None:
    """It ends with StorageFullError and no version; with more room the same push finishes."""
    with small_disk(tmp_path / "disk", 10) as disk:
        cache = tmp_path / "cache"
        with Store.create(str(disk / "store"), cache_folder=cache, pack_length=2 * MIB) as store:
            for _ in range(2):
                with pytest.raises(StorageFullError) as caught:
                    store.push(big_tree, "data")
                assert caught.value.hint is not None
                assert "room" in caught.value.hint
                assert store.datasets() == []
                assert leftovers(disk) == []
            stored = store.stat().pack_bytes
            assert stored > 4 * MIB
            grow(disk, 64)
            result = store.push(big_tree, "data")
            assert result.version == 1
            assert result.stats.sent_bytes < 27 * MIB - stored / 2  # the rest was there
            store.pull("data", tmp_path / "out")
        assert tree_state(tmp_path / "out") == tree_state(big_tree)


@pytest.mark.parametrize("room", range(1, 12, 2))
def test_a_disk_that_is_full_at_any_point_keeps_the_store_whole(tmp_path: Path, room: int) -> None:
    """However many pages of 4 KiB are left, the store opens and keeps what was acknowledged."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(random_bytes(20_000, 1))
    with small_disk(tmp_path / "disk", 1) as disk:
        with Store.create(str(disk / "store"), cache_folder=tmp_path / "cache") as store:
            store.push(tree, "data")
        (tree / "more").write_bytes(random_bytes(12_000, 2))
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            free = os.statvfs(disk)
            ballast.write(bytes(free.f_bavail * free.f_bsize - room * 4096))
        with Store.open(str(disk / "store"), cache_folder=tmp_path / "cache") as store:
            pushed = False
            with contextlib.suppress(StorageFullError):
                pushed = store.push(tree, "data").version == 2
            assert leftovers(disk) == []
            assert [v.number for v in store.dataset("data").versions] == [1, 2][: 1 + pushed]
            (disk / "ballast").unlink()
            assert store.push(tree, "data").version == 2
            store.pull("data@1", tmp_path / "one")
            store.pull("data@2", tmp_path / "two")
        assert sorted(os.listdir(tmp_path / "one")) == ["file"]
        assert tree_state(tmp_path / "two") == tree_state(tree)


def test_a_pull_to_a_full_disk_goes_on_when_there_is_room(big_tree: Path, tmp_path: Path) -> None:
    """It ends with FilesystemError and whole files only; with more room the pull finishes."""
    with (
        Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store,
        small_disk(tmp_path / "disk", 10) as disk,
    ):
        store.push(big_tree, "data")
        out = disk / "out"
        with pytest.raises(FilesystemError, match="cannot write") as caught:
            store.pull("data", out)
        assert caught.value.hint is not None
        assert "room" in caught.value.hint
        assert leftovers(disk) == []
        there = {path.name: path.read_bytes() for path in out.iterdir()}
        for name, data in there.items():
            assert data == (big_tree / name).read_bytes()
        grow(disk, 64)
        result = store.pull("data", out)
        assert tree_state(out) == tree_state(big_tree)
        assert result.stats.reused_bytes == sum(len(data) for data in there.values())


def test_a_full_disk_under_the_caches_costs_only_speed(big_tree: Path, tmp_path: Path) -> None:
    """Caches that cannot be written never make a push or pull fail."""
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "cache").mkdir()
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            free = os.statvfs(disk)
            ballast.write(bytes(free.f_bavail * free.f_bsize))
        for number in range(2000):  # a file-state cache of more than one page
            (big_tree / f"tiny-{number:04}").write_bytes(b"")
            os.utime(big_tree / f"tiny-{number:04}", (1, 1))
        with Store.create(str(tmp_path / "store"), cache_folder=disk / "cache") as store:
            store.push(big_tree, "data")
            assert store.push(big_tree, "data").unchanged
            store.pull("data", tmp_path / "out")
        assert leftovers(disk) == []
    assert tree_state(tmp_path / "out") == tree_state(big_tree)


def test_a_full_disk_under_temporary_files_is_told(big_tree: Path, tmp_path: Path) -> None:
    """What needs temporary files says what failed and what to do, and works when there is room."""
    with (
        small_disk(tmp_path / "disk", 1) as disk,
        Store.create(str(tmp_path / "store"), cache_folder=disk / "cache") as store,
    ):
        store.push(big_tree, "data")
        works: list[Callable[[], object]] = [store.gc, store.verify]
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            free = os.statvfs(disk)
            ballast.write(bytes(free.f_bavail * free.f_bsize))
        for work in works:
            with pytest.raises(FilesystemError, match=r"temporary file.*No space left") as caught:
                work()
            assert caught.value.hint is not None
            assert caught.value.hint.startswith("free some room in the cache folder")
        (disk / "ballast").unlink()
        for work in works:
            work()


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path, verb: str) -> None:
    """What a quota does: the error says what to do, and without it the same command finishes."""
    source, store = tmp_path / "file", tmp_path / "store"
    source.write_bytes(random_bytes(5 * MIB, 1))
    with Store.create(str(store), cache_folder=tmp_path / "cache") as opened:
        if verb == "pull":
            opened.push(source, "data")
    what = [str(source), "data"] if verb == "push" else ["data:file", str(tmp_path / "out")]

    def run(limit: int) -> str:
        command = [sys.executable, "-c", CHILD, verb, str(limit), str(store)]
        done = subprocess.run(
            [*command, str(tmp_path / "cache"), *what], capture_output=True, text=True, check=True
        )
        return done.stdout

    said = run(MIB)
    assert said.startswith("StorageFullError" if verb == "push" else "FilesystemError"), said
    assert "hint: free some room" in said
    assert leftovers(tmp_path) == []
    assert run(0) == f"{5 * MIB}\n"
    with (
        Store.open(str(store), cache_folder=tmp_path / "cache") as opened,
        opened.open_file("data:file") as file,
    ):
        assert file.read() == source.read_bytes()
