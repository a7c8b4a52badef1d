"""What is printed: where, how, and that no name or message plays tricks."""

from __future__ import annotations

import json
import os
import select
import subprocess
from pathlib import Path

import pytest
from chunkstore_cli import output
from chunkstore_cli.progress import time_left

from chunkstore.limits import MIB
from chunkstore.testing.trees import random_bytes
from tests.cli.conftest import PROGRAM, SECONDS, Place, shell

TRICKS = "\x1b[2J\x07\r\u202eexe.txt\u2066\x9b\u200f"
TRICKY_NAME = "\u202eexe.txt\u2066\u200f\u2028"  # no version holds a name with control characters
TRICKY = set("\x1b\x07\r\u202e\u2066\x9b\u200f\u2028")


def test_text_is_made_printable() -> None:
    """Control characters and changes of direction become escapes; all else stays as it is."""
    shown = output.printable(TRICKS)
    assert shown == r"\x1b[2J\x07\r\u202eexe.txt\u2066\x9b\u200f"
    assert output.printable("müller 漢字 🐈 a b") == "müller 漢字 🐈 a b"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x202A, 0x202F), 0x2028):
        assert output.printable(chr(code)).isascii(), hex(code)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (7 << 60, "7168.0 PiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    """Sizes have one digit after the point, and never 1024 of a unit below the largest."""
    assert output.size_text(size) == text


def test_parts_counts_and_times() -> None:
    """What is done of a size shares its unit; counts and times read like language."""
    assert output.part_text(3 << 29, 8 << 30) == "1.5 of 8.0 GiB"
    assert output.part_text(5, None) == "5 B"
    assert output.part_text(9, 5) == "9 B"  # it grew meanwhile
    assert output.count_text(1, "file") == "1 file"
    assert output.count_text(12_345, "file") == "12,345 files"
    assert time_left(61, 1.0) == "1:01"
    assert time_left(3_723, 1.0) == "1:02:03"
    assert time_left(-5, 1.0) == "0:00"


@pytest.fixture
def tricky(stocked: Place) -> Place:
    """A store that holds tricky names and messages."""
    stocked.file(f"pets/{TRICKY_NAME}", "x")
    stocked.file("pets/müller.txt", "x")
    stocked.well("push", "pets", "pets", "-m", TRICKS)
    return stocked


LISTINGS = [
    ["ls", "pets"],
    ["ls", "pets", "-l"],
    ["log", "pets"],
    ["diff", "pets@2"],
    ["stat", "pets@3"],
    ["status", "pets", "fresh"],
    ["push", "pets", "fresh", "-n"],
    ["pull", "pets", "out", "-n"],
]


@pytest.mark.parametrize("command", LISTINGS, ids=lambda command: command[0])
def test_no_listing_plays_tricks(tricky: Place, command: list[str]) -> None:
    """What a store holds cannot move the cursor or turn text round, as text or as JSON."""
    for more in ([], ["--json"], ["-q"]):
        text = tricky.well(*command, *more).text
        assert not TRICKY & set(text), (command, more)


@pytest.mark.parametrize("command", LISTINGS, ids=lambda command: command[0])
def test_json_parses_and_is_true(tricky: Place, command: list[str]) -> None:
    """JSON is one document, or a document a line, and keeps every character."""
    text = tricky.well(*command, "--json").text
    try:
        documents = [json.loads(text)]
    except json.JSONDecodeError:
        documents = [json.loads(line) for line in text.splitlines()]
        assert documents[-1]["type"] == "summary"
    held = json.dumps(documents)
    assert json.dumps(TRICKS)[1:-1] in held or json.dumps(TRICKY_NAME)[1:-1] in held


def test_errors_play_no_tricks(tricky: Place) -> None:
    """What is said about a bad argument is printable too."""
    for command in (["ls", f"pets:{TRICKS}x"], ["ls", TRICKS], ["push", TRICKS, "pets"], [TRICKS]):
        errors = tricky.run(*command).errors
        assert errors
        assert not TRICKY & set(errors), command


def test_data_on_stdout_all_else_on_stderr(stocked: Place) -> None:
    """An error leaves stdout empty, and a note does not mix with data."""
    ended = stocked.well("rm", "pets@1", "--yes")
    assert "the space stays taken" not in ended.text
    ended = stocked.run("ls", "nothing")
    assert ended.output == b""
    assert ended.errors


def test_json_errors(stocked: Place) -> None:
    """With --json an error is a document on stdout too, with code, hint and status."""
    document = stocked.run("ls", "dogs", "--json").document
    assert document == {
        "type": "error",
        "code": "not_found",
        "message": "no dataset 'dogs'",
        "hint": "list the datasets with ls",
        "status": 4,
    }
    assert stocked.run("--json", "psuh").document["code"] == "usage"


def test_json_and_quiet_exclude_each_other(stocked: Place) -> None:
    """Nobody can want both."""
    assert stocked.run("ls", "--json", "-q").status == 2


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
    ],
    ids=lambda variables: "-".join(variables.values()),
)
def test_other_locales(tricky: Place, variables: dict[str, str]) -> None:
    """In a locale that cannot say everything nothing fails, and JSON stays whole."""
    for name, value in variables.items():
        tricky.variable(name, value)
    done = tricky.start("ls", "pets", "--json")
    assert done.status == 0, done
    paths = [entry["path"] for entry in json.loads(done.output)["entries"]]
    assert {"müller.txt", TRICKY_NAME} <= set(paths)
    assert tricky.start("ls", "pets").status == 0
    assert "Traceback" not in tricky.start("ls", "mü").errors
    before = tricky.well("ls", "pets", "-R").lines
    done = tricky.start("push", "pets", "pets", "--allow-same")
    # Where the system itself cannot spell the names, none is pushed under a wrong one.
    assert done.status == (3 if "PYTHONUTF8" in variables else 0), done
    assert tricky.well("ls", "pets", "-R").lines == before
    done = tricky.start("pull", "pets", "out")
    assert done.status == (1 if "PYTHONUTF8" in variables else 0), done
    assert ("hint: set PYTHONUTF8=1" in done.errors) == bool(done.status)


def test_names_that_are_not_utf8(stocked: Place) -> None:
    """A file name that is not UTF-8 is named in a way that can be printed, also as JSON."""
    (stocked.folder / os.fsdecode(b"pets/\xff.txt")).write_text("x")
    ended = stocked.start("push", "pets", "pets")
    assert ended.status == 3
    assert r"\xff.txt" in ended.errors
    lines = stocked.start("push", "pets", "pets", "--json").output.splitlines()
    assert [json.loads(line)["type"] for line in lines].count("error") == 2


def test_whoever_reads_may_stop(stocked: Place) -> None:
    """`| head` ends the command quietly, as SIGPIPE would."""
    for number in range(3000):
        stocked.file(f"many/{number:04}-{'x' * 100}", "")
    stocked.well("push", "many", "many")
    for command in ("ls many -R", "ls many --json", "ls many -q", "status many fresh --json"):
        done = shell(f"chunkstore {command} | head -n 1")
        assert done.returncode == 141, (command, done)
        assert done.stderr == "", command
        assert len(done.stdout.splitlines()) == 1
    stocked.file("large.bin", bytes(4 << 20))  # more than any pipe holds
    stocked.well("push", "large.bin", "large")
    done = shell("(chunkstore cat large:large.bin; echo $? >&2) | head -c 3 | wc -c")
    assert (done.stdout.strip(), done.stderr) == ("3", "141\n")
    assert shell("chunkstore --help | true").stderr == ""


def test_closed_streams(stocked: Place) -> None:
    """Without stdout, stderr or stdin a command does its work, and no file gets its output."""
    for number, closed in enumerate((">&-", "2>&-", "<&-", ">&- 2>&- <&-")):
        stocked.file("pets/notes.txt", f"change {number}\n")
        done = shell(f"chunkstore push pets pets {closed}")
        assert (done.returncode, done.stderr) == (0, ""), closed
        assert shell(f"chunkstore ls pets {closed}").returncode == 0
        assert shell(f"chunkstore ls nothing {closed}").returncode == 4
    assert len(stocked.well("log", "pets", "-q").lines) == 6
    done = shell("chunkstore push - piped --name file <&-")  # and makes no version of nothing
    assert (done.returncode, "stdin is closed" in done.stderr) == (2, True)
    assert shell("chunkstore push - piped --name file < /dev/null").returncode == 0
    stocked.well("pull", "pets", "out")
    assert Path("out/notes.txt").read_text() == "change 3\n"


def test_a_full_disk_behind_stdout(stocked: Place) -> None:
    """Output that cannot be written is a failure, said once; a push is done all the same."""
    for command in ("ls", "ls --json", "cat pets:cats/tom.bin", "stat", "--help"):
        done = shell(f"chunkstore {command} > /dev/full")
        assert done.returncode == 1, (command, done)
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr
    stocked.file("pets/more.txt", "more\n")
    assert shell("chunkstore push pets pets > /dev/full").returncode == 1
    assert len(stocked.well("log", "pets", "-q").lines) == 3


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_stdout_takes_all_or_it_is_said(stocked: Place, tmp_path: Path, unbuffered: str) -> None:
    """Where writes are cut short, by a stream that does not block or a disk that fills up."""
    data = random_bytes(3 * MIB, 1)
    stocked.file("pets/large", data)
    stocked.well("push", "pets", "pets")
    stocked.variable("PYTHONUNBUFFERED", unbuffered)
    here, there = os.pipe()
    os.set_blocking(there, False)
    with open(here, "rb") as reader:
        with subprocess.Popen([PROGRAM, "cat", "pets:large"], stdout=there) as child:
            os.close(there)
            assert select.select([reader], [], [], SECONDS)[0]
            assert reader.read() == data
        assert child.returncode == 0
    listed = stocked.well("ls", "-R", "pets", "--json").output
    for command, length in (("cat pets:large", len(data)), ("ls -R pets --json", len(listed))):
        limit = f"ulimit -f {length // 1024 - 1 if length > 2048 else 0}"  # KiB, as bash has it
        done = shell(f"trap '' XFSZ; {limit}; chunkstore {command} > {tmp_path}/cut")
        assert done.returncode == 1, (command, done)
        assert "cannot write the output: File too large" in done.stderr


def test_a_full_disk_behind_stderr(stocked: Place) -> None:
    """The status tells the truth also where nothing can be said."""
    assert shell("chunkstore ls nothing 2> /dev/full").returncode == 4
    assert shell("chunkstore rm pets@1 --yes 2> /dev/full").returncode == 0
    assert shell("chunkstore ls nothing --debug 2> /dev/full").returncode == 4


def test_tables_are_aligned(stocked: Place) -> None:
    """The columns of a table begin below their headers."""
    header, *rows = stocked.well("log", "pets").lines
    place = header.index("MANIFEST")
    assert all(row[place - 1] == " " and row[place] != " " for row in rows)
