"""Tar streams go in and come out; what is hostile is refused whole."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.bench_requests import cost_of
from chunkstore import ChunkstoreError, InvalidInputError, NotFoundError, Store
from chunkstore.backends.memory import MemoryBackend
from chunkstore.creation import create_on, new_config
from chunkstore.events import ignore
from chunkstore.format.manifest import EntryKind
from chunkstore.tar_reader import TarReader
from chunkstore.tar_writer import tar_blocks
from chunkstore.testing.trees import make_tree, random_bytes, tree_state


def tar_of(
    *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, **more: object
) -> bytes:
    """Return an archive with these members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form, **more) as archive:  # type: ignore[call-overload]  # as given
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """Return a header."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def push(store: Store, data: bytes) -> None:
    """Push an archive to `pets`."""
    store.push(io.BytesIO(data), "pets", tar=True)


def content(store: Store) -> dict[str, bytes | str | None]:
    """Return what the newest version of `pets` has at each path."""
    return {
        entry.path: file.read(0, file.size) if file else entry.target or None
        for entry, file in store.contents("pets")
    }


@pytest.fixture
def big_tree(tmp_path: Path) -> Path:
    """A tree with long and odd names, links, a large and an executable file."""
    tree = make_tree(tmp_path / "tree")
    (tree / "large.bin").write_bytes(random_bytes(5_000_000, 9))
    (tree / "run").write_bytes(b"#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    long = tree / ("d" * 120) / ("e" * 120)
    long.mkdir(parents=True)
    (long / ("ü" * 100)).write_bytes(b"long")
    (tree / "hollow").mkdir()
    (tree / "to").symlink_to("large.bin")
    (tree / ("l" * 150)).symlink_to("x" * 300)
    return tree


@pytest.mark.parametrize("form", ["posix", "gnu", "pax by Python", "gnu by Python"])
def test_a_tree_goes_in_as_by_its_folder(store: Store, big_tree: Path, form: str) -> None:
    """An archive by other programs makes the version that the folder makes."""
    if "Python" in form:
        target = io.BytesIO()
        kind = tarfile.PAX_FORMAT if "pax" in form else tarfile.GNU_FORMAT
        with tarfile.open(fileobj=target, mode="w", format=kind) as archive:
            archive.add(big_tree, ".")
        data = target.getvalue()
    else:
        command = ["tar", f"--format={form}", "-C", big_tree, "-cf", "-", "."]
        data = subprocess.run(command, capture_output=True, check=True).stdout
    first = store.push(big_tree, "pets")
    second = store.push(io.BytesIO(data), "pets", tar=True)
    assert (second.version, second.unchanged) == (first.version, True)
    other = store.push(io.BytesIO(data), "others", tar=True)
    assert other.stats.new_bytes == 0
    assert other.stats.files == first.stats.files


def test_a_version_comes_out_as_it_was(store: Store, big_tree: Path, tmp_path: Path) -> None:
    """GNU tar reads what is written, times and modes included; pushing it changes nothing."""
    os.utime(big_tree / "run", ns=(1, 1_600_000_000_123_456_789))
    os.utime(big_tree / "large.bin", ns=(1, -1_500_000_000))
    store.push(big_tree, "pets")
    data = b"".join(tar_blocks(store.contents("pets")))
    assert len(data) % 10240 == 0
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xf", "-"], input=data, check=True)
    assert tree_state(tmp_path / "out") == tree_state(big_tree)
    assert store.push(io.BytesIO(data), "pets", tar=True).unchanged
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmember("large.bin").size == 5_000_000


def test_members_come_in_any_order(store: Store) -> None:
    """The version is the same whatever the order of members, folders named twice included."""
    names = ["b", "a/x", "a/", "c/d/e", "c/", "e/", "a.b", "./f", "a/"]
    generator = random.Random(1)
    for _ in range(5):
        members = [
            (member(name, tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE), b"")
            for name in names
        ]
        generator.shuffle(members)
        push(store, tar_of(*members))
    assert [*content(store)] == ["a.b", "a/x", "b", "c/d/e", "e/", "f"]
    assert len(store.dataset("pets").versions) == 1


def test_an_archive_of_nothing_is_an_empty_version(store: Store) -> None:
    """An archive that has its end and no members makes a version without entries."""
    push(store, tar_of())
    assert store.version("pets").files == 0


def test_hard_links_are_copies(store: Store) -> None:
    """A hard link becomes the file that it is; one that leads nowhere is refused."""
    link = member("b", tarfile.LNKTYPE, linkname="./a")
    push(store, tar_of((member("a"), b"data"), (link, b"")))
    assert content(store) == {"a": b"data", "b": b"data"}
    with pytest.raises(InvalidInputError, match="hard link"):
        push(store, tar_of((member("b", tarfile.LNKTYPE, linkname="none"), b"")))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "up": lambda: tar_of((member("../x"), b"")),
    "up inside": lambda: tar_of((member("a/../../x"), b"")),
    "absolute": lambda: tar_of((member("/etc/passwd"), b"")),
    "device": lambda: tar_of((member("x", tarfile.CHRTYPE), b"")),
    "block": lambda: tar_of((member("x", tarfile.BLKTYPE), b"")),
    "pipe": lambda: tar_of((member("x", tarfile.FIFOTYPE), b"")),
    "sparse": lambda: tar_of((member("x", tarfile.GNUTYPE_SPARSE), b"")),
    "pax sparse": lambda: tar_of((member("x", pax_headers={"GNU.sparse.major": "1"}), b"x")),
    "unknown kind": lambda: tar_of((member("x", b"Q"), b"")),
    "twice": lambda: tar_of((member("x"), b"1"), (member("x"), b"2")),
    "file and link": lambda: tar_of((member("x"), b"1"), (member("x", b"2", linkname="y"), b"")),
    "below a file": lambda: tar_of((member("x"), b"1"), (member("x/y"), b"2")),
    "below a link": lambda: tar_of((member("x", b"2", linkname="/tmp"), b""), (member("x/y"), b"")),
    "part file": lambda: tar_of((member(".chunkstore-part-1"), b"")),
    "backslash": lambda: tar_of((member("a\\b"), b"")),
    "newline": lambda: tar_of((member("a\nb"), b"")),
    "long part": lambda: tar_of((member("a" * 256), b"")),
    "deep": lambda: tar_of((member("/".join("a" * 200)), b"")),
    "not UTF-8": lambda: tar_of((member("\udcff"), b""), form=tarfile.GNU_FORMAT),
    "no target": lambda: tar_of((member("x", b"2", linkname=""), b"")),
    "long target": lambda: tar_of((member("x", b"2", linkname="y" * 5000), b"")),
    "huge header": lambda: tar_of((member("x", pax_headers={"comment": "y" * 100_000}), b"")),
    "path for all": lambda: tar_of((member("x"), b""), pax_headers={"path": "y"}),
    "wrong mtime": lambda: tar_of((member("x", pax_headers={"mtime": "soon"}), b"")),
    "endless mtime": lambda: tar_of((member("x", pax_headers={"mtime": "1e999"}), b"")),
    "NaN": lambda: tar_of((member("x", pax_headers={"mtime": "NaN"}), b"")),
    "empty": lambda: b"",
    "no archive": lambda: random_bytes(5000, 1),
    "text": lambda: b"hello\n" * 1000,
    "no end": lambda: tar_of((member("x"), b"1"))[:1024],
    "cut file": lambda: tar_of((member("x"), bytes(5000)))[:3000],
    "cut header": lambda: tar_of((member("x"), bytes(5000)))[:300],
    "more behind": lambda: tar_of((member("x"), b"1")) + b"more",
    "checksum": lambda: tar_of((member("x"), b"1")).replace(b"0000644", b"0000645"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_refused(store: Store, what: str) -> None:
    """Nothing of an archive with a bad member becomes a version, not even its good members."""
    good = tar_of((member("good"), b"good"))[:1024]
    for data in (HOSTILE[what](), good + HOSTILE[what]()):
        with pytest.raises(InvalidInputError):
            push(store, data)
    with pytest.raises(NotFoundError):
        store.dataset("pets")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    """Whatever is changed in an archive, it is read or refused by the one error."""
    whole = bytearray(tar_of((member("a" * 120), b"data"), (member("x", b"2", linkname="y"), b"")))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 4000))
        whole[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # let most of them pass the checksum
        for start in range(0, 4096, 512):
            block = whole[start : start + 512]
            if block[257:262] == b"ustar":
                total = sum(block[:148]) + sum(block[156:]) + 256
                whole[start + 148 : start + 156] = b"%06o\0 " % total
    try:
        for found in TarReader(io.BytesIO(bytes(whole))):
            if found.content is not None:
                assert found.kind == EntryKind.FILE
                while found.content.read(1000):
                    pass
    except ChunkstoreError as error:
        assert isinstance(error, InvalidInputError)  # noqa: PT017  # reading is fine too


def test_many_small_files(store: Store) -> None:
    """A thousand members go in and out."""
    data = {f"{number % 7}/{number:05}": b"%d" % number for number in range(1000)}
    push(store, tar_of(*((member(name), value) for name, value in data.items())))
    assert content(store) == data


def test_patterns_are_not_for_archives(store: Store, tmp_path: Path) -> None:
    """An archive has its own names, and comes from a stream."""
    stream = io.BytesIO(tar_of((member("x"), b"1")))
    with pytest.raises(InvalidInputError):
        store.push(stream, "pets", tar=True, include=["x"])
    with pytest.raises(InvalidInputError):
        store.push(stream, "pets", tar=True, keep=True)
    with pytest.raises(InvalidInputError):
        store.push(tmp_path, "pets", tar=True)


def test_the_folder_at_the_top_is_left_out(store: Store) -> None:
    """What `tar -c out` writes becomes what is in `out`; targets of links are as they were."""
    archive = tar_of(
        (member("out", tarfile.DIRTYPE), b""),
        (member("out/a"), b"1"),
        (member("out/b", tarfile.LNKTYPE, linkname="out/a"), b""),
        (member("out/c", tarfile.SYMTYPE, linkname="out/a"), b""),
        (member("./out/hollow", tarfile.DIRTYPE), b""),
        (member("out/sub/out"), b"2"),
    )
    store.push(io.BytesIO(archive), "pets", tar=True, unwrap=True)
    expected = {"a": b"1", "b": b"1", "c": "out/a", "hollow/": None, "sub/out": b"2"}
    assert content(store) == expected
    store.push(io.BytesIO(tar_of((member("a"), b"1"))), "pets", tar=True, unwrap=True)
    assert content(store) == {"a": b"1"}
    store.push(
        io.BytesIO(tar_of((member("out", tarfile.DIRTYPE), b""))), "pets", tar=True, unwrap=True
    )
    assert content(store) == {}


@pytest.mark.parametrize("names", [["out/a", "b"], ["out/a", "other/b"], ["a", "b"]])
def test_more_at_the_top_is_refused(store: Store, names: list[str]) -> None:
    """An archive to be unwrapped that has more than one thing at its top is refused whole."""
    archive = tar_of(*((member(name), b"") for name in names))
    with pytest.raises(InvalidInputError, match="at its top"):
        store.push(io.BytesIO(archive), "pets", tar=True, unwrap=True)
    with pytest.raises(NotFoundError):
        store.dataset("pets")


def test_a_single_file_gets_a_name(store: Store) -> None:
    """An archive with a name must be one file, and keeps all of it but its path."""
    archive = tar_of((member("a", mode=0o755, mtime=7), b"1"))
    store.push(io.BytesIO(archive), "pets", tar=True, name="sub/b")
    entry = next(store.entries("pets"))
    assert (entry.path, entry.executable, entry.mtime_ns) == ("sub/b", True, 7 * 10**9)
    link = (member("l", tarfile.SYMTYPE, linkname="a"), b"")
    two = [(member("a"), b"1"), (member("b"), b"2")]
    for bad in ([], [link], two, [(member("out", tarfile.DIRTYPE), b""), (member("out/a"), b"1")]):
        with pytest.raises(InvalidInputError, match="one file that is to be called 'b'"):
            store.push(io.BytesIO(tar_of(*bad)), "pets", tar=True, name="b")
    for name in ("../b", "b/"):
        with pytest.raises(InvalidInputError):
            store.push(io.BytesIO(archive), "pets", tar=True, name=name)
    with pytest.raises(InvalidInputError):
        store.push(io.BytesIO(b"x"), "pets", name="b", unwrap=True)


def test_small_files_are_read_together(tmp_path: Path) -> None:
    """An archive of 2,000 small files takes a few requests for each 4 MiB, not one for each frame.

    Empty files, links, empty folders, large files and equal ones among them come out as they were.
    """
    tree = tmp_path / "tree"
    for number in range(2000):
        path = tree / f"{number % 7}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            random_bytes(10_000, number // 2 if number < 20 else number) if number % 10 else b""
        )
    (tree / "3/0500.large").write_bytes(random_bytes(3_000_000, 5))
    (tree / "3/0501.link").symlink_to("0500.large")
    (tree / "hollow").mkdir()
    backend = MemoryBackend()
    with Store(backend, create_on(backend, new_config(None, None, None), ignore), None) as store:
        store.push(tree, "pets")
    archive: list[bytes | memoryview] = []
    cost = cost_of(backend, lambda store: archive.extend(tar_blocks(store.contents("pets"))))
    (tmp_path / "out").mkdir()
    data = b"".join(archive)
    subprocess.run(["tar", "-C", tmp_path / "out", "-x"], input=data, check=True)
    assert tree_state(tmp_path / "out") == tree_state(tree)
    assert cost.total <= 20, cost.requests
