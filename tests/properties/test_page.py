"""Pages keep the laws of section 8 of the format, whatever their bytes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import limits
from chunkstore.errors import CorruptObjectError
from chunkstore.format.manifest import (
    PAGE,
    PAGE_TARGET,
    Entry,
    EntryKind,
    decode_page,
    encode_entry,
    encode_page,
    ends_page,
)
from chunkstore.format.path import PathOrder, path_problem
from chunkstore.ids import FileHash
from chunkstore.testing import strategies
from tests.properties import laws

HASH = FileHash(bytes(range(32)))
FILE: list[Any] = ["b", 0, False, 0, HASH, 0, 0, b"", b""]


def page_of(*entries: list[Any]) -> bytes:
    """Return a page of these arrays, whatever they hold."""
    return laws.document(PAGE, laws.packed(list(entries)))


def file_with(at: int, value: object) -> list[Any]:
    """Return the array of a file that has another value at one place."""
    return [*FILE[:at], value, *FILE[at + 1 :]]


@given(strategies.versions())
def test_a_page_comes_back_as_it_was_written(entries: list[Entry]) -> None:
    """Encoding and decoding give the values and the bytes again."""
    laws.assert_round_trip(decode_page, encode_page, entries)


@given(strategies.versions(most=4), strategies.versions(most=4), st.data())
def test_damage_is_refused_and_nothing_else_is_raised(
    entries: list[Entry], other: list[Entry], data: st.DataObject
) -> None:
    """Cut, flipped, spliced: a sound page or one of the two errors."""
    bad = data.draw(strategies.damaged(encode_page(entries), encode_page(other)))
    laws.assert_canonical(decode_page, encode_page, bad)


@given(st.lists(strategies.entries(), max_size=4))
def test_entries_in_any_order_are_a_page_or_refused(entries: list[Entry]) -> None:
    """What is accepted has the bytes of its paths in ascending order."""
    data = encode_page(entries)
    laws.assert_canonical(decode_page, encode_page, data)
    if laws.decode_or_refuse(decode_page, data) is not None:
        paths = [entry.path.encode() for entry in entries]
        assert paths == sorted(set(paths))
        assert paths


@given(st.binary(max_size=200) | strategies.hostile_bodies)
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """With and without a right magic and version."""
    laws.decode_or_refuse(decode_page, data)
    laws.assert_canonical(decode_page, encode_page, laws.document(PAGE, data))


@given(st.lists(strategies.paths, max_size=6), st.data())
def test_no_path_lies_below_a_file(found: list[str], data: st.DataObject) -> None:
    """PathOrder takes exactly the sequences that ascend and that a file system could hold."""
    folders = data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    paths = [path + "/" * folder for path, folder in zip(found, folders, strict=True)]
    if data.draw(st.booleans()):
        paths.sort(key=str.encode)
    order = PathOrder()
    taken: list[str] = []
    for path in paths:
        ascends = not taken or taken[-1].encode() < path.encode()
        names = [name.removesuffix("/") for name in taken]
        above = any(path.removesuffix("/").startswith(name + "/") for name in names)
        fits = ascends and not above and path.removesuffix("/") not in names
        assert (order.problem(path) is None) == fits
        if not fits:
            break
        taken.append(path)


@given(st.text(max_size=30) | strategies.paths)
def test_a_path_that_is_taken_is_taken_by_a_page(path: str) -> None:
    """`path_problem` and the decoder agree, for files and for folders."""
    for entry in (
        Entry(path, EntryKind.FILE, file_hash=HASH),
        Entry(path + "/", EntryKind.FOLDER),
        Entry(path, EntryKind.LINK, target="x"),
    ):
        decoded = laws.decode_or_refuse(decode_page, encode_page([entry]))
        assert (decoded is not None) == (path_problem(path) is None)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [[]],
        [["b"]],
        [["b", 3]],
        [["b", True]],
        [["b", 1.0, "x"]],
        [["b", 1]],
        [["b//", 1]],
        [["/", 1]],
        [["b/", 0, *FILE[2:]]],
        [["b/", 2, "x"]],
        [["b/", 1, None]],
        [["b", 2]],
        [["b", 2, ""]],
        [["b", 2, "x\0"]],
        [["b", 2, "x" * 4097]],
        [["b", 2, b"x"]],
        [["b", 2, "x", "y"]],
        [FILE[:-1]],
        [[*FILE, None]],
        [file_with(0, b"b")],
        [file_with(0, "")],
        [file_with(2, 0)],
        [file_with(3, 1 << 63)],
        [file_with(3, -1.0)],
        [file_with(4, bytes(31))],
        [file_with(5, 1)],
        [file_with(5, -1)],
        [file_with(5, (1 << 64) - 1)],
        [file_with(6, 1)],
        [file_with(6, 5)],
        [file_with(7, bytes(32))],
        [file_with(7, bytes(32 * 4097))],
        [file_with(8, bytes(4))],
        [FILE, FILE],
        [FILE, file_with(0, "a")],
        [FILE, file_with(0, "b.txt"), file_with(0, "b/x")],
        [FILE, ["b/", 1]],
        [["b/", 1], file_with(0, "b/x")],
    ],
)
def test_entries_that_no_writer_makes_are_refused(entries: list[Any]) -> None:
    """Types, ranges, paths, order and conflicts are checked."""
    assert decode_page(page_of(FILE), "tested") == [Entry("b", EntryKind.FILE, file_hash=HASH)]
    with pytest.raises(CorruptObjectError):
        decode_page(page_of(*entries), "tested")


def test_cuts_and_other_versions_are_refused() -> None:
    """A beginning of a page is none, and a newer one is named."""
    data = page_of(["a", 2, "b"], FILE, ["c/", 1])
    laws.assert_every_cut_is_refused(decode_page, data)
    laws.assert_other_versions_refused(decode_page, data)


def test_bombs_are_refused_cheaply() -> None:
    """Documents that swell are refused before they do, wherever they begin to."""
    for data in laws.bombs(PAGE, b"\x91").values():
        laws.assert_refused_cheaply(decode_page, data)
    for data in laws.bombs_at_each_field(PAGE, FILE).values():
        laws.assert_refused_cheaply(decode_page, data[:5] + b"\x91" + data[5:-1])


def test_the_dearest_pages_cost_in_proportion_to_their_bytes() -> None:
    """Thousands of tiny entries, and names that are each the beginning of the next."""
    tiny = page_of(*([f"{number:04x}/", 1] for number in range(60_000)))
    assert laws.growth(decode_page, tiny) < laws.MOST_GROWTH
    chains = page_of(
        *([f"{chain:04}" + "a" * length, 2, "x"] for chain in range(24) for length in range(1, 199))
    )
    laws.assert_cheap(decode_page, chains)


def test_a_page_ends_by_chance_in_proportion_to_the_entry() -> None:
    """Pages come to about 64 KiB, and a path ends its page always or never."""
    source = random.Random(7)
    ends = length = 0
    for number in range(40_000):
        entry = Entry(f"data/{source.randbytes(8).hex()}/{number}", EntryKind.LINK, target="x" * 40)
        size = len(laws.packed(encode_entry(entry)))
        length += size
        ends += ends_page(entry, size)
        assert ends_page(entry, size) == ends_page(entry._replace(target="y"), size)
        assert ends_page(entry, PAGE_TARGET)
    assert 0.7 * PAGE_TARGET < length / ends < 1.4 * PAGE_TARGET


def test_a_touched_file_has_the_same_content() -> None:
    """A new mtime alone is no change; anything else is."""
    entry = Entry("b", EntryKind.FILE, file_hash=HASH, mtime_ns=1)
    assert entry.same_content(entry._replace(mtime_ns=2))
    assert not entry.same_content(entry._replace(executable=True))
    assert not entry.same_content(entry._replace(file_hash=FileHash(bytes(32))))
    assert entry.size == 0


def test_a_page_never_reaches_its_limit_by_one_entry() -> None:
    """The largest entry is a fraction of a page."""
    part = "p" * 255
    path = "/".join([part] * 16)[: limits.MAX_PATH_LENGTH]
    assert path_problem(path) is None
    blob_ids = bytes(limits.MAX_INLINE_CHUNKS * 40)
    assert len(path.encode()) + len(blob_ids) + 200 < limits.MAX_PAGE_LENGTH // 2
