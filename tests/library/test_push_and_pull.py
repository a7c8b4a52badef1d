"""What a push takes a pull gives back, and neither moves what is already there."""

from __future__ import annotations

import io
import os
import random
import shutil
from pathlib import Path

import pytest

from chunkstore import ConflictError, InvalidInputError, Item, NotFoundError, Store
from chunkstore.testing.trees import hash_of, make_tree, random_bytes, tree_state
from tests.conftest import Place


def test_a_pulled_tree_is_the_pushed_one(place: Place, tree: Path, tmp_path: Path) -> None:
    """Files, modes, times, links and empty folders come back, on every storage."""
    with place.create() as store:
        pushed = store.push(tree, "data", message="first", tags=["good"])
        pulled = store.pull("data@good", tmp_path / "out")
        assert tree_state(tmp_path / "out") == tree_state(tree)
        assert (pushed.version, pulled.version) == (1, 1)
        assert pulled.stats.files == pushed.stats.files == store.version("data").files
        assert pulled.stats.size == pushed.stats.size
        assert pushed.stats.sent_bytes >= pushed.stats.stored_bytes > 0


def test_an_unchanged_tree_makes_no_version_and_sends_nothing(place: Place, tree: Path) -> None:
    """Neither the same machine nor one without caches makes a second version."""
    with place.create() as store:
        store.push(tree, "data")
        for cache in ("cache", "other-cache"):
            with place.open(cache=tree.parent / cache) as again:
                result = again.push(tree, "data")
            assert result.unchanged
            assert result.version == 1
            assert result.stats.sent_bytes == result.stats.stored_bytes == 0
        assert len(store.dataset("data").versions) == 1


def test_new_times_alone_make_no_version(store: Store, tmp_path: Path) -> None:
    """A fresh check-out of 10,000 files, the same but for their times, is unchanged."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(10_000):
        (root / f"{number:05}").write_bytes(b"%d" % number)
    store.push(root, "many")
    for path in root.iterdir():
        os.utime(path, (1, 1))
    result = store.push(root, "many")
    assert result.unchanged
    assert result.stats.sent_bytes == 0


def test_renamed_moved_and_copied_files_send_no_data(store: Store, tree: Path) -> None:
    """What has the same bytes is never stored again, whatever its name."""
    store.push(tree, "data")
    os.rename(tree / "train", tree / "moved")
    shutil.copy(next(tree.glob("file-*.bin")), tree / "copy.bin")
    result = store.push(tree, "data")
    assert result.version == 2
    assert result.stats.new_bytes == 0
    assert result.stats.sent_bytes < 20_000  # the manifest


@pytest.mark.parametrize("where", ["start", "middle", "end", "inserted"])
def test_a_small_edit_moves_little_both_ways(store: Store, tmp_path: Path, where: str) -> None:
    """One byte changed or inserted in 100 MB sends and fetches a chunk or two and a page."""
    tree, old = tmp_path / "tree", tmp_path / "old"
    tree.mkdir()
    data = bytearray(random_bytes(100_000_000, 5))
    (tree / "big").write_bytes(data)
    store.push(tree, "data")
    store.pull("data", old)
    if where == "inserted":
        data[50_000_000:50_000_000] = b"!"
    else:
        data[{"start": 0, "middle": 50_000_000, "end": -1}[where]] ^= 1
    (tree / "big").write_bytes(data)
    pushed = store.push(tree, "data")
    assert pushed.stats.new_bytes < 1_000_000
    assert pushed.stats.sent_bytes < 1_200_000
    pulled = store.pull("data", old)
    assert tree_state(old) == tree_state(tree)
    assert pulled.stats.fetched_bytes < 2_000_000
    assert pulled.stats.reused_bytes > 99_000_000


def test_a_pull_over_the_same_files_fetches_no_data(store: Store, tree: Path) -> None:
    """Identical files are recognised by their bytes and get the version's mode and time."""
    store.push(tree, "data")
    state = tree_state(tree)
    victim = next(tree.glob("file-*.bin"))
    os.utime(victim, (5, 5))
    os.chmod(tree / "run.sh", 0o644)
    result = store.pull("data", tree)
    assert result.stats.written_bytes == 0
    assert result.stats.reused_bytes == result.stats.size
    assert tree_state(tree) == state


