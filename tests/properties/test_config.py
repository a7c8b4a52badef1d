"""The config object keeps the laws of section 4 of the format, whatever its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.errors import CorruptObjectError, UnsupportedFormatError
from chunkstore.format.config import CONFIG, ChunkerSpec, Config, decode_config, encode_config
from chunkstore.testing import strategies
from tests.properties import laws

PLAIN = Config(store_id=bytes(range(16)), created_ns=1_700_000_000_000_000_000)
FIELDS = [
    bytes(16),
    0,
    "blake3",
    None,
    ["fastcdc", 16384, 65536, 262144],
    1 << 20,
    1 << 25,
    [],
    [],
    [],
]


def config_with(**fields: object) -> bytes:
    """Return a sealed config whose field with that number, as `f4`, has another value."""
    body = list(FIELDS)
    for name, value in fields.items():
        body[int(name[1:])] = value
    return laws.document(CONFIG, laws.packed(body))


@given(strategies.configs())
def test_a_config_comes_back_as_it_was_written(config: Config) -> None:
    """Encoding and decoding give the value and the bytes again."""
    laws.assert_round_trip(decode_config, encode_config, config)


@given(strategies.configs(), strategies.configs(), st.data())
def test_damage_is_refused_and_nothing_else_is_raised(
    config: Config, other: Config, data: st.DataObject
) -> None:
    """Cut, flipped, spliced: a config or one of the two errors."""
    bad = data.draw(strategies.damaged(encode_config(config), encode_config(other)))
    laws.assert_canonical(decode_config, encode_config, bad)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """With and without a right magic, version and checksum."""
    laws.decode_or_refuse(decode_config, data)
    laws.assert_canonical(decode_config, encode_config, laws.document(CONFIG, data))


@given(strategies.hostile_bodies)
def test_any_msgpack_is_decoded_or_refused(body: bytes) -> None:
    """Whatever a stranger seals, only what the encoder writes is accepted."""
    laws.assert_canonical(decode_config, encode_config, laws.document(CONFIG, body))


def test_no_flipped_bit_and_no_cut_goes_unseen() -> None:
    """The seal covers every bit."""
    data = encode_config(PLAIN)
    laws.assert_every_bit_matters(decode_config, data)
    laws.assert_every_cut_is_refused(decode_config, data)


def test_another_format_version_is_named_with_its_remedy() -> None:
    """A newer or older config is unsupported, not corrupt."""
    laws.assert_other_versions_refused(decode_config, encode_config(PLAIN))


def test_bombs_are_refused_cheaply() -> None:
    """Documents that swell are refused before they do, wherever they begin to."""
    for data in laws.bombs_at_each_field(CONFIG, FIELDS).values():
        laws.assert_refused_cheaply(decode_config, data)


@pytest.mark.parametrize(
    "field",
    [
        {"f2": "sha256"},
        {"f3": bytes(32)},
        {"f3": 1},
        {"f4": ["rabin", 16384, 65536, 262144]},
        {"f4": ["gear", 1, 2, 3]},
    ],
)
def test_what_a_newer_chunkstore_may_write_is_unsupported(field: dict[str, object]) -> None:
    """Another hash, keyed ids and an unknown chunker are no damage."""
    with pytest.raises(UnsupportedFormatError) as caught:
        decode_config(config_with(**field))
    assert caught.value.hint


@pytest.mark.parametrize(
    "field",
    [
        {"f0": bytes(15)},
        {"f0": "0123456789abcdef"},
        {"f1": -1},
        {"f1": 1 << 63},
        {"f1": 1.0},
        {"f1": True},
        {"f4": ["fastcdc", 16384, 65536]},
        {"f4": ["fastcdc", 65536, 65536, 262144]},
        {"f4": ["fastcdc", 512, 65536, 262144]},
        {"f4": ["fastcdc", 16384, 65535, 262144]},
        {"f4": ["fastcdc", 16384, 65536, (8 << 20) + 1]},
        {"f5": 262143},
        {"f5": (8 << 20) + 1},
        {"f6": (1 << 20) - 1},
        {"f6": (96 << 20) + 1},
        {"f7": ["b", "a"]},
        {"f7": ["a", "a"]},
        {"f7": [1]},
        {"f7": ["x" * 65]},
        {"f7": [f"{number:03}" for number in range(65)]},
        {"f9": None},
    ],
)
def test_fields_that_no_config_has_are_refused(field: dict[str, object]) -> None:
    """Types, ranges and the relations of the sizes are checked."""
    with pytest.raises(CorruptObjectError):
        decode_config(config_with(**field))


def test_unknown_features_refuse_what_they_stand_for() -> None:
    """A feature needed to read refuses reading and writing, one needed to write only writing."""
    plain = decode_config(config_with())
    plain.check_readable()
    plain.check_writable()
    with pytest.raises(UnsupportedFormatError, match="read with features unknown here: sealed"):
        decode_config(config_with(f7=["sealed"])).check_readable()
    with pytest.raises(UnsupportedFormatError, match="written"):
        decode_config(config_with(f7=["sealed"])).check_writable()
    writes = decode_config(config_with(f8=["sealed"]))
    writes.check_readable()
    with pytest.raises(UnsupportedFormatError) as caught:
        writes.check_writable()
    assert caught.value.hint
    collects = decode_config(config_with(f9=["sealed"]))
    collects.check_readable()
    collects.check_writable()


def test_the_default_chunker_is_the_documented_one() -> None:
    """16, 64 and 256 KiB, frames of 1 MiB, packs of 32 MiB."""
    assert PLAIN.chunker == ChunkerSpec(
        name="fastcdc", min_size=16384, avg_size=65536, max_size=262144
    )
    assert (PLAIN.frame_size, PLAIN.pack_length) == (1 << 20, 32 << 20)
