"""What stands in the user's folder, and what happens to it while it is being read."""

from __future__ import annotations

import io
import os
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from chunkstore import (
    FilesystemError,
    InvalidInputError,
    NotFoundError,
    Store,
    UnreadableFilesError,
)
from chunkstore import slicer as slicer_module
from chunkstore.filters import EVERYTHING, IGNORE_FILE
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from chunkstore.walk import Found, LeftOut, walk


@pytest.fixture
def while_read(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[int], None]]:
    """What to do each time before the first bytes of a file are read; it gets the descriptor."""
    actions: list[Callable[[int], None]] = []
    real = slicer_module._fill

    def fill(handle: int, buffer: memoryview, size: int) -> int:
        if os.lseek(handle, 0, os.SEEK_CUR) == 0:
            for action in actions:
                action(handle)
        return real(handle, buffer, size)

    monkeypatch.setattr(slicer_module, "_fill", fill)
    return actions


def refused(store: Store, tree: Path) -> dict[str, str]:
    """Push what cannot be pushed; return path and reason of what could not be read."""
    with pytest.raises(UnreadableFilesError) as caught:
        store.push(tree, "data")
    assert store.datasets() == []
    assert caught.value.hint is not None
    assert "--skip-unreadable" in caught.value.hint
    return dict(caught.value.failures)


# files that change or cannot be read


