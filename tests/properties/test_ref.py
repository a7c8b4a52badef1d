"""The ref keeps the laws of section 10 of the format, whatever its bytes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.errors import CorruptObjectError
from chunkstore.format.ref import (
    REF,
    DroppedVersion,
    Ref,
    VersionRecord,
    decode_ref,
    empty_ref,
    encode_ref,
    fit_ref,
)
from chunkstore.ids import ManifestId
from chunkstore.testing import strategies
from tests.properties import laws

NONCE = bytes(range(16))
VERSION = [3, bytes(32), 0, "first", 1, 6, 6, 512]
FIELDS = ["team/run", 2, NONCE, 0, 4, [VERSION], [["good", 3]], [NONCE]]
DROPPED = [[1, *VERSION[1:]], 7, ["old", "older"]]
EXTENDED = dataclasses.replace(REF, version=REF.extended)


def dropped_with(*dropped: object) -> bytes:
    """Return a sealed ref with these dropped versions, by default with one."""
    return laws.document(EXTENDED, laws.packed([*FIELDS, [*dropped] or [DROPPED]]))


def ref_with(**fields: object) -> bytes:
    """Return a sealed ref whose field with that number, as `f4`, has another value."""
    body = list(FIELDS)
    for name, value in fields.items():
        body[int(name[1:])] = value
    return laws.document(REF, laws.packed(body))


def version_with(at: int, value: object) -> dict[str, object]:
    """Return the fields of a ref whose version has another value at one place."""
    return {"f5": [[*VERSION[:at], value, *VERSION[at + 1 :]]]}


@given(strategies.refs())
def test_a_ref_comes_back_as_it_was_written(ref: Ref) -> None:
    """Encoding and decoding give the value and the bytes again."""
    laws.assert_round_trip(decode_ref, encode_ref, ref)


@given(strategies.refs(), strategies.refs(), st.data())
def test_damage_is_refused_and_nothing_else_is_raised(
    ref: Ref, other: Ref, data: st.DataObject
) -> None:
    """Cut, flipped, spliced: a ref or one of the two errors."""
    bad = data.draw(strategies.damaged(encode_ref(ref), encode_ref(other)))
    laws.assert_canonical(decode_ref, encode_ref, bad)


@given(strategies.refs(), strategies.refs(), st.data())
def test_what_a_stranger_seals_is_held_to_the_same_rules(
    ref: Ref, other: Ref, data: st.DataObject
) -> None:
    """A right checksum makes nothing else right."""
    bodies = [encode_ref(value)[5:-32] for value in (ref, other)]
    damaged = data.draw(strategies.damaged(*bodies))
    for kind in (REF, EXTENDED):
        laws.assert_canonical(decode_ref, encode_ref, laws.document(kind, damaged))


@given(st.binary(max_size=200) | strategies.hostile_bodies)
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """With and without a right magic, version and checksum."""
    laws.decode_or_refuse(decode_ref, data)
    laws.assert_canonical(decode_ref, encode_ref, laws.document(REF, data))
    laws.assert_canonical(decode_ref, encode_ref, laws.document(EXTENDED, data))


def test_no_flipped_bit_and_no_cut_goes_unseen() -> None:
    """The seal covers every bit."""
    data = ref_with()
    laws.assert_every_bit_matters(decode_ref, data)
    laws.assert_every_cut_is_refused(decode_ref, data)
    laws.assert_every_bit_matters(decode_ref, dropped_with())
    laws.assert_every_cut_is_refused(decode_ref, dropped_with())


def test_another_format_version_is_named_with_its_remedy() -> None:
    """A newer or older ref is unsupported, not corrupt."""
    laws.assert_other_versions_refused(decode_ref, ref_with(), REF.extended)
    laws.assert_other_versions_refused(decode_ref, dropped_with(), REF.version)


def test_bombs_are_refused_cheaply() -> None:
    """Documents that swell are refused before they do, wherever they begin to."""
    for data in laws.bombs_at_each_field(REF, FIELDS).values():
        laws.assert_refused_cheaply(decode_ref, data)
    for data in laws.bombs_at_each_field(EXTENDED, [*FIELDS, [DROPPED]]).values():
        laws.assert_refused_cheaply(decode_ref, data)


@pytest.mark.parametrize(
    "fields",
    [
        {"f0": "Team"},
        {"f0": "../x"},
        {"f0": ""},
        {"f0": "a\x1b[2J"},
        {"f1": 0},
        {"f2": bytes(15)},
        {"f3": -1},
        {"f4": 0},
        {"f4": 3},
        {"f4": 1 << 63},
        {"f5": [VERSION, VERSION]},
        {"f5": [[4, *VERSION[1:]], VERSION], "f4": 5},
        {"f5": [VERSION[:-1]]},
        {"f5": [[*VERSION, 0]]},
        {"f5": {}},
        version_with(0, 0),
        version_with(1, bytes(31)),
        version_with(2, 1.5),
        version_with(3, b"first"),
        version_with(3, "x" * 4097),
        version_with(4, 50_000_001),
        version_with(5, -1),
        version_with(7, None),
        {"f6": [["good", 2]]},
        {"f6": [["good", 3], ["good", 3]]},
        {"f6": [["good", 3], ["a", 3]]},
        {"f6": [["Good", 3]]},
        {"f6": [["a..b", 3]]},
        {"f6": [["good", 3, 3]]},
        {"f7": []},
        {"f7": [bytes(16)]},
        {"f7": [bytes(16), NONCE]},
        {"f7": [NONCE, bytes(15)]},
        {"f7": [NONCE] * 65},
    ],
)
def test_refs_that_contradict_themselves_are_refused(fields: dict[str, object]) -> None:
    """Types, ranges, order and what the fields say of each other are checked."""
    decode_ref(ref_with(), "tested")
    with pytest.raises(CorruptObjectError):
        decode_ref(ref_with(**fields), "tested")


@pytest.mark.parametrize(
    "dropped",
    [
        [DROPPED, DROPPED],
        [[[2, *VERSION[1:]], 7, []], DROPPED],
        [[VERSION, 7, []]],
        [[[4, *VERSION[1:]], 7, []]],
        [[[1, *VERSION[1:]], -1, []]],
        [[[1, *VERSION[1:]], 7]],
        [[[1, *VERSION[1:]], 7, ["b", "a"]]],
        [[[1, *VERSION[1:]], 7, ["a", "a"]]],
        [[[1, *VERSION[1:]], 7, ["A"]]],
        [[]],
    ],
)
def test_dropped_versions_that_contradict_the_ref_are_refused(dropped: list[object]) -> None:
    """They are sorted, not there at the same time, and below the next number."""
    assert decode_ref(dropped_with(), "tested").dropped[0].tags == ("old", "older")
    with pytest.raises(CorruptObjectError):
        decode_ref(dropped_with(*dropped), "tested")


def test_what_version_1_can_say_is_never_version_2() -> None:
    """A ref without dropped versions has one encoding, that of version 1."""
    with pytest.raises(CorruptObjectError):
        decode_ref(laws.document(EXTENDED, laws.packed([*FIELDS, []])), "tested")


def test_a_ref_that_would_be_too_long_lets_dropped_versions_go() -> None:
    """Versions are never given up for that; of the dropped ones those that went first are."""
    record = VersionRecord(1, ManifestId(bytes(32)), 0, "x" * 4000, 1, 1, 1, 1)
    dropped = tuple(
        DroppedVersion(record._replace(number=number), 5000 - number, ())
        for number in range(1, 5001)
    )
    ref = dataclasses.replace(empty_ref("data"), next_number=5001, dropped=dropped)
    fitting = fit_ref(ref)
    laws.assert_round_trip(decode_ref, encode_ref, fitting)
    assert 0 < len(fitting.dropped) < 5000
    assert fitting.dropped == dropped[: len(fitting.dropped)]
    assert fit_ref(fitting) == fitting


def test_a_ref_keeps_64_nonces() -> None:
    """The writers that can still find out that they had won."""
    nonces = tuple(bytes([number]) * 16 for number in range(64))
    ref = dataclasses.replace(empty_ref("data"), nonce=nonces[0], nonces=nonces)
    laws.assert_round_trip(decode_ref, encode_ref, ref)


def test_a_long_ref_costs_in_proportion_to_its_bytes() -> None:
    """A history of thousands of versions takes a few bytes of memory for each of its bytes."""
    versions = [[number, *VERSION[1:]] for number in range(1, 20_001)]
    data = ref_with(f4=1 << 40, f5=versions, f6=[])
    assert len(data) > 1_000_000
    laws.assert_cheap(decode_ref, data)


def test_an_empty_ref_is_new_each_time() -> None:
    """Two writers that create the same ref write different bytes, so each knows its own."""
    first, second = empty_ref("data"), empty_ref("data")
    assert first.nonce != second.nonce
    assert dataclasses.replace(first, nonce=NONCE, nonces=(NONCE,)) == dataclasses.replace(
        second, nonce=NONCE, nonces=(NONCE,)
    )
    for ref in (first, second):
        laws.assert_round_trip(decode_ref, encode_ref, ref)
