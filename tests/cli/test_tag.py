"""`chunkstore tag`: names of versions."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Place


def test_set_and_move(stocked: Place) -> None:
    """A tag names a version wherever one may stand, and moves when it is set again."""
    assert stocked.well("tag", "pets@1", "prod").text == "pets@prod is version 1\n"
    assert stocked.well("cat", "pets@prod:old.txt").output == b"old\n"
    stocked.well("tag", "pets", "prod")
    assert stocked.well("stat", "pets@prod", "--json").document["version"] == 2


def test_list(stocked: Place) -> None:
    """Without a name the tags are listed, latest among them."""
    header, *rows = stocked.well("tag", "pets").lines
    assert header.split()[:2] == ["TAG", "VERSION"]
    assert [row.split()[:2] for row in rows] == [["latest", "2"], ["v2", "2"]]
    assert stocked.well("tag", "pets", "-q").lines == ["latest", "v2"]
    document = stocked.well("tag", "pets", "--json").document
    assert [tag["tag"] for tag in document["tags"]] == ["latest", "v2"]


def test_delete(stocked: Place) -> None:
    """A tag goes, its version stays; one that is not there is answered with the nearest."""
    stocked.well("tag", "pets", "prod")
    assert "did you mean 'prod'?" in stocked.failing(4, "tag", "pets", "prodd", "--delete")
    assert "the version stays" in stocked.well("tag", "--delete", "pets", "prod").text
    assert stocked.well("tag", "pets", "-q").lines == ["latest", "v2"]
    stocked.well("ls", "pets@2")


def test_json_and_quiet(stocked: Place) -> None:
    """Each form has its JSON, and its one id."""
    document = stocked.well("tag", "pets@1", "a", "--json").document
    assert (document["dataset"], document["version"], document["tag"]) == ("pets", 1, "a")
    assert stocked.well("tag", "pets@1", "b", "-q").text.strip() == document["manifest"]
    gone = stocked.well("tag", "pets", "b", "--delete", "--json").document
    assert gone == {"dataset": "pets", "tag": "b", "deleted": True}


@pytest.mark.parametrize("name", ["latest", "7", "abcdef", "A b", "", "x" * 202, "a@b", "a:b"])
def test_invalid_names(stocked: Place, name: str) -> None:
    """A name that means something else already, or can be none, is refused."""
    assert stocked.run("tag", "pets@1", name).status == 2
    assert stocked.well("tag", "pets", "-q").lines == ["latest", "v2"]


def test_slips(stocked: Place) -> None:
    """Half a command is answered with the whole one."""
    assert "chunkstore tag pets@2 NAME" in stocked.failing(2, "tag", "pets@2")
    assert "tag --delete pets NAME" in stocked.failing(2, "tag", "pets", "--delete")
    assert "leave out the version" in stocked.failing(2, "tag", "--delete", "pets@2", "v2")
    assert "names a whole version" in stocked.run("tag", "pets:cats", "x").errors
    assert "versions 1 to 2" in stocked.failing(4, "tag", "pets@5", "x")
