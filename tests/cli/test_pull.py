"""`chunkstore pull`: what lands in the target, what is printed, how it ends."""

from __future__ import annotations

import os
from pathlib import Path

from chunkstore.testing.trees import tree_state
from tests.cli.conftest import Place

SUMMARY = {
    "type", "dataset", "version", "manifest", "files", "size", "fetched_bytes", "reused_bytes",
    "written_bytes", "deleted", "seconds",
}  # fmt: skip


def test_a_version_comes_back(stocked: Place) -> None:
    """A pull makes the target equal to what was pushed, and says what it fetched."""
    ended = stocked.well("pull", "pets@v2", "out")
    assert tree_state(stocked.folder / "out") == tree_state(stocked.folder / "pets")
    assert ended.lines[0].startswith("pets@2 ")
    assert "is in out: 4 files" in ended.lines[0]
    assert ended.errors == ""


def test_again_fetches_nothing(stocked: Place) -> None:
    """A target that is as it should be costs no bytes."""
    stocked.well("pull", "pets", "out")
    summary = stocked.well("pull", "pets", "out", "--json").events[-1]
    assert (summary["fetched_bytes"], summary["written_bytes"]) == (0, 0)
    assert summary["reused_bytes"] == summary["size"]


def test_without_a_target(stocked: Place) -> None:
    """Without TARGET the last part of the name or of the path is the target."""
    stocked.well("push", "pets", "team/animals")
    (stocked.folder / "sub").mkdir()
    os.chdir(stocked.folder / "sub")
    url = str(stocked.folder / "store")
    for address, target in (("team/animals", "animals"), ("pets:cats/kit", "kit")):
        stocked.well("pull", address, "--store", url)
        assert Path(target).is_dir()
    stocked.well("pull", "pets:notes.txt", "--store", url)
    assert Path("notes.txt").read_text() == "one\ntwo\n"


def test_parts(stocked: Place) -> None:
    """A folder, a file, and what patterns choose are pulled alone."""
    stocked.well("pull", "pets:cats", "a")
    assert sorted(os.listdir(stocked.folder / "a")) == ["kit", "tom.bin"]
    stocked.well("pull", "pets@1:old.txt", "b/renamed.txt")
    assert (stocked.folder / "b/renamed.txt").read_text() == "old\n"
    (stocked.folder / "c").mkdir()
    stocked.well("pull", "pets@1:old.txt", "c")
    assert os.listdir(stocked.folder / "c") == ["old.txt"]
    stocked.well("pull", "pets", "d", "--include", "*.txt", "--exclude", "cats/")
    assert sorted(os.listdir(stocked.folder / "d")) == ["new.txt", "notes.txt"]


def test_json_lines(stocked: Place) -> None:
    """With --json each path is an item, and the last line is a summary of exactly these keys."""
    stocked.well("pull", "pets@1", "out")
    events = stocked.well("pull", "pets@2", "out", "--delete", "--json").events
    items = {event["path"]: event["action"] for event in events if event["type"] == "item"}
    assert items == {
        "cats/kit/a.txt": "reused",
        "cats/tom.bin": "reused",
        "new.txt": "restored",
        "notes.txt": "restored",
        "old.txt": "removed",
    }
    summary = events[-1]
    assert set(summary) == SUMMARY
    assert (summary["version"], summary["deleted"]) == (2, 1)
    assert summary["manifest"] == stocked.well("log", "pets", "-n", "1", "-q").text.strip()


def test_quiet_prints_the_id(stocked: Place) -> None:
    """With --quiet the manifest's id is all that is printed."""
    ended = stocked.well("pull", "pets@1", "out", "-q")
    assert ended.text == stocked.well("log", "pets", "-q").lines[1] + "\n"
    assert ended.errors == ""