def test_a_damaged_copy_is_mended(store: Store, tree: Path, tmp_path: Path) -> None:
    """A pull believes bytes, not sizes and times."""
    store.push(tree, "data")
    store.pull("data", tmp_path / "out")
    victim = max((p for p in (tmp_path / "out").rglob("*.bin")), key=lambda p: p.stat().st_size)
    status = victim.stat()
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(data)
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    store.pull("data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_pull_leaves_other_files_unless_told_to_delete(
    store: Store, tree: Path, tmp_path: Path
) -> None:
    """Without --delete nothing of the target's own goes; with it the target equals the version."""
    store.push(tree, "data")
    out = tmp_path / "out"
    make_tree(out, seed=9, files=3)
    (out / "mine" / "deep").mkdir(parents=True)
    (out / "mine" / "deep" / "file").write_text("mine")
    store.pull("data", out)
    assert (out / "mine" / "deep" / "file").read_text() == "mine"
    result = store.pull("data", out, delete=True)
    assert tree_state(out) == tree_state(tree)
    assert result.stats.deleted > 0


def test_patterns_choose_what_takes_part(store: Store, tree: Path, tmp_path: Path) -> None:
    """Include and exclude have gitignore's syntax, for push, pull and delete alike."""
    (tree / ".chunkstoreignore").write_text("*.log\n!keep.log\n/secret/\n")
    (tree / "a.log").write_text("no")
    (tree / "keep.log").write_text("yes")
    (tree / "secret").mkdir()
    (tree / "secret" / "key").write_text("no")
    store.push(tree, "data", exclude=["test/"])
    paths = {entry.path for entry in store.entries("data")}
    assert "keep.log" in paths
    assert not {"a.log", "secret/key"} & paths
    assert not any(path.startswith("test/") for path in paths)
    assert any(path.startswith("test-b/") for path in paths)
    store.pull("data", tmp_path / "out", include=["train/**"], exclude=["*-001.bin"])
    pulled = [path for path in tree_state(tmp_path / "out") if (tmp_path / "out" / path).is_file()]
    assert pulled
    assert all(path.startswith("train/") and "-001" not in path for path in pulled)


def test_a_folder_and_a_file_of_a_version(store: Store, tree: Path, tmp_path: Path) -> None:
    """A path after the colon restores just that; a file goes where `cp` would put it."""
    store.push(tree, "data")
    store.pull("data:train", tmp_path / "train")
    expected = {k: v for k, v in tree_state(tree / "train").items() if k != "up"}
    state = tree_state(tmp_path / "train")
    state.pop("up", None)
    assert state == expected
    store.pull("data:run.sh", tmp_path / "copied.sh")
    assert (tmp_path / "copied.sh").read_bytes() == (tree / "run.sh").read_bytes()
    (tmp_path / "folder").mkdir()
    store.pull("data:run.sh", tmp_path / "folder")
    assert hash_of(tmp_path / "folder" / "run.sh") == hash_of(tree / "run.sh")
    with pytest.raises(NotFoundError, match=r"run\.shh"):
        store.pull("data:run.shh", tmp_path / "folder")


def test_a_stream_becomes_a_file(store: Store) -> None:
    """A stream of any length, even none, is pushed under its name."""
    for size in (0, 10, 5_000_000, 30_000_000):
        data = random_bytes(size, size)
        store.push(io.BytesIO(data), "logs", name="day/today.log")
        with store.open_file("logs:day/today.log") as file:
            assert file.read() == data
    with pytest.raises(InvalidInputError, match="name"):
        store.push(io.BytesIO(b""), "logs")


def test_random_reads_give_the_file_s_bytes(store: Store, tmp_path: Path) -> None:
    """Seek and read behave as on the file itself, at every kind of boundary."""
    data = random_bytes(20_000_000, 3)
    (tmp_path / "file").write_bytes(data)
    store.push(tmp_path / "file", "data")
    source = random.Random(4)
    with store.open_file("data:file") as file:
        for _ in range(200):
            start = source.choice([0, len(data), source.randrange(len(data))])
            length = source.choice([0, 1, 4096, 70_000, 5_000_000])
            file.seek(start)
            assert file.read(length) == data[start : start + length]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
    content = store.file_content("data:file")
    assert b"".join(content.blocks(100, 15_000_000)) == data[100:15_000_000]


