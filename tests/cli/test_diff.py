"""`chunkstore diff`: what differs between two versions."""

from __future__ import annotations

from tests.cli.conftest import Place


def test_changes(stocked: Place) -> None:
    """Each path that differs is listed by its mark and size, in the order of paths."""
    rows = [line.split() for line in stocked.well("diff", "pets@1", "pets@2").lines]
    assert rows == [
        ["+", "4", "B", "new.txt"],
        ["~", "8", "B", "notes.txt"],
        ["-", "4", "B", "old.txt"],
    ]
    assert stocked.well("diff", "pets@1", "pets@2", "-q").lines == [
        "new.txt",
        "notes.txt",
        "old.txt",
    ]


def test_the_other_version_is_the_latest(stocked: Place) -> None:
    """Without AFTER the latest version is meant, and ~1 is the one before it."""
    whole = stocked.well("diff", "pets@1", "pets@2").output
    assert stocked.well("diff", "pets@1").output == whole
    assert stocked.well("diff", "pets@~1").output == whole
    back = stocked.well("diff", "pets@v2", "pets@1").lines
    assert [line[0] for line in back] == ["-", "~", "+"]


def test_between_datasets(stocked: Place) -> None:
    """Versions of two datasets are compared as those of one."""
    stocked.well("push", "pets", "other")
    ended = stocked.well("diff", "pets@2", "other")
    assert ended.output == b""
    assert ended.errors == "nothing differs between pets@2 and other@latest\n"


def test_stat(stocked: Place) -> None:
    """--stat counts paths and sizes by kind."""
    rows = [line.split() for line in stocked.well("diff", "pets@1", "--stat").lines]
    assert rows == [
        ["+", "added", "1", "4", "B"],
        ["~", "modified", "1", "8", "B"],
        ["-", "removed", "1", "4", "B"],
    ]


def test_json(stocked: Place) -> None:
    """JSON names both versions and lists the changes, or only counts them."""
    document = stocked.well("diff", "pets@1", "--json").document
    assert (document["before"]["version"], document["after"]["version"]) == (1, 2)
    assert document["changes"][1] == {
        "kind": "modified",
        "path": "notes.txt",
        "size_before": 4,
        "size_after": 8,
    }
    stat = stocked.well("diff", "pets@1", "--stat", "--json").document
    assert (stat["added"], stat["modified"], stat["removed"]) == (1, 1, 1)
    assert stat["sizes"] == {"added": 4, "modified": 8, "removed": 4}
    assert stocked.well("diff", "pets", "--json").document["changes"] == []


def test_exit_code(stocked: Place) -> None:
    """Only with --exit-code differences end with status 9."""
    assert stocked.run("diff", "pets@1", "--exit-code").status == 9
    assert stocked.run("diff", "pets@1", "--exit-code", "--stat", "--json").status == 9
    assert stocked.run("diff", "pets@2", "--exit-code").status == 0


def test_only_whole_versions(stocked: Place) -> None:
    """A path cannot be compared, and the remedy is an address without it."""
    assert "pets@latest" in stocked.failing(2, "diff", "pets:cats")
    assert "there are versions 1 to 2" in stocked.failing(4, "diff", "pets@1", "pets@7")
