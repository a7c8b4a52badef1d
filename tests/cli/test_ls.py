"""`chunkstore ls`: datasets, and the files of a version."""

from __future__ import annotations

from tests.cli.conftest import Place


def test_datasets(stocked: Place) -> None:
    """Without an address the datasets are listed; a prefix with a slash lists those below it."""
    stocked.well("push", "pets", "team/a")
    stocked.well("push", "pets", "team/b")
    assert stocked.well("ls").lines == ["pets", "team/a", "team/b"]
    assert stocked.well("ls", "team/").lines == ["team/a", "team/b"]
    assert stocked.well("ls", "team/", "--json").document == {
        "datasets": [{"dataset": "team/a"}, {"dataset": "team/b"}]
    }


def test_datasets_in_long(stocked: Place) -> None:
    """With -l the latest version stands with each dataset."""
    header, row = stocked.well("ls", "-l").lines
    assert header.split("  ")[0] == "DATASET"
    assert row.split()[:3] == ["pets", "2", "4"]
    assert row.split()[-1] == "v2"
    (document,) = stocked.well("ls", "-l", "--json").document["datasets"]
    assert (document["dataset"], document["version"], document["files"]) == ("pets", 2, 4)


def test_no_datasets(place: Place) -> None:
    """An empty store lists nothing, and says on stderr how to begin."""
    place.well("init", "./store")
    for more in ([], ["-l"], ["team/"]):
        ended = place.well("ls", "-s", "./store", *more)
        assert ended.output == b""
        assert "hint: make one: chunkstore push" in ended.errors
    assert place.well("ls", "-s", "./store", "--json").document == {"datasets": []}
    assert place.well("ls", "-s", "./store", "-q").errors == ""


def test_a_dataset_whose_versions_were_dropped(stocked: Place) -> None:
    """Its name stays listed, since its numbers go on, and whoever asks for it is told."""
    stocked.well("rm", "pets", "--all", "--yes")
    assert stocked.well("ls").lines == ["pets"]
    assert stocked.well("ls", "-l").lines[1].split() == ["pets", "-"]
    assert stocked.well("ls", "-l", "--json").document == {
        "datasets": [{"dataset": "pets", "version": None}]
    }
    told = stocked.failing(4, "ls", "pets")
    assert "dataset 'pets' has no versions" in told
    assert "hint: bring back what was dropped with undo" in told
    assert "no dataset 'petz'" in stocked.failing(4, "undo", "petz", "--list")


def test_one_level(stocked: Place) -> None:
    """Of a version one level is listed, folders with a slash; -R lists everything."""
    assert stocked.well("ls", "pets").lines == ["cats/", "new.txt", "notes.txt"]
    assert stocked.well("ls", "pets@1:cats").lines == ["cats/kit/", "cats/tom.bin"]
    assert stocked.well("ls", "pets@1", "-R").lines == [
        "cats/kit/a.txt",
        "cats/tom.bin",
        "notes.txt",
        "old.txt",
    ]
    assert stocked.well("ls", "pets:new.txt").lines == ["new.txt"]


def test_long(stocked: Place) -> None:
    """With -l sizes, times and hashes stand before the paths; folders have sums."""
    rows = [line.split() for line in stocked.well("ls", "pets", "-l").lines]
    assert rows[0] == ["1000.0", "KiB", "2", "files", "cats/"]
    assert rows[1][:2] == ["4", "B"]
    assert len(rows[1][4]) == 12
    assert stocked.well("ls", "pets", "-l", "-q").lines == ["cats/", "new.txt", "notes.txt"]


def test_json(stocked: Place) -> None:
    """JSON names the version and has every entry with its size, time and whole hash."""
    document = stocked.well("ls", "pets@v2", "--json").document
    assert (document["dataset"], document["version"], document["path"]) == ("pets", 2, "")
    folder, new, _ = document["entries"]
    assert folder == {"path": "cats/", "kind": "folder", "size": 1024004 - 2, "files": 2}
    assert set(new) == {"path", "kind", "size", "modified", "executable", "hash"}
    assert len(new["hash"]) == 64


def test_links_and_empty_folders(stocked: Place) -> None:
    """A link is listed with where it leads, an empty folder with a slash."""
    (stocked.folder / "pets/link").symlink_to("notes.txt")
    (stocked.folder / "pets/void").mkdir()
    stocked.well("push", "pets", "pets")
    lines = stocked.well("ls", "pets", "-l").lines
    assert any(line.endswith("  link -> notes.txt") for line in lines)
    assert any(line.endswith("  void/") for line in lines)
    entries = stocked.well("ls", "pets", "--json").document["entries"]
    assert {"path": "link", "kind": "link", "target": "notes.txt"} in entries


def test_not_found(stocked: Place) -> None:
    """What is not there is answered with the nearest names."""
    assert "did you mean 'pets'?" in stocked.failing(4, "ls", "pet")
    assert "'cats'" in stocked.failing(4, "ls", "pets:cast")
    assert "no dataset 'unlike'" in stocked.failing(4, "ls", "unlike")
