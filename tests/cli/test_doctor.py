"""`chunkstore doctor`: is everything as it should be?"""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.conftest import Place


def test_all_is_well(stocked: Place) -> None:
    """Every check is listed with what was found, and the status is 0."""
    lines = stocked.well("doctor").lines
    assert all(line.startswith("ok ") for line in lines)
    names = [line.split()[1] for line in lines]
    assert names[:3] == ["versions", "settings", "store"]
    assert {"storage", "chunker", "index", "latency", "cache"} <= set(names)
    assert "by CHUNKSTORE_STORE" in lines[2]


def test_it_leaves_nothing_behind(stocked: Place) -> None:
    """The objects that it writes to the storage are gone afterwards."""

    def objects() -> set[Path]:
        return {path for path in (stocked.folder / "store").rglob("*") if path.is_file()}

    before = objects()
    stocked.well("doctor")
    assert {path for path in objects() if not path.name.startswith(".")} == {
        path for path in before if not path.name.startswith(".")
    }


def test_json_and_quiet(stocked: Place) -> None:
    """JSON has every check; --quiet names what is not well, here nothing."""
    document = stocked.well("doctor", "--json").document
    assert document["ok"] is True
    assert set(document["checks"][0]) == {"name", "ok", "detail", "hint"}
    assert stocked.well("doctor", "-q").output == b""


def test_without_a_store(place: Place) -> None:
    """Without a store, or with one that is not there, the rest is checked; the status is 1."""
    ended = place.run("doctor")
    assert ended.status == 1
    assert "not ok  store" in ended.text
    assert "hint: give --store" in ended.text
    ended = place.run("doctor", "--store", "./nowhere", "-q")
    assert ended.status == 1
    assert ended.lines == ["store"]


def test_settings_files_are_named(stocked: Place) -> None:
    """The settings files that hold are named, so that a surprise can be found."""
    stocked.well("remote", "add", "lab", "./lab")
    (line,) = [line for line in stocked.well("doctor").lines if line.split()[1] == "settings"]
    assert str(stocked.config) in line
    assert "1 remote" in line


def test_a_cache_that_cannot_be_used(stocked: Place) -> None:
    """A cache folder that cannot be made is no disaster, but told with the remedy."""
    stocked.file("file")
    stocked.variable("CHUNKSTORE_CACHE", str(stocked.folder / "file/cache"))
    ended = stocked.run("doctor")
    assert ended.status == 1
    assert "not ok  cache" in ended.text
    stocked.file("pets/more.txt", "more")
    stocked.well("push", "pets", "pets")


def test_on_a_server(bucket: Place) -> None:
    """A real server is probed, and its speed is told."""
    ended = bucket.well("doctor")
    assert "honours conditional writes" in ended.text
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in ended.text + ended.errors
