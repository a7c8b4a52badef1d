"""Pages that are taken over: the same as a push that knows nothing from before, at no risk."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
from pathlib import Path

import pytest

from chunkstore import Item, PushResult, Store
from chunkstore.backends.base import CreateOnly
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ChunkIndex
from chunkstore.events import Event
from chunkstore.format.manifest import Manifest
from chunkstore.objects import Objects
from chunkstore.reader import Reader
from chunkstore.testing.trees import random_bytes
from tests.faults import worlds
from tests.faults.test_collected_meanwhile import condemn

NAMES = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "c/") for name in "klmnopqrstuv"]


@pytest.fixture(autouse=True)
def many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small trees have many pages, and files count as settled: ctime cannot be set back."""
    monkeypatch.setattr("chunkstore.filestate._SETTLED_NS", -3_600_000_000_000)
    monkeypatch.setattr("chunkstore.format.manifest.PAGE_TARGET", 600)
    monkeypatch.setattr("chunkstore.pager.INLINE_PAGES", 1000)


def manifest_of(backend: MemoryBackend, dataset: str) -> Manifest | None:
    objects = Objects(backend)
    stored = objects.get_ref(dataset)
    return None if stored is None else objects.get_manifest(stored.ref.versions[-1].manifest_id)


def check_hints(backend: MemoryBackend, dataset: str) -> None:
    """The packs that a version's pages name hold all that it needs: no index is asked."""

    def no_index() -> ChunkIndex:
        raise AssertionError("a hint is missing")

    manifest = manifest_of(backend, dataset)
    assert manifest is not None
    reader = Reader(Objects(backend), no_index)
    paths = [path for path, _ in worlds.files_of(reader, manifest)]
    assert len(paths) == manifest.files
    for ref in manifest.pages:
        for pack in ref.packs:
            assert manifest.packs[pack].length > 0


class Pusher:
    """A store that one pusher has to himself."""

    def __init__(self, cache: Path | None) -> None:
        self.backend = MemoryBackend()
        worlds.new_store(self.backend)
        self.store = worlds.open_store(self.backend, cache)

    def push(self, folder: Path, dataset: str, **options: object) -> tuple[PushResult, list[Event]]:
        """Return what came out, without what no two pushes share, and the paths that were told."""
        events: list[Event] = []
        result = self.store.push(
            folder,
            dataset,
            progress=lambda event: events.append(event) if isinstance(event, Item) else None,
            **options,  # type: ignore[arg-type]  # as given
        )
        stats = dataclasses.replace(result.stats, seconds=0)
        if result.unchanged:  # what was on its way was thrown away, compressed or not yet
            stats = dataclasses.replace(stats, kinds=())
        return dataclasses.replace(result, manifest_id=None, stats=stats), events


def edit(folder: Path, source: random.Random) -> None:
    """Do one of the things that happen to a file."""
    path = folder / source.choice(NAMES)
    what = source.choice("wwwwdddmtxlfno")
    path.parent.mkdir(parents=True, exist_ok=True)
    there = os.path.lexists(path)
    if there and not path.is_symlink() and path.is_dir():
        shutil.rmtree(path)
        there = False
    if what in "dlf" and there:
        path.unlink()
    if what in "mtx" and not (there and path.is_file()):
        return
    if what == "w":  # the content of a few seeds, so that some come back
        if path.is_symlink():
            path.unlink()
        path.write_bytes(random_bytes(source.choice([0, 1, 700, 6000]), source.randrange(6)))
    elif what == "m":
        os.utime(path, ns=(1, source.randrange(1 << 60)))
    elif what == "t":
        path.touch()
    elif what == "x":
        path.chmod(path.stat().st_mode ^ 0o100)
    elif what == "l":
        path.symlink_to(source.choice("xyz"))
    elif what == "f":
        path.mkdir()
    elif what == "n":
        (folder / f"{source.choice(NAMES)}.tmp").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{source.choice(NAMES[:12])}.tmp").write_bytes(b"left out at times")


def damage(cache: Path, source: random.Random) -> None:
    """Change a byte of a file-state cache, or cut it off."""
    files = sorted(path for path in cache.rglob("files/*") if path.is_file())
    if files:
        path = source.choice(files)
        data = bytearray(path.read_bytes())
        at = source.randrange(len(data))
        data[at] ^= 1 + source.randrange(255)
        path.write_bytes(data[: at + source.choice([0, len(data)])])


