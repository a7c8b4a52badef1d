"""What only a folder has: permissions, room, locks, links, and files of killed writers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chunkstore.backends import local
from chunkstore.backends.base import CreateOnly, Overwrite, PutMode, ReplaceIf
from chunkstore.backends.local import LOCK, TEMPORARY, LocalBackend
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    KeyAbsentError,
    PermissionDeniedError,
    StorageFullError,
)
from chunkstore.testing.backend_races import race_of
from chunkstore.testing.backend_suite import keys_of

NOBODY = 65534
PROCESSES = 16


def files_of(root: Path) -> list[str]:
    """Return every file below `root` but the locks, hidden ones among them."""
    found = (path for path in root.rglob("*") if path.is_file() and path.name != LOCK)
    return sorted(str(path.relative_to(root)) for path in found)


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "root")


@pytest.fixture
def root(backend: LocalBackend) -> Path:
    return Path(backend.url)


# permissions


@pytest.fixture
def plain_folder() -> Iterator[Path]:
    """A folder of a user who is not root, as whom the test runs: root may do anything."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        for path in [folder, *folder.rglob("*")]:
            with contextlib.suppress(OSError):
                path.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize("mode", [CreateOnly(), Overwrite()], ids=["create", "overwrite"])
def test_a_folder_that_may_not_be_written(plain_folder: Path, mode: PutMode) -> None:
    """Each write is refused with PermissionDeniedError, the path and a remedy; reading works."""
    backend = LocalBackend(plain_folder)
    backend.put("folder/key", [b"bytes"], CreateOnly())
    for path in (plain_folder / "folder", plain_folder):
        path.chmod(0o555)
    calls: tuple[Callable[[], object], ...] = (
        lambda: LocalBackend(plain_folder).put("folder/new", [b"x"], mode),
        lambda: LocalBackend(plain_folder).put("new/folder/key", [b"x"], mode),
        lambda: LocalBackend(plain_folder / "below").put("key", [b"x"], mode),
        LocalBackend(plain_folder).probe,
        LocalBackend(plain_folder / "below").probe,
    )
    for call in calls:
        with pytest.raises(PermissionDeniedError, match=str(plain_folder)) as caught:
            call()
        assert str(plain_folder) in (caught.value.hint or "")
        assert TEMPORARY not in f"{caught.value} {caught.value.hint}"
        assert not caught.value.retryable
    assert backend.get("folder/key").data == b"bytes"
    assert keys_of(backend) == ["folder/key"]
    assert set(files_of(plain_folder)) == {"folder/key"}


def test_what_may_not_be_deleted_is_said(plain_folder: Path) -> None:
    """A deletion that is refused is an error, and the object is still there."""
    backend = LocalBackend(plain_folder)
    backend.put("folder/key", [b"bytes"], CreateOnly())
    (plain_folder / "folder").chmod(0o555)
    with pytest.raises(PermissionDeniedError) as caught:
        backend.delete(["folder/key"])
    assert caught.value.hint is not None
    assert backend.get("folder/key").data == b"bytes"


def test_a_folder_that_may_not_be_read(plain_folder: Path) -> None:
    """What cannot be looked at is neither absent nor empty: each read is refused."""
    backend = LocalBackend(plain_folder)
    backend.put("folder/key", [b"bytes"], CreateOnly())
    (plain_folder / "folder").chmod(0)
    calls: tuple[Callable[[], object], ...] = (
        lambda: backend.get("folder/key"),
        lambda: backend.head("folder/key"),
        lambda: list(backend.list("")),
        lambda: list(backend.list("folder/")),
    )
    for call in calls:
        with pytest.raises(PermissionDeniedError):
            call()


# room