@pytest.mark.parametrize("size", [10, 9_000_000])
@pytest.mark.parametrize("how", ["grow", "shrink", "touch", "rewrite"])
def test_a_file_that_keeps_changing_is_reported(
    store: Store, tmp_path: Path, while_read: list[Callable[[int], None]], how: str, size: int
) -> None:
    """It is tried three times, then named; nothing is committed, and the others are not lost."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "log").write_bytes(random_bytes(size, 1))
    tries: list[int] = []

    def change(handle: int) -> None:
        tries.append(handle)
        with open(tree / "log", "r+b") as file:
            if how == "grow":
                file.seek(0, os.SEEK_END)
                file.write(b"more")
            elif how == "shrink":
                file.truncate(os.fstat(file.fileno()).st_size - 1)
            elif how == "rewrite":
                file.write(b"%d" % (len(tries) % 10))
            os.utime(file.fileno(), ns=(1, len(tries)))

    while_read.append(change)
    assert refused(store, tree) == {"log": "it changes while it is being read"}
    assert len(tries) == 3
    while_read.clear()
    assert store.push(tree, "data").version == 1
    with store.open_file("data:log") as file:
        assert file.read() == (tree / "log").read_bytes()


def test_a_file_that_changes_once_is_read_again(
    store: Store, tmp_path: Path, while_read: list[Callable[[int], None]]
) -> None:
    """What is stored is what the file had at one moment, with the hash and time of that moment."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "log").write_bytes(random_bytes(20_000_000, 1))
    done: list[int] = []

    def change(_: int) -> None:
        if not done:
            done.append(1)
            (tree / "log").write_bytes(random_bytes(20_000_000, 2))

    while_read.append(change)
    store.push(tree, "data")
    store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_a_file_that_grows_as_fast_as_it_is_read_ends_the_reading(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that never stops cannot keep a push for ever."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "log").write_bytes(b"")
    sink = open(tree / "log", "ab", buffering=0)  # noqa: SIM115  # closed below
    real = slicer_module._fill

    def fill(handle: int, buffer: memoryview, size: int) -> int:
        sink.write(bytes(len(buffer) + 1))
        return real(handle, buffer, size)

    monkeypatch.setattr(slicer_module, "_fill", fill)
    assert refused(store, tree) == {"log": "it changes while it is being read"}
    sink.close()


@pytest.mark.parametrize("becomes", ["nothing", "pipe", "link", "folder", "socket"])
def test_a_file_that_becomes_something_else_is_reported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    """Between the walk and the reading it is replaced: nothing is followed, nothing hangs."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    (tree / "victim").write_text("victim")
    (tmp_path / "secret").write_text("secret")
    real = slicer_module.Slicer._read

    def replace(self: object, item: Found, before: object) -> bool:
        if item.path == "victim":
            path = tree / "victim"
            if path.is_file() and not path.is_symlink():
                path.unlink()
                if becomes == "pipe":
                    os.mkfifo(path)
                elif becomes == "link":
                    path.symlink_to(tmp_path / "secret")
                elif becomes == "folder":
                    path.mkdir()
                elif becomes == "socket":
                    with socket.socket(socket.AF_UNIX) as server:
                        os.chdir(tree)
                        server.bind("victim")
        return real(self, item, before)  # type: ignore[arg-type]

    here = os.getcwd()
    monkeypatch.setattr(slicer_module.Slicer, "_read", replace)
    try:
        reasons = refused(store, tree)
    finally:
        os.chdir(here)
    expected = "it vanished" if becomes == "nothing" else "it is no longer a regular file"
    assert reasons == {"victim": expected}


def test_a_file_that_gives_an_error_is_reported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel refuses to read is named with the kernel's reason; the rest can be pushed."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good").write_text("good")
    (tree / "bad").write_text("bad")
    real = slicer_module._fill

    def fail(handle: int, buffer: memoryview, size: int) -> int:
        if size == 3:
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                return os.readv(memory.fileno(), [buffer])  # nothing is mapped at 0: EIO
        return real(handle, buffer, size)

    monkeypatch.setattr(slicer_module, "_fill", fail)
    assert refused(store, tree) == {"bad": "Input/output error"}
    result = store.push(tree, "data", skip_unreadable=True)
    assert result.left_out == (("bad", "Input/output error"),)
    assert [entry.path for entry in store.entries("data")] == ["good"]


def test_what_another_user_may_not_read_is_reported(store: Store, tmp_path: Path) -> None:
    """Files and folders without the right to read them are named, each with its reason."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "inside").write_text("x")
    (tree / "file").write_text("x")
    (tree / "ignoring").mkdir()
    (tree / "ignoring" / IGNORE_FILE).write_text("*")
    hidden = [tree / "folder", tree / "file", tree / "ignoring" / IGNORE_FILE]
    for path in hidden:
        path.chmod(0)
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == os.geteuid() and path.name.startswith(
            ("pytest-", "popen-", "test_")
        ):
            path.chmod(0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        found = [item for item in walk(str(tree), EVERYTHING) if isinstance(item, LeftOut)]
        with pytest.raises(PermissionError):
            os.open(tree / "file", os.O_RDONLY)
    finally:
        os.seteuid(os.getuid())
    reasons = {item.path: item.reason for item in found}
    assert reasons["folder"] == "Permission denied"
    assert reasons["ignoring"].startswith("its .chunkstoreignore cannot be read: Permission")
    assert all(item.unreadable for item in found)


# folders that change


def test_a_folder_that_vanishes_during_the_walk_is_reported(tmp_path: Path) -> None:
    """So is one that becomes a link: what it points to is not walked through."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "file").write_text(name)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    steps = walk(str(tmp_path / "tree"), EVERYTHING)
    first = next(steps)
    shutil.rmtree(tmp_path / "tree" / "b")
    shutil.rmtree(tmp_path / "tree" / "c")
    (tmp_path / "tree" / "c").symlink_to(tmp_path / "outside")
    rest = list(steps)
    assert [item.path for item in [first, *rest]] == ["a/file", "b", "c", "d/file"]
    assert [item.reason for item in rest if isinstance(item, LeftOut)] == [
        "it vanished",
        "it is no longer a folder",
    ]


def test_a_walk_gives_back_its_descriptors(tmp_path: Path) -> None:
    """However deep it was when it was left, no folder stays open."""
    deep = tmp_path / "tree" / "/".join("abcdefgh")
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    steps = walk(str(tmp_path / "tree"), EVERYTHING)
    next(steps)
    assert len(os.listdir("/proc/self/fd")) > before
    steps.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(os.listdir("/proc/self/fd")) == before


# things that are no files


def test_sockets_pipes_and_devices_are_left_out_and_named(store: Store, tmp_path: Path) -> None:
    """A version cannot hold them: the push goes on, says so, and never reads them."""
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "pipe")
    (tree / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tree)
        server.bind("socket")
        os.chdir(here)
    expected = {"pipe", "socket"}
    if os.geteuid() == 0:
        os.mknod(tree / "device", 0o020666, os.makedev(1, 5))
        expected.add("device")
    result = store.push(tree, "data")
    assert {path for path, _ in result.left_out} == expected
    assert {reason for _, reason in result.left_out} == {"it is a socket, pipe or device"}
    assert [entry.path for entry in store.entries("data")] == ["file"]


def test_links_are_stored_and_never_followed(store: Store, tmp_path: Path) -> None:
    """Loops, dangling links, links out and links to folders are entries with their targets."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "file").write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    targets = {
        "self": "self",
        "loop-a": "loop-b",
        "loop-b": "loop-a",
        "up": "..",
        "out": "../outside",
        "absolute": "/etc",
        "dangling": "nowhere",
        "to-folder": "folder",
        "folder/here": ".",
        "long": "x" * 4095,
    }
    for name, target in targets.items():
        (tree / name).symlink_to(target)
    store.push(tree, "data")
    entries = {entry.path: entry for entry in store.entries("data")}
    assert {path: entry.target for path, entry in entries.items() if entry.target} == targets
    assert set(entries) == {*targets, "folder/file"}


def test_an_ignore_file_that_is_no_file_is_reported(store: Store, tmp_path: Path) -> None:
    """A pipe of that name does not hang the push, a link does not lead it out."""
    for number, make in enumerate((os.mkfifo, lambda path: os.symlink("/etc/passwd", path))):
        tree = tmp_path / f"tree-{number}"
        tree.mkdir()
        (tree / "file").write_text("x")
        make(tree / IGNORE_FILE)
        reasons = refused(store, tree)
        assert list(reasons) == ["."]
        assert reasons["."].startswith("its .chunkstoreignore")
    tree = tmp_path / "folder"
    (tree / IGNORE_FILE).mkdir(parents=True)  # a folder of that name is one like others
    store.push(tree, "data")
    assert [entry.path for entry in store.entries("data")] == [f"{IGNORE_FILE}/"]


def test_empty_files_and_folders_come_back(store: Store, tmp_path: Path) -> None:
    """Also a version of nothing but an empty folder, and one of nothing at all."""
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "empty").write_bytes(b"")
    store.push(tree, "data")
    store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)
    (tmp_path / "nothing").mkdir()
    assert store.push(tmp_path / "nothing", "nothing").version == 1
    store.pull("nothing", tmp_path / "none")
    assert tree_state(tmp_path / "none") == {}
    assert store.push(tmp_path / "nothing", "nothing").unchanged


