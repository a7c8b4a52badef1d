"""Arguments that would be misread are refused, and events count what was asked for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkstore import ChunkstoreError, InvalidInputError, Item, NotFoundError, Progress, Store


def test_an_unknown_policy_for_links_is_refused(store: Store, tree: Path, tmp_path: Path) -> None:
    """A misspelt policy never makes links that lead out."""
    store.push(tree, "data")
    with pytest.raises(InvalidInputError) as raised:
        store.pull("data", tmp_path / "out", links="insid")  # type: ignore[arg-type]
    assert "'inside'" in str(raised.value.hint)
    assert not (tmp_path / "out").exists()


def test_status_knows_no_version_of_no_dataset(store: Store, tree: Path) -> None:
    """A dataset that is yet to come counts as empty, but it has no version 5 and no tag."""
    assert store.status(tree, "unborn").version is None
    for version in ("5", "~1", "prod"):
        with pytest.raises(NotFoundError):
            store.status(tree, f"unborn@{version}")


def test_the_progress_of_a_part_has_no_totals(store: Store, tree: Path, tmp_path: Path) -> None:
    """Totals are those of what is pulled, or None; never those of the whole version."""
    store.push(tree, "data")
    for options in ({"include": ["run.sh"]}, {}):
        events: list[object] = []
        store.pull(
            "data" if options else "data:run.sh",
            tmp_path / str(len(options)),
            progress=events.append,
            **options,
        )
        seen = [event for event in events if isinstance(event, Progress)]
        assert {(event.total_bytes, event.total_files) for event in seen} == {(None, None)}


def test_a_removed_file_is_told_with_its_size(store: Store, tree: Path, tmp_path: Path) -> None:
    """The event of a file that a pull removes says how large it was."""
    store.push(tree, "data")
    store.pull("data", tmp_path / "out")
    (tmp_path / "out" / "more").mkdir()
    (tmp_path / "out" / "more" / "x").write_bytes(b"12345")
    for dry_run in (True, False):
        events: list[object] = []
        store.pull("data", tmp_path / "out", delete=True, dry_run=dry_run, progress=events.append)
        removed = [e for e in events if isinstance(e, Item) and e.action == "removed"]
        assert [(item.path, item.size) for item in removed] == [("more/x", 5)]


def _kinds(kind: type[ChunkstoreError]) -> Iterator[type[ChunkstoreError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def test_errors_come_out_of_other_processes(store: Store) -> None:
    """Every error is pickled whole, whatever it is made with; a store says why it is not."""
    kinds = set(_kinds(ChunkstoreError))
    assert len(kinds) > 15
    for kind in kinds:
        error = kind.__new__(kind, "what failed")
        vars(error).update(message="what failed", hint="what to do", operation="put", key=None)
        error.add_note("and where")
        found = pickle.loads(pickle.dumps(error))
        assert type(found) is kind
        assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
    with pytest.raises(TypeError, match="open it in each process"):
        pickle.dumps(store)


def test_a_dataset_that_lost_all_versions_does_not_offer_itself(store: Store, tree: Path) -> None:
    """The hint for a dataset without versions never names that dataset."""
    store.push(tree, "data")
    store.remove("data", [1])
    with pytest.raises(NotFoundError) as raised:
        store.version("data")
    assert "'data'" not in str(raised.value.hint)
