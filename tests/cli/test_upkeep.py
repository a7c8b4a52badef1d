"""verify, repair and copy as commands: what they print, what they ask, how they end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from chunkstore_cli.environment import split_place

from tests.cli.conftest import Place


def pack_of(place: Place, store: str = "store") -> Path:
    """Return the longest pack."""
    packs = (place.folder / store / "packs").rglob("*")
    return max((p for p in packs if p.is_file()), key=lambda path: path.stat().st_size)


def spoil(path: Path) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1
    path.unlink()
    path.write_bytes(data)


@pytest.fixture
def mirrored(stocked: Place) -> Place:
    """`./store` with two versions of pets, and the same in `./mirror`, the remote `lab`."""
    stocked.well("init", "./mirror")
    stocked.well("remote", "add", "lab", "./mirror")
    stocked.well("copy", "pets", "lab:")
    return stocked


def test_verify_ends_with_7_and_names_paths(stocked: Place) -> None:
    """Well is 0 and one line; damage is 7, with problem, versions, paths and the command."""
    assert stocked.well("verify").lines[-1].startswith("all is well: 2 versions, 8 files, ")
    assert stocked.well("verify", "--read-data", "-q").output == b""
    spoil(pack_of(stocked))
    assert stocked.well("verify").lines[-1].startswith("all is well")
    ended = stocked.run("verify", "--read-data")
    assert ended.status == 7
    assert ended.lines[0].startswith("damaged: corrupt object packs/")
    assert "  pets@1 lost 1 path" in ended.lines
    assert "    pets@2:cats/tom.bin" in ended.lines
    assert ended.errors == "hint: chunkstore repair --read-data --from STORE\n"
    quiet = stocked.run("verify", "--read-data", "-q")
    assert (quiet.status, quiet.lines[0][:6], quiet.errors) == (7, "packs/", "")
    events = stocked.run("verify", "--read-data", "--json", "--no-progress").events
    assert [event["type"] for event in events] == ["lost", "lost", "damage", "summary"]
    assert events[0]["keys"] == [events[2]["key"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--part", "4/3"),
        ("--part", "0/3"),
        ("--part", "three"),
        ("--quick", "--read-data"),
        ("pets:notes.txt",),
    ],
)
def test_what_verify_refuses(stocked: Place, arguments: tuple[str, ...]) -> None:
    """Parts that are none, two levels at once, paths."""
    stocked.failing(2, "verify", *arguments)
    stocked.failing(2, "repair", *arguments)


def test_repair_asks(mirrored: Place) -> None:
    """Without a terminal and --yes it shows what it would do, and does nothing."""
    spoil(pack_of(mirrored))
    before = pack_of(mirrored).read_bytes()
    ended = mirrored.run("repair", "--read-data", "--from", "lab")
    assert ended.status == 5
    assert any(line.startswith("to do: pack packs/") for line in ended.lines)
    assert "hint: add --yes" in ended.errors
    dry = mirrored.run("repair", "--read-data", "--from", "lab", "--dry-run")
    assert dry.status == 7
    assert any(line.startswith("would do: pack packs/") for line in dry.lines)
    assert pack_of(mirrored).read_bytes() == before


def test_repair_from_another_store(mirrored: Place) -> None:
    """By the name of a remote or an address; then all is well."""
    spoil(pack_of(mirrored))
    ended = mirrored.well("repair", "--read-data", "--from", "./mirror", "--yes")
    assert ended.lines[-1].startswith("all is mended; 1 pack fetched")
    assert mirrored.well("verify", "--read-data").lines[-1].startswith("all is well")
    again = mirrored.well("repair", "--read-data")
    assert again.lines == [
        "nothing was damaged; 0 packs fetched, 0 chunks packed again, "
        f"0 B written in {again.lines[0].split()[-2]} s"
    ]


def test_repair_from_files_and_what_is_left(stocked: Place) -> None:
    """Chunks come out of the files; without them the status is 7 and the paths are named."""
    spoil(pack_of(stocked))
    left = stocked.run("repair", "--read-data", "--yes")
    assert left.status == 7
    assert "    pets@2:cats/tom.bin" in left.lines
    assert left.lines[-1].startswith("not all can be mended: 1 damaged thing, 2 paths lost; ")
    shutil.copy(stocked.folder / "pets/cats/tom.bin", stocked.folder / "other-name")
    done = stocked.well("repair", "--read-data", "--yes", "--json", "--from-files", "./other-name")
    assert done.events[-1]["well"] is True
    assert done.events[-1]["lost_paths_before"] == 2
    assert stocked.well("verify", "--read-data", "-q").output == b""


def test_copy_by_names(mirrored: Place) -> None:
    """Stores are named by address or remote, datasets may get another name."""
    again = mirrored.well("copy", ":", "lab:")
    assert again.lines[-1].startswith("0 new versions, 2 there already; sent 0 B")
    mirrored.well("copy", "./store:pets@v2", "lab:team/cats")
    assert mirrored.well("ls", "-s", "lab", "-q").lines == ["pets", "team/cats"]
    log = mirrored.well("log", "pets", "-s", "lab", "--json").document["versions"]
    for mine, theirs in zip(
        mirrored.well("log", "pets", "--json").document["versions"], log, strict=True
    ):
        mine.pop("stored_bytes"), theirs.pop("stored_bytes")
        assert mine == theirs
    mirrored.failing(2, "copy", "pets", "other")
    mirrored.failing(2, "copy", ":", "lab:one")
    mirrored.failing(2, "copy", "pets", "lab:pets@2")
    mirrored.failing(4, "copy", "pets", "nowhere:")
    mirrored.failing(4, "copy", "nothing", "lab:")


def test_copy_leaves_out_what_is_damaged(mirrored: Place) -> None:
    """The status is 7, the version is named, others go over."""
    mirrored.well("init", "./third")
    mirrored.well("push", "pets/notes.txt", "notes")
    spoil(pack_of(mirrored))
    ended = mirrored.run("copy", ":", "./third:")
    assert ended.status == 7
    assert ended.errors.count("is not copied") == 2
    assert mirrored.well("ls", "-s", "./third", "-q").lines == ["notes"]


@pytest.mark.parametrize(
    ("text", "store", "data"),
    [
        ("lab:", "lab", ""),
        ("lab:imagenet@v2", "lab", "imagenet@v2"),
        ("imagenet@v2", "", "imagenet@v2"),
        (":", "", ""),
        (":a/b", "", "a/b"),
        ("./store", "./store", ""),
        ("./store:a", "./store", "a"),
        ("s3://bucket/p", "s3://bucket/p", ""),
        ("s3://bucket/p:a/b@1", "s3://bucket/p", "a/b@1"),
        ("s3://bucket?endpoint=http://h:9000", "s3://bucket?endpoint=http://h:9000", ""),
        ("s3://bucket?endpoint=http://h:9000:a", "s3://bucket?endpoint=http://h:9000", "a"),
        ("http://host:8080", "http://host:8080", ""),
        ("http://host:8080/base", "http://host:8080/base", ""),
        ("http://host:8080:a/b", "http://host:8080", "a/b"),
        ("http://host:", "http://host", ""),
    ],
)
def test_where_a_store_ends(text: str, store: str, data: str) -> None:
    """At the last colon, unless that is part of a URL."""
    assert split_place(text) == (store, data)