@pytest.mark.parametrize("source", ["missing", "tree/file/below", "a\0b", "x" * 300, "loop"])
def test_a_source_that_is_not_there_is_said_to_be_missing(
    store: Store, tmp_path: Path, source: str
) -> None:
    """The error names what was given; there is no version."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises((NotFoundError, FilesystemError)):
        store.push(str(tmp_path / source), "data")
    assert store.datasets() == []


def test_a_pipe_as_the_source_is_refused_without_opening_it(store: Store, tmp_path: Path) -> None:
    """It would hang until somebody writes; the hint says how to push a stream."""
    os.mkfifo(tmp_path / "pipe")
    ends = os.pipe()  # as bash has it for <(command)
    for source in (tmp_path / "pipe", f"/dev/fd/{ends[0]}"):
        with pytest.raises(InvalidInputError) as caught:
            store.push(source, "data")
        assert caught.value.hint is not None
    for end in ends:
        os.close(end)


class Hesitant(io.FileIO):
    """The end of a pipe that does not block; the next piece comes when nothing was there."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        here, there = os.pipe()
        os.set_blocking(here, False)
        super().__init__(here)
        self._there = open(there, "wb", buffering=0)  # noqa: SIM115  # closed when all is written
        self._pieces = iter(pieces)

    def read(self, size: int = -1, /) -> bytes | None:  # type: ignore[override]  # of a FileIO
        data = super().read(size)
        if data is None:
            piece = next(self._pieces, None)
            if piece is None:
                self._there.close()
            else:
                self._there.write(piece)
        return data


@pytest.mark.parametrize("tar", [False, True])
def test_a_stream_that_does_not_block_is_read_to_its_end(store: Store, tar: bool) -> None:
    """That nothing is there yet is no end; without a descriptor to wait for it is an error."""
    pieces = [random_bytes(10_000, number) for number in range(20)]
    data = b"".join(pieces)
    if tar:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo("file")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        whole = packed.getvalue()
        pieces = [whole[at : at + 9_999] for at in range(0, len(whole), 9_999)]
    store.push(Hesitant(pieces), "data", name=None if tar else "file", tar=tar)
    with store.open_file("data:file") as file:
        assert file.read() == data

    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> None:
            return None

    with pytest.raises(FilesystemError, match="cannot be waited for"):
        store.push(Endless(), "data", name="file")  # type: ignore[arg-type]  # a wrong stream


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", ".", "a\\b", ".chunkstore-part-x", ""])
def test_a_stream_cannot_take_any_name(store: Store, tmp_path: Path, name: str) -> None:
    """A path that no version can hold, or that pulls use for themselves, is refused."""
    (tmp_path / "file").write_text("x")
    with (
        open(tmp_path / "file", "rb") as stream,
        pytest.raises(InvalidInputError, match="not a path"),
    ):
        store.push(stream, "data", name=name)


def test_the_store_is_no_data(tmp_path: Path) -> None:
    """A store that lies in the folder that is pushed into it is left out, at any depth."""
    tree = make_tree(tmp_path / "tree")
    before = tree_state(tree)
    with Store.create(str(tree / "train" / "my store"), cache_folder=tmp_path / "cache") as store:
        store.push(tree, "data")
        assert store.push(tree, "data").unchanged
        assert not store.status(tree, "data").changes
        store.pull("data", tmp_path / "out")
        with pytest.raises(InvalidInputError, match="is the store itself"):
            store.push(store.url, "data")
    assert tree_state(tmp_path / "out") == before


def test_patterns_choose_from_folders_only(store: Store, tmp_path: Path) -> None:
    """Patterns for a single file or a stream are refused, not passed over."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match="choose from a folder"):
        store.push(tmp_path / "file", "data", include=["x"])
    with pytest.raises(InvalidInputError, match="choose from a folder"):
        store.push(io.BytesIO(b"x"), "data", name="a", exclude=["x"])
