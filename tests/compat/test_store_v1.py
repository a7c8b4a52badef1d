"""Stores that older chunkstores wrote are read for ever, and go on being written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from chunkstore import ChunkstoreError, Store
from chunkstore.format.config import ChunkerSpec
from chunkstore.format.index import decode_segment
from chunkstore.format.pack import Codec, check_header, decode_directory, decode_trailer
from chunkstore.ids import ChunkKind
from chunkstore.testing.trees import hash_of
from tests.compat import make_store

DATA = Path(__file__).parents[1] / "data"
V1 = DATA / "store-v1"
EXPECTED: dict[str, Any] = json.loads((DATA / "store-v1.json").read_text("utf-8"))
VERSIONS = [
    (name, version) for name, versions in EXPECTED["datasets"].items() for version in versions
]
DATASETS = {name: len(versions) for name, versions in EXPECTED["datasets"].items()}


@pytest.fixture
def v1(tmp_path: Path) -> Iterator[Store]:
    """The kept store itself: who only reads writes nothing."""
    before = state(V1)
    with Store.open(str(V1), cache_folder=tmp_path / "cache") as store:
        yield store
    assert state(V1) == before


def state(root: Path) -> dict[str, tuple[int, str]]:
    """Return length and hash of every file below `root`."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_size, hash_of(path)) for path in files}


def test_its_config_says_what_it_is(v1: Store) -> None:
    """Store id, chunker and sizes are those that it was made with."""
    assert v1.config.store_id.hex() == EXPECTED["store_id"]
    assert v1.config.chunker == make_store.CHUNKER
    assert v1.config.frame_size == make_store.FRAME_SIZE
    assert v1.config.chunker == ChunkerSpec(
        name="fastcdc", min_size=1024, avg_size=2048, max_size=4096
    )


def test_its_log_and_tags_are_read(v1: Store) -> None:
    """Datasets, versions, messages, times, totals and tags come back as they were."""
    assert v1.datasets() == sorted(DATASETS)
    for name, versions in EXPECTED["datasets"].items():
        found = v1.dataset(name).versions
        assert len(found) == len(versions)
        for version, wanted in zip(found, versions, strict=True):
            values = dataclasses.asdict(version)
            values["manifest_id"] = version.manifest_id.hex()
            values["tags"] = list(version.tags)
            assert values == {name: wanted[name] for name in values}
    assert v1.version("kinds@first").number == 1
    assert v1.version("kinds@stable/2").number == 2


@pytest.mark.parametrize(
    ("name", "version"), VERSIONS, ids=[f"{name}@{v['number']}" for name, v in VERSIONS]
)
def test_every_file_has_its_bytes(
    v1: Store, tmp_path: Path, name: str, version: dict[str, Any]
) -> None:
    """Entries, times, targets and the content of each file are those that were pushed."""
    rows = make_store.entry_rows(v1, f"{name}@{version['number']}", tmp_path / "out")
    assert rows[: len(version["entries"])] == version["entries"]
    assert len(rows) == version["files"]
    assert make_store.digest_of(rows) == version["entries_sha256"]


def test_its_files_are_those_of_the_script(v1: Store) -> None:
    """The description was not taken from a reader that was wrong the same way."""
    for path, data in make_store.first_tree():
        with v1.open_file(f"kinds@1:{path}") as file:
            assert file.read() == data
        row = next(r for r in EXPECTED["datasets"]["kinds"][0]["entries"] if r[0] == path)
        assert (row[5], row[8]) == (len(data), sha256(data).hexdigest())


def test_it_is_pulled_whole(v1: Store, tmp_path: Path) -> None:
    """A pull makes the tree with its modes, times, links and empty folder."""
    v1.pull("kinds@first", tmp_path / "out")
    for path, data in make_store.first_tree():
        assert (tmp_path / "out" / path).read_bytes() == data
    for path, kind, executable, mtime, target, *_ in EXPECTED["datasets"]["kinds"][0]["entries"]:
        where = tmp_path / "out" / path
        if kind == "file":
            assert os.access(where, os.X_OK) == executable
            assert where.stat().st_mtime_ns == mtime
        elif kind == "link":
            assert os.readlink(where) == target
        else:
            assert list(where.iterdir()) == []


def test_it_holds_every_kind_of_thing(v1: Store) -> None:
    """Otherwise the tests above would prove less than they say."""
    kinds: set[int] = set()
    codecs: set[int] = set()
    for pack in V1.glob("packs/*/*"):
        data = pack.read_bytes()
        check_header(data, pack.name)
        offset, _, _ = decode_trailer(data[-44:], len(data), pack.name)
        directory = decode_directory(data[offset:], offset, pack.name)
        kinds |= set(directory.kinds.tolist())
        codecs |= set(directory.frame_codecs.tolist())
    assert kinds == set(ChunkKind)
    assert codecs == set(Codec)
    assert sum(path.stat().st_size for path in V1.rglob("*") if path.is_file()) < 300_000
    entries = [row for _, version in VERSIONS for row in version["entries"]]
    assert {row[1] for row in entries} == {"file", "folder", "link"}
    assert {row[6] for row in entries} == {0, 1}
    assert any(row[2] for row in entries)
    assert any(not row[0].isascii() for row in entries)
    for path in V1.glob("index/*"):
        decode_segment(path.read_bytes(), path.name)


def test_it_goes_on_being_written(tmp_path: Path) -> None:
    """Today's writer adds a version to it, finds its chunks, and harms no older one."""
    shutil.copytree(V1, tmp_path / "store")
    with Store.open(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        tree = tmp_path / "tree"
        store.pull("kinds@2", tree)
        (tree / "new.txt").write_bytes(make_store.lines(3))
        result = store.push(tree, "kinds")
        assert (result.version, result.stats.new_files) == (3, 1)
        assert result.stats.new_bytes == len(make_store.lines(3))
        for number, (name, version) in enumerate(VERSIONS):
            address = f"{name}@{version['number']}"
            rows = make_store.entry_rows(store, address, tmp_path / str(number))
            assert make_store.digest_of(rows) == version["entries_sha256"]


def test_a_store_that_is_kept_is_never_made_anew() -> None:
    """The script refuses a folder that exists."""
    before = state(V1)
    with pytest.raises(SystemExit):
        make_store.main(V1)
    assert state(V1) == before


def test_damage_in_it_is_seen(tmp_path: Path) -> None:
    """A flipped bit in any object of a copy gives an error or the right bytes, never others."""
    wanted = EXPECTED["datasets"]["kinds"][0]["entries_sha256"]
    for number, path in enumerate(sorted(p for p in V1.rglob("*") if p.is_file())):
        root = tmp_path / str(number)
        shutil.copytree(V1, root / "store")
        bad = root / "store" / path.relative_to(V1)
        data = bytearray(bad.read_bytes())
        data[len(data) // 2] ^= 1
        bad.unlink()
        bad.write_bytes(data)
        try:
            with Store.open(str(root / "store"), cache_folder=root / "cache") as store:
                rows = make_store.entry_rows(store, "kinds@1", root / "out")
        except ChunkstoreError:
            continue
        assert make_store.digest_of(rows) == wanted
