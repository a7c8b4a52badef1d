"""`chunkstore log`: the versions of a dataset."""

from __future__ import annotations

from tests.cli.conftest import Place


def test_newest_first(stocked: Place) -> None:
    """Versions are listed newest first with tags and the first line of the message."""
    header, second, first = stocked.well("log", "pets").lines
    assert header.split()[:2] == ["VERSION", "MANIFEST"]
    assert second.split()[0] == "2"
    assert second.endswith("latest v2")
    assert first.split()[0] == "1"
    assert first.endswith("first")


def test_number(stocked: Place) -> None:
    """-n lists the newest few; more than there are is all of them, and none is no number."""
    assert len(stocked.well("log", "pets", "-n", "1").lines) == 2
    assert len(stocked.well("log", "pets", "-n", "99").lines) == 3
    for bad in ("0", "-1", "x"):
        assert stocked.run("log", "pets", "-n", bad).status == 2


def test_json(stocked: Place) -> None:
    """JSON has whole messages, whole ids and plain numbers."""
    document = stocked.well("log", "pets", "--json").document
    assert document["dataset"] == "pets"
    second, first = document["versions"]
    assert set(first) == {
        "dataset", "version", "manifest", "created", "message", "files", "size", "new_bytes",
        "stored_bytes", "tags",
    }  # fmt: skip
    assert (first["version"], first["message"], first["tags"]) == (1, "first\nof all", [])
    assert (second["version"], second["tags"]) == (2, ["latest", "v2"])
    assert first["created"].endswith("Z")
    assert len(first["manifest"]) == 64
    assert second["stored_bytes"] < first["stored_bytes"]


def test_quiet(stocked: Place) -> None:
    """With --quiet the manifests' ids are printed, and each is an address."""
    ids = stocked.well("log", "pets", "-q").lines
    assert stocked.well("stat", f"pets@{ids[1]}", "--json").document["version"] == 1
    assert stocked.well("stat", f"pets@{ids[0][:12]}", "--json").document["version"] == 2


def test_only_a_dataset_has_a_log(stocked: Place) -> None:
    """A version or path has none, and a dataset that is not there is answered with the nearest."""
    assert stocked.run("log", "pets@1").status == 2
    assert "did you mean 'pets'?" in stocked.failing(4, "log", "petz")
