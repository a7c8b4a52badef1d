"""A server that ignores conditional writes: noticed, said, and used by one writer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chunkstore import Notice, Store
from chunkstore.backends.base import CreateOnly
from chunkstore.backends.location import open_backend
from chunkstore.errors import AlreadyExistsError, ConditionFailedError, KeyAbsentError
from chunkstore.format.config import SINGLE_WRITER
from chunkstore.testing import servers
from chunkstore.testing.backend_suite import keys_of
from chunkstore.testing.trees import make_tree, tree_state

Seen = tuple[list[object], Callable[[object], None]]


@pytest.fixture(scope="module")
def rclone() -> Iterator[servers.Server]:
    with servers.rclone_s3() as server:
        server.make_bucket("tests")
        yield server


def test_the_probe_finds_it_out(rclone: servers.Server) -> None:
    """Racing writers see that the conditions are ignored, and leave nothing that can be read.

    This server at times goes on listing an object that it no longer has.
    """
    with open_backend(rclone.store_url("tests", "probe"), s3=rclone.options) as backend:
        capabilities = backend.probe()
        assert not capabilities.create_only
        assert not capabilities.replace_if
        assert not capabilities.many_writers
        for key in keys_of(backend):
            with pytest.raises(KeyAbsentError):
                backend.get(key)


def test_a_store_for_one_writer(rclone: servers.Server, tmp_path: Path, events: Seen) -> None:
    """`create` and each push say so; push, pull, tag and a second push work."""
    seen, progress = events
    url, cache = rclone.store_url("tests", "store"), tmp_path / "cache"
    tree = make_tree(tmp_path / "tree", files=12)
    Store.create(url, s3=rclone.options, cache_folder=cache, progress=progress).close()
    notices = [event for event in seen if isinstance(event, Notice)]
    assert len(notices) == 1
    assert "one writer at a time" in notices[0].message
    assert notices[0].hint is not None
    with Store.open(url, s3=rclone.options, cache_folder=cache) as store:
        assert store.config.write_features == {SINGLE_WRITER}
        assert store.push(tree, "data", tags=["first"], progress=progress).version == 1
        assert [e for e in seen if isinstance(e, Notice) and "one writer" in e.message][1:]
        (tree / "new").write_bytes(b"new")
        assert store.push(tree, "data").version == 2
        assert store.push(tree, "data").version is not None
        store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)
    with Store.open(url, s3=rclone.options, cache_folder=tmp_path / "other") as store:
        assert [version.number for version in store.dataset("data").versions] == [1, 2]


def test_conditions_hold_for_one_writer(rclone: servers.Server, tmp_path: Path) -> None:
    """Looking first refuses what the server would have overwritten."""
    url = rclone.store_url("tests", "looking")
    with Store.create(url, s3=rclone.options, cache_folder=tmp_path) as store:
        backend = store._backend
        backend.put("probe/x", [b"first"], CreateOnly())
        with pytest.raises(ConditionFailedError):
            backend.put("probe/x", [b"second"], CreateOnly())
        assert backend.get("probe/x").data == b"first"
    with pytest.raises(AlreadyExistsError):
        Store.create(url, s3=rclone.options, cache_folder=tmp_path)