def test_versions_tags_and_their_names(store: Store, tree: Path) -> None:
    """A version is found by number, tag, latest, ~N and manifest id; dropped ones stay dropped."""
    for number in range(1, 5):
        (tree / "counter").write_text(str(number))
        assert store.push(tree, "data", message=f"v{number}").version == number
    store.tag("data@2", "prod")
    assert store.version("data@prod").number == 2
    assert store.version("data").number == 4
    assert store.version("data@~1").number == 3
    prefix = store.version("data@1").manifest_id.hex()[:10]
    assert store.version(f"data@{prefix}").number == 1
    store.tag("data@3", "prod")
    assert store.version("data@prod").tags == ("prod",)
    assert [version.number for version in store.remove("data", [1, 4])] == [1, 4]
    assert [version.number for version in store.dataset("data").versions] == [2, 3]
    (tree / "counter").write_text("5")
    assert store.push(tree, "data").version == 5
    with pytest.raises(NotFoundError):
        store.version("data@4")
    with pytest.raises(ConflictError, match="expected"):
        store.push(tree, "data", expect="3")
    store.untag("data", "prod")
    with pytest.raises(NotFoundError, match="prod"):
        store.version("data@prod")


def test_a_diff_names_what_differs(store: Store, tree: Path) -> None:
    """Added, removed and modified paths, and nothing else."""
    store.push(tree, "data")
    victims = sorted(tree.rglob("*.bin"))
    victims[0].write_bytes(b"changed")
    victims[1].unlink()
    (tree / "new").write_text("new")
    store.push(tree, "data")
    changes = {change.path: change.kind for change in store.diff("data@1", "data@2")}
    names = [str(victim.relative_to(tree)) for victim in victims[:2]]
    assert changes == {names[0]: "modified", names[1]: "removed", "new": "added"}
    assert list(store.diff("data@2", "data@2")) == []


def test_status_and_dry_runs_change_nothing(store: Store, tree: Path, tmp_path: Path) -> None:
    """They say what would happen; store and target stay as they are."""
    store.push(tree, "data")
    (tree / "new").write_bytes(random_bytes(200_000, 8))
    (tree / "run.sh").unlink()
    before = sorted(p for p in Path(store.url).rglob("*"))
    status = store.status(tree, "data")
    assert ("added", "new", 200_000) in status.changes
    assert ("removed", "run.sh") in [change[:2] for change in status.changes]
    assert status.stats.new_bytes == 200_000
    result = store.push(tree, "data", dry_run=True)
    assert result.version is None
    assert result.stats.new_bytes == 200_000
    pulled = store.pull("data", tmp_path / "out", dry_run=True)
    assert pulled.stats.written_bytes == pulled.stats.size
    assert not (tmp_path / "out").exists()
    assert sorted(p for p in Path(store.url).rglob("*")) == before


def test_events_tell_what_happens(store: Store, tree: Path) -> None:
    """Every new path is named once, and the last Progress has the totals."""
    seen: list[object] = []
    result = store.push(tree, "data", progress=seen.append)
    items = [event for event in seen if isinstance(event, Item)]
    assert len(items) == result.stats.files
    assert {item.action for item in items} == {"added"}
    last = seen[-1]
    assert getattr(last, "done_bytes", None) == result.stats.size


def test_a_long_list_of_chunks_is_stored_in_lists(local: Place, tmp_path: Path) -> None:
    """A file of more than 4,096 chunks goes in and out, and an edit makes few new lists."""
    from chunkstore import ChunkerSpec

    spec = ChunkerSpec(min_size=1024, avg_size=4096, max_size=16384)
    data = bytearray(random_bytes(60_000_000, 11))
    (tmp_path / "file").write_bytes(data)
    with local.create(chunker=spec) as store:
        store.push(tmp_path / "file", "data")
        (entry,) = store.entries("data")
        assert entry.blob.depth == 1
        with store.open_file("data:file") as file:
            file.seek(40_000_000)
            assert file.read(1000) == data[40_000_000:40_001_000]
        data[30_000_000] ^= 1
        (tmp_path / "file").write_bytes(data)
        assert store.push(tmp_path / "file", "data").stats.sent_bytes < 200_000
        store.pull("data:file", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
        assert store.push(tmp_path / "file", "data").unchanged
