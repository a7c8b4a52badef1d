"""Lists that begin in the middle, and folders one level at a time, are parts of the whole list."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import Entry, EntryKind, NotFoundError, Store
from chunkstore.reader import Reader
from tests.library.forgery import Forged, file, folder, forge

PARTS = st.text("a-b0.é", min_size=1, max_size=2).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@st.composite
def made(draw: st.DrawFn) -> Store:
    """A version of files and empty folders, its pages cut anywhere."""
    found = draw(st.sets(PATHS, min_size=1, max_size=14))
    leaves = [path for path in found if not any(p.startswith(f"{path}/") for p in found)]
    entries = [folder(f"{p}/") if draw(st.booleans()) else file(p) for p in leaves]
    entries.sort(key=lambda entry: entry[0].encode())
    pages: list[list[list[object]]] = [[]]
    for entry in entries:
        if pages[-1] and draw(st.booleans()):
            pages.append([])
        pages[-1].append(entry)
    return forge(Forged(pages))


def level(entries: list[Entry], path: str) -> list[str]:
    """Return what a folder has, by the whole list."""
    below = f"{path}/" if path else ""
    names = {}
    for entry in entries:
        if entry.path.startswith(below) and entry.path != below:
            name, slash, _ = entry.path[len(below) :].partition("/")
            names[f"{below}{name}{slash}"] = None
    return sorted(names, key=str.encode)


@given(store=made(), start=PATHS | st.just(""), path=PATHS | st.just(""), slash=st.booleans())
def test_a_list_may_begin_anywhere(store: Store, start: str, path: str, slash: bool) -> None:
    """From a path on there is what the whole list has from there on, of entries and of a folder."""
    everything = list(store.entries("data"))
    start += "/" * (slash and bool(start))
    where = f"data:{path}" if path else "data"
    below = [e for e in everything if not path or e.path == path or e.path.startswith(f"{path}/")]
    if not below:
        for read in (store.entries, store.folder):
            with pytest.raises(NotFoundError):
                list(read(where, start=start))
        return
    listed = list(store.entries(where, start=start))
    assert listed == [e for e in below if e.path.encode() >= start.encode()]
    expected = [path] if below[0].path == path else level(everything, path)
    items = list(store.folder(where, start=start))
    assert [i.path for i in items] == [p for p in expected if p.encode() >= start.encode()]
    assert all((item.kind == EntryKind.FOLDER) is item.path.endswith("/") for item in items)


def tar_of(paths: Iterator[str], content: bytes) -> io.BytesIO:
    """Return a tar archive of files with the same content."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.seek(0)
    return archive


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two versions of 6,000 files in a few folders; all files of the second are others."""
    place: Path = tmp_path_factory.mktemp("large")
    with Store.create(str(place / "store"), cache_folder=place / "cache") as store:
        for content in (b"one\n", b"two\n"):
            paths = (f"{f}/{n:05}" for f in ("data-old", "data/raw", "z") for n in range(2000))
            store.push(tar_of(paths, content), "data", tar=True)
        yield store


def pages_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the number of each page that is read is added."""
    read, numbers = Reader.page, []

    def page(self: Reader, manifest: object, number: int) -> list[Entry]:
        numbers.append(number)
        return read(self, manifest, number)  # type: ignore[arg-type]  # as given

    monkeypatch.setattr(Reader, "page", page)
    return numbers


def test_a_list_is_not_read_from_its_start(large: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a list, a folder, and a level of folders cost a page or two each of many."""
    whole = pages_read(monkeypatch)
    everything = [entry.path for entry in large.entries("data")]
    assert len(everything) == 6000
    assert len(whole) >= 10
    monkeypatch.undo()
    for wanted, list_them in (
        (["z/01998", "z/01999"], lambda: large.entries("data", start="z/01998")),
        (["z/01998", "z/01999"], lambda: large.folder("data:z", start="z/01998")),
        (["data-old/", "data/", "z/"], lambda: large.folder("data")),
        (["data/raw/"], lambda: large.folder("data:data")),
        ([], lambda: large.entries("data:data", start="data0")),
    ):
        numbers = pages_read(monkeypatch)
        assert [entry.path for entry in list_them()] == wanted
        assert len(numbers) <= 5, (wanted, numbers)
        monkeypatch.undo()


def test_differences_may_begin_anywhere(large: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences from a path on are those of the whole that stand from there on."""
    whole = [change.path for change in large.diff("data@1", "data@2")]
    assert len(whole) == 6000
    for start in ("", "data-old/01999", "data/", "data/raw/00500x", "z/01990", "zz"):
        numbers = pages_read(monkeypatch)
        found = [change.path for change in large.diff("data@1", "data@2", start=start)]
        assert found == [path for path in whole if path >= start]
        assert start < "z/0199" or len(numbers) <= 2
        monkeypatch.undo()
