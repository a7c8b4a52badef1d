"""The collector's objects keep the laws of section 11 of the format, whatever their bytes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.errors import CorruptObjectError
from chunkstore.format.gc import (
    CONDEMNED,
    GC_STATE,
    Counts,
    GcState,
    decode_condemned,
    decode_gc_state,
    encode_condemned,
    encode_gc_state,
)
from chunkstore.ids import PackId
from chunkstore.testing import strategies
from tests.properties import laws


@given(strategies.gc_states)
def test_a_state_comes_back_as_it_was_written(state: GcState) -> None:
    """Encoding and decoding give the value and the bytes again."""
    laws.assert_round_trip(decode_gc_state, encode_gc_state, state)


@given(strategies.condemned_packs)
def test_a_condemned_list_comes_back_as_it_was_written(packs: frozenset[PackId]) -> None:
    """Encoding and decoding give the value and the bytes again, ids with NUL bytes too."""
    laws.assert_round_trip(decode_condemned, encode_condemned, packs)


@given(strategies.gc_states, strategies.condemned_packs, st.data())
def test_damage_is_refused_and_nothing_else_is_raised(
    state: GcState, packs: frozenset[PackId], data: st.DataObject
) -> None:
    """Cut, flipped, spliced, sealed again: a value or one of the two errors."""
    objects = [encode_gc_state(state), encode_condemned(packs)]
    bad = data.draw(strategies.damaged(*objects))
    laws.assert_canonical(decode_gc_state, encode_gc_state, bad)
    bad = data.draw(strategies.damaged(*reversed(objects)))
    laws.assert_canonical(decode_condemned, encode_condemned, bad)
    bodies = [item[5:-32] for item in objects]
    bad = laws.document(GC_STATE, data.draw(strategies.damaged(*bodies)))
    laws.assert_canonical(decode_gc_state, encode_gc_state, bad)
    extended = dataclasses.replace(GC_STATE, version=GC_STATE.extended)
    bad = laws.document(extended, data.draw(strategies.damaged(*bodies)))
    laws.assert_canonical(decode_gc_state, encode_gc_state, bad)
    bad = laws.document(CONDEMNED, data.draw(strategies.damaged(*reversed(bodies))))
    laws.assert_canonical(decode_condemned, encode_condemned, bad)


def test_no_flipped_bit_and_no_cut_goes_unseen() -> None:
    """The seals cover every bit."""
    state = encode_gc_state(GcState(7, "gc/condemned/7-00"))
    condemned = encode_condemned(frozenset({PackId(bytes(32)), PackId(bytes(range(32)))}))
    counted = encode_gc_state(GcState(7, "", Counts(3, 2, 1)))
    laws.assert_every_bit_matters(decode_gc_state, counted)
    laws.assert_every_cut_is_refused(decode_gc_state, counted)
    laws.assert_other_versions_refused(decode_gc_state, counted, GC_STATE.version)
    laws.assert_every_bit_matters(decode_gc_state, state)
    laws.assert_every_cut_is_refused(decode_gc_state, state)
    laws.assert_every_bit_matters(decode_condemned, condemned)
    laws.assert_every_cut_is_refused(decode_condemned, condemned)
    laws.assert_other_versions_refused(decode_gc_state, state, GC_STATE.extended)
    laws.assert_other_versions_refused(decode_condemned, condemned)


@pytest.mark.parametrize(
    "joined",
    [
        bytes(31),
        bytes(64),
        b"\2" * 32 + b"\1" * 32,
        b"\1" * 32 + b"\1" * 32,
        b"\x80" * 32 + bytes(32),
    ],
)
def test_condemned_packs_are_whole_and_ascend(joined: bytes) -> None:
    """One order only, so that one set of packs has one list."""
    with pytest.raises(CorruptObjectError):
        decode_condemned(laws.document(CONDEMNED, laws.packed([joined])), "tested")


def test_bombs_are_refused_cheaply() -> None:
    """Documents that swell are refused before they do."""
    for data in laws.bombs_at_each_field(GC_STATE, [7, "gc/condemned/7-00"]).values():
        laws.assert_refused_cheaply(decode_gc_state, data)
        laws.assert_refused_cheaply(decode_condemned, laws.document(CONDEMNED, data[5:-32]))
