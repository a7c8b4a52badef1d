"""`chunkstore stat`: sizes of the store, of a dataset, of a version."""

from __future__ import annotations

from tests.cli.conftest import Place


def test_the_store(stocked: Place) -> None:
    """The whole store: what the versions hold, what of it is unique, what that takes up."""
    document = stocked.well("stat", "--json").document
    assert (document["datasets"], document["versions"]) == (1, 2)
    assert document["total_size"] > document["unique_bytes"] > document["stored_bytes"] > 0
    files = [path for path in (stocked.folder / "store").rglob("*") if path.is_file()]
    on_disk = sum(path.stat().st_size for path in files if path.name != "config")
    assert document["stored_bytes"] == on_disk
    text = stocked.well("stat").text
    assert "times less" in text
    assert "2 packs" in text


def test_an_empty_store(place: Place) -> None:
    """A store without anything has sizes too."""
    place.well("init", "./store")
    document = place.well("stat", "-s", "./store", "--json").document
    assert (document["versions"], document["stored_bytes"], document["chunks"]) == (0, 0, 0)
    assert "0 B" in place.well("stat", "-s", "./store").text


def test_a_dataset(stocked: Place) -> None:
    """A dataset: its versions together, and what is unique in them."""
    document = stocked.well("stat", "pets", "--json").document
    assert (document["name"], document["versions"], document["files"]) == ("pets", 2, 4)
    assert document["total_size"] > document["unique_bytes"]
    assert "latest version" in stocked.well("stat", "pets").text


def test_a_version(stocked: Place) -> None:
    """A version: what it holds, and what it brought into the store."""
    document = stocked.well("stat", "pets@v2", "--json").document
    assert (document["version"], document["files"], document["new_bytes"]) == (2, 4, 12)
    text = stocked.well("stat", "pets@1").text
    assert "first\\nof all" in text  # one line, so that the labels stay readable
    assert "pets@1" in text


def test_by_kind(stocked: Place) -> None:
    """A table by kind of file ends what is said of a dataset, a version, and a store if asked."""
    heads = {
        words: "KIND" in stocked.well("stat", *words).text
        for words in (("pets",), ("pets@1",), ("--by-kind",), ())
    }
    assert heads == {("pets",): True, ("pets@1",): True, ("--by-kind",): True, (): False}
    whole = stocked.well("stat", "--by-kind", "--json").document
    assert sum(kind["size"] for kind in whole["kinds"]) == whole["total_size"]
    version = stocked.well("stat", "pets@1", "--json").document
    assert sum(kind["files"] for kind in version["savings"]["kinds"]) == version["files"]


def test_many_kinds(place: Place) -> None:
    """Beyond ten kinds the smallest are summed up in one line."""
    for number in range(15):
        place.file(f"data/a.k{number}", f"{number}" * (15 - number))
    place.well("init", "./store")
    place.well("push", "data", "many", "-s", "./store")
    lines = place.well("stat", "many", "-s", "./store").lines
    table = lines[lines.index("") + 1 :]
    assert len(table) == 12
    assert table[-1].split()[:3] == ["5", "others", "5"]


def test_quiet(stocked: Place) -> None:
    """With --quiet the id or name of what is meant is printed."""
    assert len(stocked.well("stat", "-q").text.strip()) == 32
    assert stocked.well("stat", "pets", "-q").text == "pets\n"
    assert len(stocked.well("stat", "pets@1", "-q").text.strip()) == 64


def test_not_found(stocked: Place) -> None:
    """What is not there is answered with the nearest; a path has no sizes of its own."""
    assert "did you mean 'pets'?" in stocked.failing(4, "stat", "pots")
    assert "ls -l pets:cats" in stocked.failing(2, "stat", "pets:cats")
    stocked.well("rm", "pets", "--all", "--yes")
    assert "has no versions" in stocked.failing(4, "stat", "pets")
