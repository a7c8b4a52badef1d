"""`chunkstore push --tar` and `--keep`: a tar stream becomes a version, a file joins others."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from chunkstore.limits import KIB
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.cli.conftest import Place


@pytest.fixture
def tree(stocked: Place) -> Path:
    """A tree with odd and long names, links, empty folders, an executable and odd times."""
    tree = make_tree(stocked.folder / "tree")
    (tree / "run").write_bytes(b"#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    os.utime(tree / "run", ns=(1, 1_600_000_000_123_456_789))
    (tree / ("d" * 150)).mkdir()
    (tree / ("d" * 150) / ("ü" * 100)).write_bytes(random_bytes(300_000, 1))
    (tree / "hollow").mkdir()
    (tree / "to").symlink_to("run")
    return tree


def packed(tree: Path, form: str) -> bytes:
    """Return the tree as an archive by GNU tar, or by Python."""
    if form in ("posix", "gnu"):
        command = ["tar", f"--format={form}", "-C", str(tree), "-cf", "-", "."]
        return subprocess.run(command, capture_output=True, check=True).stdout
    target = io.BytesIO()
    kind = tarfile.PAX_FORMAT if form == "python pax" else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=target, mode="w", format=kind) as archive:
        archive.add(tree, ".")
    return target.getvalue()


PRECISION = {"posix": 1, "gnu": 10**9, "python pax": 1000, "python gnu": 10**9}
"""Nanoseconds to which each writer gives times; Python has floats, GNU's format whole seconds."""


@pytest.mark.parametrize("form", PRECISION)
def test_an_archive_comes_back_as_its_tree(stocked: Place, tree: Path, form: str) -> None:
    """Names, links, empty folders and x bits of a stream come back; times as far as it has them."""
    ended = stocked.start("push", "--tar", "-", "tarred", stdin=packed(tree, form))
    assert ended.status == 0, ended
    stocked.well("pull", "tarred", "out", "--links", "all")
    out = stocked.folder / "out"
    assert tree_state(out, times=False) == tree_state(tree, times=False)
    for path in filter(Path.is_file, tree.rglob("*")):
        there = (out / path.relative_to(tree)).stat().st_mtime_ns
        assert abs(there - path.stat().st_mtime_ns) < PRECISION[form], path
    ended = stocked.well("push", "tree", "tarred")
    assert "tarred@1 is unchanged" in ended.text


def test_an_archive_in_a_file(stocked: Place, tree: Path) -> None:
    """A path is read as stdin is, with the output of every push."""
    stocked.file("tree.tar", packed(tree, "posix"))
    assert stocked.well("push", "--tar", "tree.tar", "tarred", "-n").text.count("\n") > 5
    assert stocked.run("log", "tarred").status == 4
    summary = stocked.well("push", "--tar", "tree.tar", "tarred", "--json").events[-1]
    assert (summary["version"], summary["unchanged"]) == (1, False)
    assert len(stocked.well("push", "--tar", "tree.tar", "tarred", "-q").text.strip()) == 64


def test_what_is_cut_off_or_damaged_commits_nothing(stocked: Place, tree: Path) -> None:
    """An archive that ends before its end, or has a damaged header, leaves no version."""
    data = packed(tree, "posix")
    second = data.index(b"ustar", 512) + 100
    damaged = data[:second] + bytes([data[second] ^ 1]) + data[second + 1 :]
    for bad in (b"", data[:100], data[:512], data[: len(data) // 2], damaged, b"x" * 10_240):
        ended = stocked.start("push", "--tar", "-", "tarred", stdin=bad)
        assert ended.status == 2, ended
        assert ended.errors.startswith("error: the tar archive is not taken: ")
        assert "hint: nothing of it became a version" in ended.errors
    assert stocked.run("log", "tarred").status == 4


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b"])
def test_hostile_members_are_refused(stocked: Place, name: str) -> None:
    """A member that would leave the folder is refused, and so is all of the archive."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("good"))
        archive.addfile(tarfile.TarInfo(name))
    ended = stocked.start("push", "--tar", "-", "tarred", stdin=target.getvalue())
    assert (ended.status, ended.output) == (2, b""), ended
    assert stocked.run("log", "tarred").status == 4


def test_what_is_no_archive(stocked: Place) -> None:
    """A folder, a missing file, a name and patterns are answered with what to do."""
    assert "without --tar" in stocked.failing(2, "push", "--tar", "pets", "tarred")
    assert "- for stdin" in stocked.failing(4, "push", "--tar", "none.tar", "tarred")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    data = archive.getvalue() + random_bytes(KIB, 1)
    zstd = zstandard.compress(data)
    packed = {"gzip": gzip.compress(data), "bzip2": bz2.compress(data), "xz": lzma.compress(data)}
    for packer, content in {**packed, "zstd": zstd}.items():
        stocked.file("a.tar", content)
        assert f"packed by {packer}" in stocked.failing(2, "push", "--tar", "a.tar", "tarred")
    stocked.file("a.tar", b"x" * 512)
    assert stocked.run("push", "--tar", "a.tar", "tarred", "--name", "x").status == 2
    assert stocked.run("push", "--tar", "a.tar", "tarred", "--keep").status == 2
    assert stocked.run("push", "--tar", "a.tar", "tarred", "--include", "*").status == 2


def test_a_file_beside_the_others(stocked: Place) -> None:
    """With --keep all that the latest version has stays, and the file joins or replaces."""
    before = stocked.well("ls", "pets", "-R").lines
    stocked.file("dog.txt", "wau\n")
    assert stocked.well("push", "--keep", "dog.txt", "pets").text.startswith("pets@3 ")
    assert stocked.well("ls", "pets", "-R").lines == sorted([*before, "dog.txt"])
    stocked.well("push", "--keep", "dog.txt", "pets:cats/dog.txt")
    stocked.well("push", "--keep", "dog.txt", "pets", "--name", "notes.txt")
    assert stocked.well("cat", "pets:notes.txt").output == b"wau\n"
    expected = sorted([*before, "cats/dog.txt", "dog.txt"])
    assert stocked.well("ls", "pets", "-R").lines == expected
    ended = stocked.start("push", "--keep", "-", "pets:log", stdin=b"one\n")
    assert ended.status == 0, ended
    assert stocked.well("ls", "pets", "-R").lines == sorted([*expected, "log"])
    summary = stocked.well("push", "--keep", "dog.txt", "pets", "--json").events[-1]
    assert (summary["unchanged"], summary["version"]) == (True, 6)


def test_what_cannot_be_kept(stocked: Place) -> None:
    """A folder, two names, and an old version to go on from are refused."""
    stocked.file("dog.txt", "wau\n")
    assert stocked.run("push", "--keep", "pets", "pets").status == 2
    assert stocked.run("push", "--keep", "dog.txt", "pets:cats").status == 2
    assert "--name" in stocked.failing(2, "push", "dog.txt", "pets:a", "--name", "b")
    assert stocked.run("push", "--keep", "dog.txt", "pets:").status == 2
    assert stocked.run("push", "--keep", "dog.txt", "pets", "--expect", "1").status == 8
    assert len(stocked.well("log", "pets", "-q").lines) == 2


def test_a_path_after_the_colon_is_the_name(stocked: Place) -> None:
    """NAME:PATH says the same as --name, without --keep too."""
    stocked.file("dog.txt", "wau\n")
    stocked.well("push", "dog.txt", "alone:deep/dog")
    assert stocked.well("ls", "alone", "-R").lines == ["deep/dog"]
    assert stocked.run("push", "pets", "alone:deep").status == 2
