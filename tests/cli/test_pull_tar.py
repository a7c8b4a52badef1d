"""`chunkstore pull --tar`: a version as a tar stream, equal to what a pull makes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from chunkstore.walk import PART_PREFIX
from tests.cli.conftest import PROGRAM, Place, shell


def names(data: bytes) -> list[str]:
    """Return the names of an archive's members."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


@pytest.fixture
def odd(stocked: Place) -> Place:
    """A dataset `odd` with long names, links, empty folders, an executable and odd times."""
    tree = make_tree(stocked.folder / "tree")
    (tree / "large.bin").write_bytes(random_bytes(6_000_000, 2))
    (tree / "run").write_bytes(b"#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    os.utime(tree / "run", ns=(1, 1_600_000_000_123_456_789))
    (tree / ("d" * 150)).mkdir()
    (tree / ("d" * 150) / ("ü" * 100)).write_bytes(b"long")
    (tree / "hollow").mkdir()
    (tree / "to").symlink_to("run")
    stocked.well("push", "tree", "odd")
    return stocked


def test_tar_makes_what_a_pull_makes(odd: Place) -> None:
    """`pull --tar - | tar x` equals `pull`, and pushed again it changes nothing."""
    done = shell("mkdir out && chunkstore pull --tar - odd | tar -C out -x")
    assert done.returncode == 0, done
    assert done.stderr.startswith("odd@1 ")
    assert done.stdout == ""
    odd.well("pull", "odd", "again", "--links", "all")
    assert tree_state(odd.folder / "out") == tree_state(odd.folder / "again")
    assert tree_state(odd.folder / "out") == tree_state(odd.folder / "tree")
    done = shell("chunkstore pull odd --tar - --quiet | chunkstore push --tar - odd")
    assert "odd@1 is unchanged" in done.stdout, done
    assert done.stderr == ""


def test_a_bucket_in_between(bucket: Place) -> None:
    """From S3 the same stream comes out as went in, every time."""
    make_tree(bucket.folder / "tree")
    done = shell("tar -C tree -c . | chunkstore push --tar - tarred -q")
    assert done.returncode == 0, done
    done = shell("mkdir out && chunkstore pull --tar - tarred -q | tar -C out -x")
    assert (done.returncode, done.stderr) == (0, "")
    there, wanted = (tree_state(bucket.folder / name, times=False) for name in ("out", "tree"))
    assert there == wanted


def test_ctrl_c_leaves_no_archive(stocked: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive in a file that is interrupted is gone, and what stood there stays."""
    stocked.file("pets.tar", "as it was")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chunkstore_cli.archives._FileSink.write", interrupt)
    ended = stocked.run("pull", "--tar", "pets.tar", "pets")
    assert (ended.status, ended.output, ended.errors) == (130, b"", "interrupted\n")
    assert (stocked.folder / "pets.tar").read_text() == "as it was"
    assert not list(stocked.folder.glob(f"{PART_PREFIX}*"))


def test_a_folder_and_a_file_of_a_version(stocked: Place) -> None:
    """Names are those that a pull of the same address gives; patterns choose among them."""
    folder = stocked.start("pull", "--tar", "-", "pets:cats", "-q")
    assert names(folder.output) == ["kit/a.txt", "tom.bin"]
    assert names(stocked.start("pull", "--tar", "-", "pets:cats/kit/a.txt").output) == ["a.txt"]
    some = stocked.start("pull", "--tar", "-", "pets@1", "--include", "*.txt", "--exclude", "old*")
    assert names(some.output) == ["cats/kit/a.txt", "notes.txt"]
    assert stocked.start("pull", "--tar", "-", "pets:none").status == 4
    (stocked.folder / "hollow/inner").mkdir(parents=True)
    stocked.well("push", "hollow", "hollow")
    assert names(stocked.start("pull", "--tar", "-", "hollow").output) == ["inner"]
    assert names(stocked.start("pull", "--tar", "-", "hollow:inner").output) == []


def test_into_a_file(stocked: Place) -> None:
    """With a FILE stdout has what a pull says there: lines, JSON or the id."""
    text = stocked.well("pull", "--tar", "pets.tar", "pets").text
    assert text.startswith("pets@2 ")
    assert " is in pets.tar: 4 files" in text
    whole = (stocked.folder / "pets.tar").read_bytes()
    assert whole == stocked.start("pull", "--tar", "-", "pets").output
    *events, summary = stocked.well("pull", "--tar", "pets.tar", "pets", "--json").events
    items = {event["path"] for event in events if event["type"] == "item"}
    assert items == {"notes.txt", "new.txt", "cats/tom.bin", "cats/kit/a.txt"}
    assert (summary["files"], summary["size"]) == (4, 1_024_014)
    assert summary["fetched_bytes"] > 0
    assert len(stocked.well("pull", "--tar", "pets.tar", "pets", "-q").text.strip()) == 64
    assert stocked.run("pull", "--tar", "no/such/file.tar", "pets").status == 1


def test_a_pipe_by_name(stocked: Place) -> None:
    """A named pipe is written, not replaced."""
    os.mkfifo(stocked.folder / "pipe")
    done = shell("cat pipe | tar -t & chunkstore pull -q --tar pipe pets && wait")
    assert done.returncode == 0, done
    assert "cats/tom.bin" in done.stdout
    assert (stocked.folder / "pipe").is_fifo()


def test_whoever_reads_may_stop(odd: Place) -> None:
    """A closed pipe ends it quietly, as SIGPIPE would."""
    done = shell("(chunkstore pull --tar - odd; echo $? >&2) | head -c 3 | wc -c")
    assert (done.stdout.strip(), done.stderr) == ("3", "141\n")


def test_damage_makes_no_archive(odd: Place) -> None:
    """Damage ends with status 7, no file is left, and tar says that its stream is cut off."""
    odd.file("whole.tar", "as it was")
    for pack in (odd.folder / "store/packs").rglob("*"):
        if pack.is_file() and pack.stat().st_size > 4_000_000:
            data = bytearray(pack.read_bytes())
            data[len(data) // 2] ^= 1
            pack.write_bytes(data)
    assert odd.run("pull", "--tar", "whole.tar", "odd").status == 7
    assert (odd.folder / "whole.tar").read_text() == "as it was"
    assert not list(odd.folder.glob(f"{PART_PREFIX}*"))
    ended = odd.start("pull", "--tar", "-", "odd")
    assert ended.status == 7
    assert "Traceback" not in ended.errors
    read = subprocess.run(["tar", "-t"], input=ended.output, capture_output=True)
    assert read.returncode != 0


@pytest.mark.parametrize(
    "more", [["out"], ["--delete"], ["--links", "all"], ["--dry-run"], ["--profile"], ["--json"]]
)
def test_what_does_not_go_with_an_archive(stocked: Place, more: list[str]) -> None:
    """What only a pull into a folder can do is refused rather than ignored."""
    ended = stocked.run("pull", "--tar", "-", "pets", *more)
    assert ended.status == 2
    assert "hint:" in ended.errors
    assert "a folder" in stocked.failing(2, "pull", "--tar", "pets", "pets")


def peak(*command: str, source: Path | None = None) -> int:
    """Run the program between a file and nowhere; return its peak of memory in bytes."""
    with open(source or os.devnull, "rb") as stdin, open(os.devnull, "wb") as nowhere:
        child = subprocess.Popen([PROGRAM, *command], stdin=stdin, stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_memory_does_not_grow(stocked: Place) -> None:
    """An archive of 240 MB takes little more memory than one of 60 MB, in and out."""
    data = random_bytes(30_000_000, 3)
    peaks = []
    for times in (2, 8):
        with open(stocked.folder / "big.bin", "wb") as file:
            for number in range(times):
                file.write(data[number:])
        subprocess.run(["tar", "-cf", "big.tar", "big.bin"], check=True)
        into = peak("push", "--tar", "-", "big", source=stocked.folder / "big.tar")
        peaks.append((into, peak("pull", "--tar", "-", "big")))
    for small, large in zip(*peaks, strict=True):
        assert large < small + 32_000_000
