"""The file-state cache: what it remembers, and what it does with a damaged memory."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from chunkstore.filestate import FileStates, Needed
from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.ids import ChunkId, FileHash, PackId
from chunkstore.walk import FileState, state_of

STATES = {
    f"f{n:03}": (FileState(n, 2 * n, 3 * n, 4 * n, n % 3 == 0), FileHash(bytes([n]) * 32))
    for n in range(50)
}
RIGHT = {name: file_hash for name, (_, file_hash) in STATES.items()}
PACKS = [PackId(bytes([200 + n]) * 32) for n in range(3)]
PAGE_ENTRIES = 10


def entry_of(name: str, file_hash: FileHash) -> Entry:
    return Entry(name, EntryKind.FILE, file_hash=file_hash)


def page_id(number: int) -> ChunkId:
    return ChunkId(bytes([100 + number]) * 32)


def needed_by(number: int) -> Needed:
    return Needed(PACKS[2] if number % 2 else None, tuple(PACKS[: number % 3]))


def write(path: Path) -> FileStates:
    """Keep the 50 files of STATES as five pages; `finish` is left to the caller."""
    states = FileStates(str(path))
    for number, (name, (state, file_hash)) in enumerate(STATES.items(), start=1):
        states.keep(entry_of(name, file_hash), state)
        if number % PAGE_ENTRIES == 0:
            page = number // PAGE_ENTRIES - 1
            states.end_page(page_id(page), PAGE_ENTRIES, 1000 + page, 500 + page, page != 4)
    return states


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with the 50 files of STATES."""
    path = tmp_path / "files" / "cache"
    write(path).finish([needed_by(number) for number in range(5)])
    return path


def asked(path: Path | None) -> dict[str, FileHash | None]:
    """Return what a new look at the cache says of each file."""
    states = FileStates(str(path) if path else None)
    found = {name: states.hash_of(name, state) for name, (state, _) in STATES.items()}
    states.discard()
    return found


def test_what_was_kept_is_known(cache: Path) -> None:
    """After `finish` every file with the same state has its hash."""
    assert asked(cache) == RIGHT
    assert os.listdir(cache.parent) == ["cache"]


def test_pages_are_known_with_what_they_need(cache: Path) -> None:
    """After `finish` every page is there, with its packs and what was seen of its entries."""
    states = FileStates(str(cache))
    names = list(STATES)
    for number, page in enumerate(states.pages):
        mine = names[number * PAGE_ENTRIES : (number + 1) * PAGE_ENTRIES]
        assert (page.page_id, page.first_path) == (page_id(number), mine[0])
        assert (page.entries, page.size, page.length) == (10, 1000 + number, 500 + number)
        assert page.ends == (number != 4)
        assert page.needed == needed_by(number)
        found = states.entries_of(page)
        assert found is not None
        assert found.paths == tuple(mine)
        assert found.seen == tuple(STATES[name][0] for name in mine)
    assert number == 4


def test_what_links_and_folders_show_is_kept(tmp_path: Path) -> None:
    """Of a link that is its target, of an empty folder nothing."""
    states = FileStates(str(tmp_path / "cache"))
    states.keep(Entry("a", EntryKind.LINK, target="b"), None)
    states.keep(Entry("c/", EntryKind.FOLDER), None)
    states.end_page(page_id(0), 2, 0, 100, ends=False)
    states.finish([Needed(None, ())])
    states = FileStates(str(tmp_path / "cache"))
    found = states.entries_of(states.pages[0])
    assert found is not None
    assert list(zip(found.paths, found.seen, strict=True)) == [("a", "b"), ("c/", "")]


@pytest.mark.parametrize("number", range(5))
def test_each_part_of_the_state_counts(cache: Path, number: int) -> None:
    """A file whose size, mtime, ctime, inode or x bit differs is not known."""
    states = FileStates(str(cache))
    for name, (state, _) in STATES.items():
        other = list(state)
        other[number] = not other[number] if number == 4 else other[number] + 1
        assert states.hash_of(name, FileState._make(other)) is None


def test_files_that_come_between_and_vanish_do_no_harm(cache: Path) -> None:
    """New paths are unknown, skipped ones are passed over, the others are still found."""
    states = FileStates(str(cache))
    none = FileState(0, 0, 0, 0, False)
    assert states.hash_of("a", none) is None
    assert states.hash_of("f010", STATES["f010"][0]) == RIGHT["f010"]
    assert states.hash_of("f0105", STATES["f010"][0]) is None
    assert states.hash_of("f049", STATES["f049"][0]) == RIGHT["f049"]
    assert states.hash_of("z", STATES["f049"][0]) is None