def test_dry_run(stocked: Place) -> None:
    """A dry run says what would be done and does not even make the target."""
    ended = stocked.well("pull", "pets", "out", "-n")
    assert "would be in out" in ended.text
    assert ended.lines[-1].startswith("would fetch ")
    assert not (stocked.folder / "out").exists()
    stocked.well("pull", "pets@1", "out")
    before = tree_state(stocked.folder / "out")
    ended = stocked.well("pull", "pets@2", "out", "--delete", "-n")
    assert "- " in ended.text
    assert "remove 1 file" in ended.lines[-1]
    assert tree_state(stocked.folder / "out") == before


def test_delete(stocked: Place) -> None:
    """What the version does not have stays, and goes with --delete."""
    stocked.well("pull", "pets@1", "out")
    stocked.well("pull", "pets@2", "out")
    assert (stocked.folder / "out/old.txt").exists()
    assert "removed 1 file" in stocked.well("pull", "pets@2", "out", "--delete").text
    assert not (stocked.folder / "out/old.txt").exists()


def test_delete_in_a_strange_folder(stocked: Place) -> None:
    """A folder that has nothing of the version is not emptied unless that is said twice."""
    thesis = stocked.file("home/thesis.txt", "years")
    errors = stocked.failing(5, "pull", "pets", "home", "--delete")
    assert "would remove all its files" in errors
    assert "--yes" in errors
    assert os.listdir(stocked.folder / "home") == ["thesis.txt"]
    stocked.well("pull", "pets", "home", "--delete", "-n")
    assert thesis.read_text() == "years"
    stocked.well("pull", "pets", "home", "--delete", "--yes")
    assert not thesis.exists()


def test_the_target_is_a_file(stocked: Place) -> None:
    """A file where the folder should be is refused and left as it is."""
    file = stocked.file("thing", "mine")
    assert "it is not a folder" in stocked.failing(1, "pull", "pets", "thing")
    assert "cannot restore into" in stocked.failing(1, "pull", "pets", "thing/below")
    assert file.read_text() == "mine"


def test_the_target_cannot_be_made(stocked: Place) -> None:
    """A target that cannot be made is named, with the remedy."""
    errors = stocked.failing(1, "pull", "pets", "/proc/nowhere")
    assert "/proc/nowhere" in errors
    assert "give a folder that you may write" in errors


def test_what_cannot_be_restored_is_named(stocked: Place) -> None:
    """A link that leads out is left out, named, and the status is 3; all else is restored."""
    (stocked.folder / "pets/out").symlink_to("/etc/passwd")
    stocked.well("push", "pets", "pets")
    ended = stocked.run("pull", "pets", "copy")
    assert ended.status == 3
    assert "left out: out: " in ended.errors
    assert not os.path.lexists(stocked.folder / "copy/out")
    assert (stocked.folder / "copy/notes.txt").exists()
    events = stocked.run("pull", "pets", "copy2", "--json").events
    assert [event["path"] for event in events if event["type"] == "error"] == ["out"]
    assert events[-1]["type"] == "summary"
    stocked.well("pull", "pets", "copy", "--links", "all")
    assert os.readlink(stocked.folder / "copy/out") == "/etc/passwd"


def test_not_found(stocked: Place) -> None:
    """A dataset, version, tag or path that is not there is answered with the nearest names."""
    assert "did you mean 'pets'?" in stocked.failing(4, "pull", "pest", "out")
    assert "there are versions 1 to 2" in stocked.failing(4, "pull", "pets@9", "out")
    assert "did you mean 'v2'?" in stocked.failing(4, "pull", "pets@v22", "out")
    assert "'notes.txt'" in stocked.failing(4, "pull", "pets:note.txt", "out")
    assert "'cats/tom.bin'" in stocked.failing(4, "pull", "pets:cats/tim.bin", "out")
    assert "'cats'" in stocked.failing(4, "pull", "pets:cat", "out")
    assert not (stocked.folder / "out").exists()


def test_invalid_addresses(stocked: Place) -> None:
    """What can be no address is refused with what would be one."""
    for address in ("Pets", "../pets", "pets@", "pets:", "pets@A", "", "-", "pets@~x", "/pets"):
        assert stocked.run("pull", "--", address, "out").status == 2, address
    assert not (stocked.folder / "out").exists()
