"""`chunkstore status`: a folder against a version, before any transfer."""

from __future__ import annotations

from tests.cli.conftest import Place


def _change(place: Place) -> None:
    place.file("pets/notes.txt", "changed\n")
    place.file("pets/dog.txt", "wau\n")
    (place.folder / "pets/new.txt").unlink()


def test_changes(stocked: Place) -> None:
    """Each difference is listed, and what a push would send is said."""
    _change(stocked)
    *rows, last = stocked.well("status", "pets", "pets").lines
    assert [row.split() for row in rows] == [
        ["+", "4", "B", "dog.txt"],
        ["-", "4", "B", "new.txt"],
        ["~", "8", "B", "notes.txt"],
    ]
    assert last.startswith("3 differences from pets@2; a push would send 12 B of ")


def test_it_says_what_a_push_then_does(stocked: Place) -> None:
    """What a push makes new is what status had said, and status changes nothing itself."""
    _change(stocked)
    before = stocked.well("stat", "--json").document
    said = stocked.well("status", "pets", "pets", "--json").events[-1]
    assert stocked.well("stat", "--json").document == before
    done = stocked.well("push", "pets", "pets", "--json").events[-1]
    assert said["new_bytes"] == done["new_bytes"] == 12
    assert (said["files"], said["size"]) == (done["files"], done["size"])


def test_nothing_differs(stocked: Place) -> None:
    """A folder that equals the version says so, with status 0."""
    ended = stocked.well("status", "pets", "pets", "--exit-code")
    assert ended.lines == ["nothing differs from pets@2"]


def test_an_older_version(stocked: Place) -> None:
    """The folder is held against the version that is named."""
    ended = stocked.run("status", "pets", "pets@1", "--exit-code", "-q")
    assert ended.status == 9
    assert ended.lines == ["new.txt", "notes.txt", "old.txt"]


def test_json(stocked: Place) -> None:
    """With --json the last line is a summary of exactly these keys."""
    _change(stocked)
    events = stocked.well("status", "pets", "pets", "--json").events
    assert {"type": "item", "action": "added", "path": "dog.txt", "size": 4} in events
    summary = events[-1]
    assert set(summary) == {
        "type", "dataset", "version", "manifest", "added", "modified", "removed", "files", "size",
        "new_bytes", "seconds",
    }  # fmt: skip
    assert (summary["added"], summary["modified"], summary["removed"]) == (1, 1, 1)


def test_a_dataset_that_is_not_there_yet(stocked: Place) -> None:
    """Before the first push everything is added."""
    ended = stocked.well("status", "pets", "fresh")
    assert "fresh, which has no version yet" in ended.lines[-1]
    assert all(line.startswith("+ ") for line in ended.lines[:-1])
    assert stocked.well("status", "pets", "fresh", "--json").events[-1]["version"] is None


def test_patterns(stocked: Place) -> None:
    """Patterns choose what takes part."""
    _change(stocked)
    lines = stocked.well("status", "pets", "fresh", "--include", "*.txt", "-q").lines
    assert "cats/tom.bin" not in lines
    assert "dog.txt" in lines


def test_not_found(stocked: Place) -> None:
    """A folder or version that is not there is named."""
    assert "nowhere" in stocked.run("status", "nowhere", "pets").errors
    assert stocked.run("status", "nowhere", "pets").status == 4
    assert "there are versions 1 to 2" in stocked.failing(4, "status", "pets", "pets@9")
