"""The manifest keeps the laws of section 9 of the format, whatever its bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import limits
from chunkstore.errors import CorruptObjectError, InvalidInputError
from chunkstore.format.manifest import (
    MANIFEST,
    Entry,
    EntryKind,
    Manifest,
    PackHint,
    PageRef,
    decode_manifest,
    encode_manifest,
    encode_page,
    fit_manifest,
)
from chunkstore.ids import ChunkId, ChunkKind, PackId, chunk_id
from chunkstore.testing import strategies
from tests.properties import laws

ID = bytes(range(32))
INLINE = encode_page([Entry("c", EntryKind.LINK, target="x")])
HINTS = [[ID, 1000, 900], [ID[::-1], 68, 24]]
PAGES = [[ID, "a", 5, [0, 1], None], [chunk_id(ChunkKind.PAGE, INLINE), "c", 1, [], INLINE]]
FIELDS = ["data", 5, "first", None, bytes(16), [6, 10, 10], HINTS, PAGES]


def manifest_with(**fields: object) -> bytes:
    """Return a manifest whose field with that number, as `f4`, has another value."""
    body = list(FIELDS)
    for name, value in fields.items():
        body[int(name[1:])] = value
    return laws.document(MANIFEST, laws.packed(body))


def page_with(at: int, value: object) -> dict[str, object]:
    """Return the fields of a manifest whose first page has another value at one place."""
    return {"f7": [[*PAGES[0][:at], value, *PAGES[0][at + 1 :]], PAGES[1]]}


def hint_with(length: int, offset: int) -> dict[str, object]:
    return {"f6": [[ID, length, offset], HINTS[1]]}


@given(strategies.manifests())
def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest) -> None:
    """Encoding and decoding give the value and the bytes again."""
    laws.assert_round_trip(decode_manifest, encode_manifest, manifest)
    assert fit_manifest(manifest) == manifest


@given(strategies.manifests(), strategies.manifests(), st.data())
def test_damage_is_refused_and_nothing_else_is_raised(
    manifest: Manifest, other: Manifest, data: st.DataObject
) -> None:
    """Cut, flipped, spliced: a sound manifest or one of the two errors."""
    bad = data.draw(strategies.damaged(encode_manifest(manifest), encode_manifest(other)))
    laws.assert_canonical(decode_manifest, encode_manifest, bad)


@given(st.binary(max_size=200) | strategies.hostile_bodies)
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """With and without a right magic and version."""
    laws.decode_or_refuse(decode_manifest, data)
    laws.assert_canonical(decode_manifest, encode_manifest, laws.document(MANIFEST, data))


@pytest.mark.parametrize(
    "fields",
    [
        {"f0": "Data"},
        {"f0": "a/../b"},
        {"f1": -1},
        {"f2": "x" * 4097},
        {"f3": bytes(31)},
        {"f3": False},
        {"f4": bytes(17)},
        {"f5": [5, 10, 10]},
        {"f5": [6, 10]},
        {"f5": [50_000_001, 10, 10]},
        {"f5": [6, -1, 10]},
        {"f5": [6, 10, 1 << 63]},
        {"f6": [HINTS[0]]},
        {"f6": []},
        hint_with(67, 24),
        hint_with(limits.MAX_PACK_LENGTH + 1, limits.MAX_PACK_LENGTH - 100),
        hint_with(1000, 957),
        hint_with(1000, 23),
        hint_with(limits.MAX_PACK_LENGTH, limits.MAX_PACK_LENGTH - 44 - (8 << 20) - 1),
        page_with(0, bytes(33)),
        page_with(1, ""),
        page_with(1, "/a"),
        page_with(1, "a//"),
        page_with(1, "c"),
        page_with(1, "d"),
        page_with(1, 7),
        page_with(2, 0),
        page_with(2, True),
        page_with(3, [0, 2]),
        page_with(3, [1, 0]),
        page_with(3, [0, 0]),
        page_with(3, [-1, 0]),
        page_with(3, [False, True]),
        page_with(3, None),
        page_with(4, INLINE),
        page_with(4, ""),
        {"f7": []},
        {"f7": [PAGES[0]]},
        {"f7": [[*PAGES[0], None], PAGES[1]]},
    ],
)
def test_manifests_that_contradict_themselves_are_refused(fields: dict[str, object]) -> None:
    """Types, ranges, order, sums, pack numbers and the ids of inner pages are checked."""
    decode_manifest(manifest_with(), "tested")
    with pytest.raises(CorruptObjectError):
        decode_manifest(manifest_with(**fields), "tested")


def test_cuts_and_other_versions_are_refused() -> None:
    """A beginning of a manifest is none, and a newer one is named."""
    laws.assert_every_cut_is_refused(decode_manifest, manifest_with())
    laws.assert_other_versions_refused(decode_manifest, manifest_with())


def test_bombs_are_refused_cheaply() -> None:
    """Documents that swell are refused before they do, wherever they begin to."""
    for data in laws.bombs_at_each_field(MANIFEST, FIELDS).values():
        laws.assert_refused_cheaply(decode_manifest, data)


def test_long_manifests_cost_in_proportion_to_their_bytes() -> None:
    """Thousands of pages, of packs, and of pack numbers take a few bytes for each byte."""
    pages = [[ID, f"{number:05}", 1, [], None] for number in range(20_000)]
    laws.assert_cheap(decode_manifest, manifest_with(f5=[20_000, 0, 0], f6=[], f7=pages))
    hints = [[number.to_bytes(32, "big"), 68, 24] for number in range(20_000)]
    laws.assert_cheap(decode_manifest, manifest_with(f5=[0, 0, 0], f6=hints, f7=[]))
    numbers: list[Any] = [[ID, f"{number}", 1, list(range(20_000)), None] for number in range(9)]
    data = manifest_with(f5=[9, 0, 0], f6=hints, f7=numbers)
    laws.assert_cheap(decode_manifest, data)


def long_manifest(*, hints: int, path: str) -> Manifest:
    """Return a manifest of 4,000 pages whose first paths begin with `path`."""
    packs = [PackHint(PackId(number.to_bytes(32, "big")), 68, 24) for number in range(hints)]
    numbers = tuple(range(hints))
    paths = sorted(f"{path}{number}" for number in range(4000))
    return Manifest(
        dataset="data",
        created_ns=5,
        message="",
        parent=None,
        nonce=bytes(16),
        files=4000,
        size=0,
        new_bytes=0,
        packs=tuple(packs),
        pages=tuple(PageRef(ChunkId(ID), path, 1, numbers, None) for path in paths),
    )


def test_hints_are_dropped_where_the_root_would_grow_too_long() -> None:
    """They are a convenience; everything else of the manifest stays as it is."""
    fits, long = long_manifest(hints=10, path="p"), long_manifest(hints=3000, path="p")
    assert fit_manifest(fits) == fits
    with pytest.raises(InvalidInputError):
        encode_manifest(long)
    fitted = fit_manifest(long)
    assert decode_manifest(encode_manifest(fitted), "tested") == fitted
    assert fitted.packs == ()
    bare = tuple(page._replace(packs=()) for page in long.pages)
    assert fitted == dataclasses.replace(long, packs=(), pages=bare)


def test_a_manifest_that_nobody_could_read_is_not_written() -> None:
    """Where even the pages alone are too long, the caller is told before anything is stored."""
    folder = "/".join(["f" * 255] * 15) + "/" + "g" * 200
    long = long_manifest(hints=1, path=folder * 2)
    with pytest.raises(InvalidInputError) as caught:
        encode_manifest(fit_manifest(long))
    assert caught.value.hint


def test_a_page_may_begin_with_the_longest_folder() -> None:
    """The slash at the end of an empty folder is no part of its path of 4,096 bytes."""
    path = "/".join(["f" * 255] * 15 + ["f" * 254, "g"]) + "/"
    assert len(path) == limits.MAX_PATH_LENGTH + len("/")
    inline = encode_page([Entry(path, EntryKind.FOLDER)])
    page = [chunk_id(ChunkKind.PAGE, inline), path, 1, [], inline]
    data = manifest_with(f5=[1, 0, 0], f7=[page])
    assert decode_manifest(data, "tested").pages[0].first_path == path