@pytest.mark.parametrize("present", [False, True])
def test_no_room(backend: LocalBackend, root: Path, present: bool) -> None:
    """StorageFullError with a remedy; what was there is as before, and no file is left over."""
    backend.put("other", [b"x"], CreateOnly())
    if present:
        backend.put("key", [b"before"], CreateOnly())
    files = files_of(root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as a quota would
    try:
        for mode in (Overwrite(), CreateOnly()):
            with pytest.raises(StorageFullError) as caught:
                backend.put("key", [b"x" * 70_000, b"y" * 70_000], mode)
            assert "room" in (caught.value.hint or "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_of(root) == files
    if present:
        assert backend.get("key").data == b"before"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("where", ["writev", "fsync", "link"])
def test_every_failure_of_a_put_is_clean(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    """Whichever step fails, the error is a BackendError and nothing half done stays."""
    backend.put("first", [b"x"], CreateOnly())

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, where, fail)
        with pytest.raises(BackendError) as caught:
            backend.put("key", [b"bytes"], CreateOnly())
    assert isinstance(caught.value, StorageFullError) == (number != errno.EIO)
    assert os.strerror(number) in str(caught.value)
    assert files_of(root) == ["first"]
    backend.put("key", [b"bytes"], CreateOnly())


@pytest.mark.parametrize("operation", ["get", "head", "list", "delete", "put"])
def test_every_failure_of_the_system_is_translated(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """No OSError leaves a method: a disk that errs is a BackendError with the operation and key."""
    backend.put("folder/key", [b"bytes"], CreateOnly())

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    calls: dict[str, tuple[str, Callable[[], object]]] = {
        "get": ("pread", lambda: backend.get("folder/key")),
        "head": ("stat", lambda: backend.head("folder/key")),
        "list": ("scandir", lambda: list(backend.list(""))),
        "delete": ("unlink", lambda: backend.delete(["folder/key"])),
        "put": ("replace", lambda: backend.put("folder/key", [b"x"], Overwrite())),
    }
    name, call = calls[operation]
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(BackendError) as caught:
            call()
    assert caught.value.operation == operation
    assert type(caught.value) is BackendError
    assert backend.get("folder/key").data == b"bytes"


def test_what_is_mounted_read_only_is_said(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No permissions would help there, so the hint does not send one to look at them."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(PermissionDeniedError) as caught:
        backend.put("key", [b"bytes"], CreateOnly())
    assert "mounted read-only" in str(caught.value.hint)


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    """A file where the folder should be holds no objects and takes none."""
    (tmp_path / "file").write_text("of somebody")
    backend = LocalBackend(tmp_path / "file")
    with pytest.raises(KeyAbsentError):
        backend.get("key")
    with pytest.raises(BackendError):
        backend.put("key", [b"x"], CreateOnly())
    assert keys_of(backend) == []
    assert (tmp_path / "file").read_text() == "of somebody"


# order of steps


@pytest.mark.parametrize("mode", [CreateOnly(), Overwrite()], ids=["create", "overwrite"])
def test_bytes_are_safe_before_they_have_a_name(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch, mode: PutMode
) -> None:
    """A put syncs the file, names it, syncs the folder; new folders are synced in their parents."""
    steps: list[tuple[str, str]] = []

    def note(name: str, path_of: Callable[..., str]) -> None:
        real = getattr(os, name)

        def noted(*args: Any, **more: Any) -> Any:
            steps.append((name, path_of(*args)))
            return real(*args, **more)

        monkeypatch.setattr(os, name, noted)

    opened: dict[int, str] = {}
    real_open = os.open

    def noted_open(path: str, *args: Any, **more: Any) -> int:
        handle = real_open(path, *args, **more)
        opened[handle] = str(path)
        return handle

    monkeypatch.setattr(os, "open", noted_open)
    note("fsync", lambda handle: opened[handle])
    note("link", lambda _source, target: str(target))
    note("replace", lambda _source, target: str(target))
    note("mkdir", str)
    backend.put("a/b/key", [b"bytes"], mode)
    named = "link" if isinstance(mode, CreateOnly) else "replace"
    shown = [(n, "temporary" if TEMPORARY in p else os.path.relpath(p, root)) for n, p in steps]
    assert shown[-3:] == [("fsync", "temporary"), (named, "a/b/key"), ("fsync", "a/b")]
    assert shown[:-3] == [
        *(("mkdir", "."), ("fsync", "..")),
        *(("mkdir", "a"), ("fsync", ".")),
        *(("mkdir", "a/b"), ("fsync", "a")),
    ]


# what killed writers leave


def test_old_temporaries_are_removed(backend: LocalBackend, root: Path) -> None:
    """The first write removes what was left a day ago, files and folders; younger ones stay."""
    backend.put("folder/key", [b"bytes"], CreateOnly())
    left = [root / "folder" / f"{TEMPORARY}old", root / f"{TEMPORARY}old", root / f"{TEMPORARY}new"]
    for path in left:
        path.write_bytes(b"half")
    probe = root / f"{TEMPORARY}probe"
    (probe / "probe").mkdir(parents=True)
    (probe / "probe" / "key").write_bytes(b"x")
    old = time.time() - 25 * 3600
    for path in (*left[:2], probe):
        os.utime(path, (old, old))
    assert keys_of(backend) == ["folder/key"]  # none of them is ever seen
    reader = LocalBackend(root)
    reader.get("folder/key")
    assert all(path.exists() for path in left)  # who only reads removes nothing
    reader.put("folder/other", [b"bytes"], CreateOnly())
    assert [path.exists() for path in (*left, probe)] == [False, False, True, False]


# several processes


def _race_child(root: str, mode: PutMode, number: int, start: Any, results: Any) -> None:
    backend = LocalBackend(root)
    for turn in range(10):
        start.wait()
        try:
            backend.put(f"race/{turn}", [b"%02d" % number * 500], mode_of(backend, mode, turn))
        except ConditionFailedError:
            results.put((turn, number, False))
        else:
            results.put((turn, number, True))


def mode_of(backend: LocalBackend, mode: PutMode, turn: int) -> PutMode:
    """Return the mode of one turn; versions to replace were written down before the race."""
    if isinstance(mode, CreateOnly):
        return mode
    return ReplaceIf(backend.get(f"versions/{turn}").data.decode())


@pytest.mark.parametrize("condition", ["create only", "replace if"])
def test_of_racing_processes_one_wins(backend: LocalBackend, condition: str) -> None:
    """16 processes, 10 turns: exactly one write is accepted each time, and it is the one there."""
    mode: PutMode = CreateOnly()
    if condition == "replace if":
        mode = ReplaceIf("")
        for turn in range(10):
            version = backend.put(f"race/{turn}", [b"first"], CreateOnly())
            backend.put(f"versions/{turn}", [version.encode()], CreateOnly())
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(PROCESSES), context.Queue()
    children = [
        context.Process(target=_race_child, args=(backend.url, mode, number, start, results))
        for number in range(PROCESSES)
    ]
    for child in children:
        child.start()
    outcomes = [results.get(timeout=120) for _ in range(10 * PROCESSES)]
    for child in children:
        child.join(60)
    for turn in range(10):
        winners = [number for at, number, won in outcomes if won and at == turn]
        assert len(winners) == 1
        assert backend.get(f"race/{turn}").data == b"%02d" % winners[0] * 500


# file systems that lack something


def without_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_where_there_are_no_links(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that never replaces does as well: one winner, and nothing left over."""
    monkeypatch.setattr(os, "link", without_links)
    version = backend.put("key", [b"first"], CreateOnly())
    with pytest.raises(ConditionFailedError):
        backend.put("key", [b"second"], CreateOnly())
    assert backend.get("key") == local.Fetched(b"first", version)
    winners, losers = race_of(backend, "race", CreateOnly(), 16)
    assert (len(winners), len(losers)) == (1, 15)
    assert backend.get("race").data == winners[0]
    assert backend.probe().many_writers
    assert files_of(root) == ["key", "race"]


def test_where_there_are_neither_links_nor_exclusive_renames(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would keep two writers apart, so creating is refused, with what to do instead."""
    monkeypatch.setattr(os, "link", without_links)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(BackendError, match="neither hard links") as caught:
        backend.put("key", [b"first"], CreateOnly())
    assert "another file system" in (caught.value.hint or "")
    assert files_of(root) == []


def test_where_there_are_no_locks(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing is refused, with what to do instead; creating needs no lock."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    version = backend.put("key", [b"first"], CreateOnly())
    for mode in (Overwrite(), ReplaceIf(version)):
        with pytest.raises(BackendError) as caught:
            backend.put("key", [b"second"], mode)
        assert "no locks" in (caught.value.hint or "")
    assert backend.get("key").data == b"first"
    assert files_of(root) == ["key"]