def test_a_file_that_changed_just_now_is_not_kept(tmp_path: Path) -> None:
    """It could change again within the same tick of the clock; so its page is not whole."""
    (tmp_path / "file").write_text("x")
    state = state_of((tmp_path / "file").stat())
    states = FileStates(str(tmp_path / "cache"))
    states.keep(entry_of("file", RIGHT["f001"]), state)
    states.end_page(page_id(0), 1, 1, 100, ends=True)
    states.finish([needed_by(2)])
    states = FileStates(str(tmp_path / "cache"))
    assert states.hash_of("file", state) is None
    assert [page.needed for page in states.pages] == [None]


def test_pages_that_stay_are_copied(cache: Path) -> None:
    """What was kept before and what is new stand in the next cache in the order of the version."""
    states = FileStates(str(cache))
    old = states.pages
    states.keep_page(old[0])
    states.keep_page(old[1])
    states.keep(entry_of("f0205", RIGHT["f020"]), STATES["f020"][0])
    states.end_page(page_id(9), 1, 7, 8, ends=True)
    states.keep_page(old[3])
    states.finish([needed_by(number) for number in (0, 1, 2, 3)])
    states = FileStates(str(cache))
    numbers = [0, 1, 9, 3]
    assert [page.page_id for page in states.pages] == [page_id(number) for number in numbers]
    assert [page.needed for page in states.pages] == [needed_by(n) for n in (0, 1, 2, 3)]
    for name in ("f005", "f015", "f035"):
        assert states.hash_of(name, STATES[name][0]) == RIGHT[name]
    assert asked(cache)["f025"] is None


def test_a_cache_of_which_nothing_changed_stays_as_it_is(cache: Path) -> None:
    """It is not even written again; where only pages are missing, it is."""
    before = cache.stat()
    states = FileStates(str(cache))
    for page in states.pages:
        states.keep_page(page)
    states.finish([needed_by(number) for number in range(5)])
    after = cache.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    states = FileStates(str(cache))
    states.keep_page(states.pages[0])
    states.finish([needed_by(0)])
    assert len(FileStates(str(cache)).pages) == 1


def test_discarding_leaves_the_old_cache(cache: Path) -> None:
    """A push that failed changes nothing and leaves no temporary file."""
    states = write(cache)
    states.discard()
    states.discard()
    assert asked(cache) == RIGHT
    assert os.listdir(cache.parent) == ["cache"]


def test_without_a_folder_nothing_is_known(tmp_path: Path) -> None:
    """None keeps nothing; a folder that cannot be written keeps nothing, silently."""
    assert set(asked(None).values()) == {None}
    (tmp_path / "file").write_text("x")
    write(tmp_path / "file" / "below").finish([needed_by(number) for number in range(5)])


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_cache_is_never_believed(cache: Path, seed: int) -> None:
    """Flipped, cut or overwritten: a file is known with what it was kept with, or unknown."""
    source = random.Random(seed)
    data = bytearray(cache.read_bytes())
    at = source.randrange(len(data))
    if seed % 3 == 0:
        data[at] ^= 1 << source.randrange(8)
    elif seed % 3 == 1:
        del data[at:]
    else:
        data[at:] = source.randbytes(source.randrange(1, 200))
    cache.write_bytes(data)
    assert all(found in (None, RIGHT[name]) for name, found in asked(cache).items())
    states = FileStates(str(cache))
    for number, page in enumerate(states.pages):
        assert (page.page_id, page.needed) == (page_id(number), needed_by(number))
        found = states.entries_of(page)
        assert found is None or found.paths[0] == page.first_path


@pytest.mark.parametrize("data", [b"", b"CSFS", b"CSFS\x01" + b"\x96" * 100, b"CSFS\x02"])
def test_a_cache_of_another_version_is_not_used(
    cache: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is passed over, the log says so, and the next push replaces it."""
    cache.write_bytes(data)
    assert set(asked(cache).values()) == {None}
    assert "is not used" in caplog.text
    write(cache).finish([needed_by(number) for number in range(5)])
    assert asked(cache) == RIGHT
