"""`chunkstore push`: what it makes, what it prints, how it ends."""

from __future__ import annotations

import os

from tests.cli.conftest import Place

SUMMARY = {
    "type", "dataset", "version", "manifest", "unchanged", "files", "size", "new_files",
    "new_bytes", "again_bytes", "stored_bytes", "sent_bytes", "unreadable",
    "kinds",
    "seconds",
}  # fmt: skip


def test_a_folder_becomes_a_version(stocked: Place) -> None:
    """A push of a folder makes the next version and names it on stdout."""
    stocked.file("pets/dog.txt", "wau\n")
    ended = stocked.well("push", "pets", "pets", "--tag", "v3", "--tag", "best")
    assert ended.lines[0].startswith("pets@3 ")
    assert "5 files" in ended.lines[0]
    assert ended.errors == ""
    assert stocked.well("cat", "pets@best:dog.txt").output == b"wau\n"


def test_one_file(stocked: Place) -> None:
    """A file becomes a version with that file in it, called as it is or by --name."""
    stocked.file("model.bin", b"\0" * 1000)
    stocked.well("push", "model.bin", "nets/a")
    stocked.well("push", "./model.bin", "nets/b", "--name", "deep/net.bin")
    assert stocked.well("ls", "nets/a", "-R").lines == ["model.bin"]
    assert stocked.well("ls", "nets/b", "-R").lines == ["deep/net.bin"]


def test_stdin(stocked: Place) -> None:
    """Stdin becomes the file that --name says, byte for byte."""
    data = bytes(range(256)) * 9999
    ended = stocked.start("push", "-", "logs/job42", "--name", "today.jsonl", stdin=data)
    assert ended.status == 0, ended
    assert stocked.start("cat", "logs/job42:today.jsonl").output == data


def test_stdin_needs_a_name(stocked: Place) -> None:
    """A stream without a name is refused with the remedy."""
    ended = stocked.start("push", "-", "logs/job42", stdin=b"x")
    assert ended.status == 2
    assert "--name PATH" in ended.errors


def test_json_lines(stocked: Place) -> None:
    """With --json a push prints items and progress, and last a summary of exactly these keys."""
    stocked.file("pets/notes.txt", "changed\n")
    stocked.file("pets/extra.txt", "extra\n")
    (stocked.folder / "pets/new.txt").unlink()
    events = stocked.well("push", "pets", "pets", "--json").events
    items = {event["path"]: event["action"] for event in events if event["type"] == "item"}
    assert items == {"notes.txt": "modified", "extra.txt": "added", "new.txt": "removed"}
    assert {event["type"] for event in events} <= {"item", "progress", "summary"}
    assert [event["type"] for event in events].index("summary") == len(events) - 1
    summary = events[-1]
    assert set(summary) == SUMMARY
    assert summary["version"] == 3
    assert summary["unchanged"] is False
    assert summary["new_files"] == 2
    assert summary["new_bytes"] == len("changed\n" + "extra\n")
    assert summary["manifest"] == stocked.well("log", "pets", "-n", "1", "-q").text.strip()


def test_progress_keys(stocked: Place) -> None:
    """A progress line says what is dealt with and what was sent."""
    events = stocked.well("push", "pets", "other", "--json").events
    (progress, *_) = [event for event in events if event["type"] == "progress"]
    keys = {"type", "done_bytes", "total_bytes", "moved_bytes", "done_files", "total_files"}
    assert set(progress) == keys
    quiet = stocked.well("push", "pets", "another", "--json", "--no-progress").events
    assert {event["type"] for event in quiet} == {"item", "summary"}


def test_nothing_changed(stocked: Place) -> None:
    """A push that changes nothing makes no version, unless it is told to."""
    ended = stocked.well("push", "pets", "pets")
    assert "pets@2 is unchanged" in ended.text
    summary = stocked.well("push", "pets", "pets", "--json").events[-1]
    assert (summary["version"], summary["unchanged"]) == (2, True)
    assert stocked.well("push", "pets", "pets", "--allow-same").text.startswith("pets@3 ")


def test_quiet_prints_the_id(stocked: Place) -> None:
    """With --quiet the manifest's whole id is all that is printed, and it is an address."""
    ended = stocked.well("push", "pets", "again", "-q")
    identifier = ended.text.strip()
    assert len(identifier) == 64
    assert ended.errors == ""
    assert stocked.well("ls", f"again@{identifier}", "-q").lines[0] == "cats/"