@pytest.mark.parametrize("seed", range(12))
def test_a_push_with_a_memory_equals_one_without(tmp_path: Path, seed: int) -> None:
    """After any edits: the same pages, totals, sizes and events, byte for byte.

    Two folders and two datasets in turn, with patterns and without, dry runs between, and caches
    that are damaged at times.
    """
    source = random.Random(seed)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        for _ in range(40):
            edit(folder, source)
    knowing, forgetful = Pusher(tmp_path / "cache"), Pusher(None)
    for _ in range(25):
        folder = source.choice([*folders[:1] * 4, folders[1]])
        dataset = source.choice(["data", "data", "data", "other"])
        exclude = source.choice([[], [], [], ["*.tmp"], ["a/b"]])
        for _ in range(source.choice([0, 0, 1, 1, 2, 10])):
            edit(folder, source)
        if source.random() < 0.1:
            damage(tmp_path / "cache", source)
        for dry_run in (True, False) if source.random() < 0.3 else (False,):
            results = [
                pusher.push(folder, dataset, exclude=exclude, dry_run=dry_run, skip_unreadable=True)
                for pusher in (knowing, forgetful)
            ]
            (ours, our_events), (theirs, their_events) = results
            assert our_events == their_events
            assert ours == theirs
        mine, other = (manifest_of(pusher.backend, dataset) for pusher in (knowing, forgetful))
        assert mine is not None
        assert other is not None
        assert [page._replace(packs=()) for page in mine.pages] == [
            page._replace(packs=()) for page in other.pages
        ]
        assert (mine.files, mine.size) == (other.files, other.size)
        assert mine.new_bytes == other.new_bytes
        assert len(mine.packs) == len(other.packs)
        check_hints(knowing.backend, dataset)
    assert worlds.observe(knowing.backend) == worlds.observe(forgetful.backend)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """200 files in 20 folders: some twenty pages."""
    root = tmp_path / "tree"
    for number in range(200):
        path = root / f"d{number % 20:02}" / f"f{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(500, number))
    return root


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the parent's pages that pushes decode."""
    numbers: list[int] = []
    real = Reader.page

    def counting(self: Reader, manifest: Manifest, number: int) -> object:
        numbers.append(number)
        return real(self, manifest, number)

    monkeypatch.setattr(Reader, "page", counting)
    return numbers


def test_only_pages_with_changes_are_decoded(
    tmp_path: Path, tree: Path, decoded: list[int]
) -> None:
    """An unchanged tree decodes nothing; an edit, a new and a missing file only their pages."""
    pusher = Pusher(tmp_path / "cache")
    pusher.push(tree, "data")
    manifest = manifest_of(pusher.backend, "data")
    assert manifest is not None
    assert len(manifest.pages) > 15
    assert pusher.push(tree, "data")[0].unchanged
    assert pusher.push(tree, "other")[0].version == 1
    assert pusher.push(tree, "other")[0].unchanged
    assert decoded == []
    (tree / "d10" / "f010").write_text("edited")
    assert pusher.push(tree, "data")[0].stats.new_files == 1
    assert 1 <= len(decoded) <= 2
    decoded.clear()
    (tree / "d05" / "new").write_text("new")
    (tree / "d15" / "f015").unlink()
    result, events = pusher.push(tree, "data")
    assert [event.path for event in events if isinstance(event, Item)] == ["d05/new", "d15/f015"]
    assert result.stats.files == 200
    assert 2 <= len(decoded) <= 4
    decoded.clear()
    assert pusher.push(tree, "data")[0].unchanged
    assert decoded == []


def test_files_that_may_change_without_a_trace_keep_their_page_from_being_taken(
    tmp_path: Path, tree: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed within the grain of the clock is read again, and with it its page decoded."""
    pusher = Pusher(tmp_path / "cache")
    monkeypatch.setattr("chunkstore.filestate._SETTLED_NS", 3_600_000_000_000)
    pusher.push(tree, "data")
    assert pusher.push(tree, "data")[0].unchanged
    manifest = manifest_of(pusher.backend, "data")
    assert manifest is not None
    assert decoded == list(range(len(manifest.pages)))


@pytest.mark.parametrize("how", ["condemned", "deleted", "of another length"])
def test_a_page_whose_packs_are_gone_is_not_taken_over(
    tmp_path: Path, tree: Path, how: str
) -> None:
    """What the view does not hold is stored again, though the folder has not changed."""
    pusher = Pusher(tmp_path / "cache")
    pusher.push(tree, "data")
    backend = pusher.backend
    before = frozenset(dict(Objects(backend).list_packs()))
    keys = [info.key for info in sorted(backend.list("packs/"), key=lambda info: -info.length)]
    data = backend.get(keys[0]).data
    if how == "condemned":
        condemn(backend, before)
    else:
        backend.delete(keys[:1])
    if how == "of another length":
        backend.put(keys[0], [data, b"!"], CreateOnly())
    (tree / "new").write_bytes(b"x" * 100)
    result = pusher.push(tree, "data")[0]
    assert result.version == 2
    if how == "condemned":
        assert result.stats.new_bytes == 200 * 500 + 100
        manifest = manifest_of(backend, "data")
        assert manifest is not None
        assert not {hint.pack_id for hint in manifest.packs} & before
        backend.delete(keys)
    else:
        assert 10_000 < result.stats.new_bytes < 200 * 500
    check_hints(backend, "data")
    assert pusher.push(tree, "data")[0].unchanged


def test_a_push_without_the_cache_of_the_other_machine_is_not_misled(
    tmp_path: Path, tree: Path
) -> None:
    """Two machines push their own folders to one dataset in turn; each keeps its own memory."""
    one = Pusher(tmp_path / "cache")
    two = worlds.open_store(one.backend, tmp_path / "cache-2")
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    for number in range(6):
        mine: tuple[Store, Path] = (one.store, tree) if number % 2 else (two, copy)
        (mine[1] / "d07" / f"own-{number}").write_bytes(random_bytes(50, number))
        assert mine[0].push(mine[1], "data").version == number + 1
        mine[0].pull("data", tmp_path / f"out-{number}")
        names = {str(path.relative_to(mine[1])) for path in mine[1].rglob("*")}
        out = tmp_path / f"out-{number}"
        assert {str(path.relative_to(out)) for path in out.rglob("*")} == names
