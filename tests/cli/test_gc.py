"""`chunkstore gc` and `chunkstore undo`."""

from __future__ import annotations

from tests.cli.conftest import Place

NOW = ("--grace", "0s", "--reader-grace", "0s")


def test_a_plan_deletes_nothing(stocked: Place) -> None:
    """Without --apply the plan is printed, and how to go on."""
    stocked.well("rm", "pets@1", "--yes")
    before = stocked.well("stat", "--json").document["pack_bytes"]
    ended = stocked.well("gc", *NOW)
    assert "let go 1 version" in ended.text
    assert "--apply" in ended.errors
    assert stocked.well("stat", "--json").document["pack_bytes"] == before


def test_it_must_be_meant(stocked: Place) -> None:
    """Off a terminal --yes is needed; a plan that frees most of the store needs --force too."""
    stocked.well("rm", "pets", "--all", "--yes")
    assert "more than half" in stocked.failing(5, "gc", "--apply", "--yes", *NOW)
    errors = stocked.run("gc", "--apply", "--force", *NOW)
    assert errors.status == 5
    assert "--yes" in errors.errors
    assert stocked.well("undo", "pets").lines[0].startswith("pets@1 ")


def test_what_was_dropped_goes(stocked: Place) -> None:
    """The space is freed, what is left reads back, and nothing can be brought back."""
    stocked.well("rm", "pets@1", "--yes")
    assert stocked.well("undo", "pets", "--list", "-q").lines
    ended = stocked.well("gc", "--apply", "--yes", "--force", *NOW)
    assert ended.text.startswith("freed ")
    stocked.failing(4, "undo", "pets")
    stocked.well("pull", "pets@2", "out")
    summary = stocked.well("gc", "--apply", "--yes", "--json", *NOW).text.splitlines()[-1]
    assert '"deleted_packs": 0' in summary


def test_undo_brings_a_version_back(stocked: Place) -> None:
    """By its number, with its tag; a tag or a prefix does not name a dropped version."""
    stocked.well("rm", "pets@v2", "--yes")
    assert "NUMBER" in stocked.well("undo", "--help").text
    stocked.failing(2, "undo", "pets@v2")
    stocked.failing(2, "undo", "pets@1:notes.txt")
    document = stocked.well("undo", "pets@2", "--json").document
    assert [version["version"] for version in document["versions"]] == [2]
    assert stocked.well("ls", "pets@v2").lines


def test_thinning_out(stocked: Place) -> None:
    """What is kept is said with the reason; --keep options and versions do not go together."""
    ended = stocked.well("rm", "pets", "--keep-last", "1", "-n")
    assert ended.lines[0] == "kept pets@2: latest"
    assert ended.lines[1].startswith("would drop pets@1 ")
    assert "there is nothing to drop" in stocked.well("rm", "pets", "--keep-last", "2").errors
    stocked.failing(2, "rm", "pets@1", "--keep-last", "1")
    stocked.failing(2, "rm", "pets", "--all", "--keep-last", "1")
    assert "drop 1 version: pets@1" in stocked.well("gc", "--keep-last", "1").text
    assert len(stocked.well("log", "pets", "-q").lines) == 2
    stocked.well("gc", "--keep-last", "1", "--apply", "--yes", "--reader-grace", "0s")
    assert len(stocked.well("log", "pets", "-q").lines) == 1
    assert stocked.well("undo", "pets").lines[0].startswith("pets@1 ")