def test_dry_run(stocked: Place) -> None:
    """A dry run says what would be done, path by path, and stores nothing."""
    stocked.file("pets/notes.txt", "changed\n")
    before = stocked.well("stat", "--json").document
    ended = stocked.well("push", "pets", "pets", "-n")
    assert ended.lines[0].split() == ["~", "8", "B", "notes.txt"]
    assert "would" in ended.lines[-1]
    summary = stocked.well("push", "pets", "pets", "-n", "--json").events[-1]
    assert (summary["version"], summary["manifest"], summary["new_files"]) == (None, None, 1)
    assert stocked.well("push", "pets", "pets", "-n", "-q").text == ""
    assert stocked.well("stat", "--json").document == before


def test_patterns(stocked: Place) -> None:
    """--include, --exclude and .chunkstoreignore say what takes part."""
    stocked.well("push", "pets", "some", "--include", "*.txt", "--exclude", "cats/")
    assert stocked.well("ls", "some", "-R").lines == ["new.txt", "notes.txt"]
    stocked.file("pets/.chunkstoreignore", "*.bin\n")
    stocked.well("push", "pets", "rest")
    assert "cats/tom.bin" not in stocked.well("ls", "rest", "-R").lines


def test_expect(stocked: Place) -> None:
    """--expect lets a push through only onto the version it names; otherwise status 8."""
    stocked.file("pets/notes.txt", "changed\n")
    refused = stocked.run("push", "pets", "pets", "--expect", "1")
    assert refused.status == 8
    assert "hint:" in refused.errors
    stocked.well("push", "pets", "pets", "--expect", "2")
    assert stocked.run("push", "pets", "fresh", "--expect", "0").status == 0
    assert stocked.run("push", "pets", "fresh", "--expect", "0", "--allow-same").status == 8


def test_unreadable(stocked: Place) -> None:
    """A push that cannot read a file commits nothing, names it and ends with status 3."""
    os.symlink(b"\xff", stocked.folder / "pets/broken")  # no version can hold such a target
    ended = stocked.run("push", "pets", "pets")
    assert ended.status == 3
    assert "broken" in ended.errors
    assert "--skip-unreadable" in ended.errors
    assert len(stocked.well("log", "pets", "-q").lines) == 2
    events = stocked.run("push", "pets", "pets", "--json").events
    assert [event.get("path") for event in events if event["type"] == "error"] == ["broken", None]
    assert events[-1]["code"] == "unreadable_files"
    skipped = stocked.well("push", "pets", "pets", "--skip-unreadable", "--allow-same")
    assert "left out: broken" in skipped.errors


def test_a_dry_run_foretells_the_failure(stocked: Place) -> None:
    """A dry run of a push that would fail says all it has to say, then why, with status 3."""
    os.symlink(b"\xff", stocked.folder / "pets/broken")
    stocked.file("pets/notes.txt", "changed\n")
    ended = stocked.run("push", "pets", "pets", "-n")
    assert ended.status == 3
    assert "notes.txt" in ended.text
    assert "error: 1 file cannot be read; this push would commit nothing" in ended.errors
    assert "--skip-unreadable" in ended.errors
    as_json = stocked.run("push", "pets", "pets", "-n", "--json")
    assert (as_json.status, as_json.events[-1]["unreadable"]) == (3, 1)
    stocked.well("push", "pets", "pets", "-n", "--skip-unreadable")


def test_a_dry_run_by_kind(stocked: Place) -> None:
    """A dry run has a line for each kind of file that would add something, without promises."""
    stocked.file("pets/new.csv", "1,2\n" * 1000)
    ended = stocked.well("push", "pets", "pets", "-n")
    head, row = (line.split() for line in ended.lines[2:4])
    assert head == ["KIND", "FILES", "SIZE", "NEW", "STORED,", "ABOUT"]
    assert row[:6] == [".csv", "1", "3.9", "KiB", "3.9", "KiB"]
    assert "about" in ended.lines[-1]
    (kind,) = stocked.well("push", "pets", "pets", "-n", "--json").events[-1]["kinds"]
    assert kind["kind"] == ".csv"
    assert kind["new_bytes"] == 4000


def test_slips(stocked: Place) -> None:
    """The usual slips are answered with the words that was meant."""
    swapped = stocked.run("push", "dogs", "./pets")
    assert swapped.status == 4
    assert "push ./pets dogs" in swapped.errors
    versioned = stocked.run("push", "pets", "pets@v9")
    assert versioned.status == 2
    assert "--tag v9" in versioned.errors
    assert stocked.run("push", "pets", "Pets").status == 2
    assert stocked.run("push", "pets", "pets", "--tag", "latest").status == 2
    assert stocked.run("push", "nothing", "pets").status == 4
