"""`chunkstore cat`: a file of a version, byte for byte, or a range of it."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Place

TOM = bytes(range(256)) * 4000


def test_bytes(stocked: Place) -> None:
    """The file comes out byte for byte, from every version that has it."""
    assert stocked.well("cat", "pets:cats/tom.bin").output == TOM
    assert stocked.well("cat", "pets@1:notes.txt").output == b"one\n"
    assert stocked.well("cat", "pets@v2:notes.txt").output == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("0-99", 0, 100),
        ("5-5", 5, 6),
        ("300000-900000", 300_000, 900_001),
        ("1023990-", 1_023_990, 1_024_000),
        ("-10", 1_023_990, 1_024_000),
        ("-99999999", 0, 1_024_000),
        ("10-99999999", 10, 1_024_000),
        ("-0", 1_024_000, 1_024_000),
    ],
)
def test_ranges(stocked: Place, text: str, start: int, end: int) -> None:
    """A range is read as HTTP reads it: both ends included, cut at the end of the file."""
    assert stocked.well("cat", "pets:cats/tom.bin", "--range", text).output == TOM[start:end]
    document = stocked.well("cat", "pets:cats/tom.bin", "--range", text, "--json").document
    assert (document["start"], document["end"]) == (start, end)


@pytest.mark.parametrize("text", ["9-3", "1024000-", "abc", "-", "1-2-3", "0x1-", "", "1,2"])
def test_bad_ranges(stocked: Place, text: str) -> None:
    """A range that names no bytes, or is none, prints nothing and ends with status 2."""
    ended = stocked.run("cat", "pets:cats/tom.bin", f"--range={text}")
    assert ended.status == 2
    assert ended.output == b""
    assert "hint:" in ended.errors


def test_empty_files(stocked: Place) -> None:
    """An empty file is no error."""
    stocked.file("pets/empty")
    stocked.well("push", "pets", "pets")
    assert stocked.well("cat", "pets:empty").output == b""


def test_descriptions(stocked: Place) -> None:
    """With --json the file is described, with --quiet its hash is printed."""
    document = stocked.well("cat", "pets:notes.txt", "--json").document
    assert (document["dataset"], document["version"], document["size"]) == ("pets", 2, 8)
    assert stocked.well("cat", "pets:notes.txt", "-q").text.strip() == document["hash"]


def test_what_is_no_file(stocked: Place) -> None:
    """A dataset, folder or path that is not there is answered with how to look."""
    assert "write pets:PATH" in stocked.failing(2, "cat", "pets")
    errors = stocked.failing(4, "cat", "pets:cats")
    assert errors == "error: pets@latest:cats is not a file\nhint: list what is there with ls\n"
    assert "did you mean 'new.txt'" in stocked.failing(4, "cat", "pets:nwe.txt")
