"""`chunkstore rm`: dropping versions."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.cli.conftest import PROGRAM, Place


def test_a_version_goes(stocked: Place) -> None:
    """A version goes, the others stay whole, and it is said that the space stays taken."""
    before = stocked.well("stat", "--json").document["pack_bytes"]
    ended = stocked.well("rm", "pets@1", "--yes")
    assert ended.text.startswith("dropped pets@1 ")
    assert "to free the space, after a day at the earliest: chunkstore gc\n" in ended.errors
    assert stocked.well("stat", "--json").document["pack_bytes"] == before
    assert "there is version 2" in stocked.failing(4, "ls", "pets@1")
    stocked.well("pull", "pets@2", "out")


def test_numbers_are_never_used_again(stocked: Place) -> None:
    """After everything was dropped the next version has the next number."""
    stocked.well("rm", "pets", "--all", "--yes")
    assert stocked.well("push", "pets", "pets").text.startswith("pets@3 ")


def test_it_must_be_meant(stocked: Place) -> None:
    """Off a terminal --yes is needed; without it nothing is dropped."""
    errors = stocked.failing(5, "rm", "pets@1")
    assert "nothing was done" in errors
    assert "--yes" in errors
    assert len(stocked.well("log", "pets", "-q").lines) == 2


def _answer(answer: bytes) -> tuple[int, str]:
    """Run `rm pets@1` on a terminal and give it an answer."""
    terminal, other = pty.openpty()
    child = subprocess.Popen([PROGRAM, "rm", "pets@1"], stdin=other, stdout=other, stderr=other)
    os.close(other)
    os.write(terminal, answer)
    text = b""
    try:
        while block := os.read(terminal, 1024):
            text += block
    except OSError:  # the child has closed its side
        pass
    os.close(terminal)
    return child.wait(60), text.decode()


def test_on_a_terminal_it_asks(stocked: Place) -> None:
    """On a terminal the user is asked, and only yes is yes."""
    status, text = _answer(b"\n")
    assert status == 5
    assert "drop 1 version: pets@1? [y/N]" in text
    assert len(stocked.well("log", "pets", "-q").lines) == 2
    status, text = _answer(b"y\n")
    assert status == 0
    assert "dropped pets@1" in text


def test_several(stocked: Place) -> None:
    """Several versions go together, each once however often it is named, or none of them."""
    stocked.failing(4, "rm", "pets@1", "pets@9", "--yes")
    assert len(stocked.well("log", "pets", "-q").lines) == 2
    assert len(stocked.well("rm", "pets@1", "pets@~1", "pets@v2", "--yes").lines) == 2


def test_dry_run(stocked: Place) -> None:
    """A dry run asks nothing, says what would go and drops nothing."""
    ended = stocked.well("rm", "pets", "--all", "-n")
    assert [line[:17] for line in ended.lines] == ["would drop pets@1", "would drop pets@2"]
    document = stocked.well("rm", "pets@1", "-n", "--json").document
    assert document["dry_run"] is True
    assert [version["version"] for version in document["versions"]] == [1]
    assert len(stocked.well("log", "pets", "-q").lines) == 2


def test_quiet(stocked: Place) -> None:
    """With --quiet the ids of what was dropped are printed and nothing else."""
    expected = stocked.well("log", "pets", "-q").lines[1:]
    ended = stocked.well("rm", "pets@1", "--yes", "-q")
    assert ended.lines == expected
    assert ended.errors == ""


def test_what_is_not_said_clearly(stocked: Place) -> None:
    """No version, a path, or --all with a version: refused, with what to write."""
    assert "pets --all" in stocked.failing(2, "rm", "pets", "--yes")
    assert "only whole versions" in stocked.failing(2, "rm", "pets@1:old.txt", "--yes")
    assert "names one" in stocked.failing(2, "rm", "pets@1", "--all", "--yes")
    assert stocked.run("rm", "--yes").status == 2
    assert len(stocked.well("log", "pets", "-q").lines) == 2
