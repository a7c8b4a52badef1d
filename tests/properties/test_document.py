"""Documents are read value by value, and only in the one form that is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.errors import CorruptObjectError, InvalidInputError, UnsupportedFormatError
from chunkstore.format.document import DocumentKind, Fields, decode_document, encode_document
from chunkstore.testing import strategies
from tests.properties import laws

KIND = DocumentKind("test", b"CSTT", 1, 1 << 20, sealed=False)
SEALED = DocumentKind("test", b"CSTT", 1, 1 << 20, sealed=True)
LEAST, MOST = -(1 << 63), (1 << 64) - 1

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(LEAST, MOST)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20),
    max_leaves=20,
)
kinds = st.sampled_from([KIND, SEALED])


def take(fields: Fields, like: Any) -> Any:
    """Take the value that is next, which has the type of `like`."""
    if like is None:
        assert fields.nil()
        return None
    if isinstance(like, bool):
        return fields.boolean()
    if isinstance(like, int):
        return fields.integer(LEAST, MOST)
    if isinstance(like, str):
        return fields.text(1 << 20)
    if isinstance(like, bytes):
        return fields.bounded_binary(1 << 20)
    assert fields.array(1 << 20) == len(like)
    return [take(fields, item) for item in like]


READERS: dict[str, Callable[[Fields], Any]] = {
    "integer": lambda fields: fields.integer(LEAST, MOST),
    "boolean": lambda fields: fields.boolean(),
    "text": lambda fields: fields.text(1 << 20),
    "binary": lambda fields: fields.bounded_binary(1 << 20),
    "array of nil": lambda fields: [
        fields.nil() or fields.wrong("nil") for _ in range(fields.array(1 << 20))
    ],
}


@given(kinds, st.lists(values, max_size=8))
def test_what_is_written_is_read(kind: DocumentKind, body: list[Any]) -> None:
    """The hand-written reader agrees with the msgpack package's writer on every value."""
    fields = decode_document(kind, encode_document(kind, body), "tested")
    assert take(fields, body) == body
    fields.end()


@pytest.mark.parametrize("reader", READERS)
@given(data=st.one_of(strategies.hostile_tokens, strategies.hostile_bodies, st.binary(max_size=12)))
def test_only_the_shortest_form_is_read(reader: str, data: bytes) -> None:
    """Whatever a reader accepts is what the msgpack package writes for that value."""
    assert_shortest_or_refused(reader, data)


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte_is_known(first: int) -> None:
    """Of the 256 first bytes each reader takes those of its type, and refuses the others."""
    for reader in READERS:
        for tail in (b"", b"\0", b"\0" * 9, b"\xff" * 9):
            assert_shortest_or_refused(reader, bytes([first]) + tail)


def assert_shortest_or_refused(reader: str, data: bytes) -> None:
    def decode(data: bytes, where: str) -> Any:
        fields = Fields(data, 0, len(data), where)
        value = READERS[reader](fields)
        fields.end()
        return [None] * len(value) if reader == "array of nil" else value

    value = laws.decode_or_refuse(decode, data)
    if value is not None:
        assert laws.packed(value) == data


@given(kinds, st.lists(values, max_size=4), st.integers(0, 1 << 30))
def test_values_end_where_the_document_ends(kind: DocumentKind, body: list[Any], at: int) -> None:
    """No reader looks behind the end: a cut document is refused, not filled up from elsewhere."""
    data = encode_document(kind, body)
    start, end = 5, len(data) - (32 if kind.sealed else 0)
    cut = start + at % (end - start)

    def decode(data: bytes, where: str) -> Any:
        fields = Fields(data, start, cut, where)
        taken = take(fields, body)
        fields.end()
        return taken

    with pytest.raises((CorruptObjectError, AssertionError)):
        decode(data, "tested")


@given(st.lists(values, max_size=4))
def test_a_seal_is_the_hash_of_all_before_it(body: list[Any]) -> None:
    """A sealed document is the unsealed one and its BLAKE3."""
    assert encode_document(SEALED, body) == laws.document(SEALED, encode_document(KIND, body)[5:])


def test_nothing_is_written_that_could_not_be_read() -> None:
    """A document over its limit is refused before it is stored, with a remedy."""
    small = DocumentKind("ref", b"CSTT", 1, 100, sealed=True)
    assert len(encode_document(small, [bytes(100 - 5 - 32 - 3)])) == 100
    with pytest.raises(InvalidInputError, match="ref of 101 bytes; it may have 100") as caught:
        encode_document(small, [bytes(100 - 5 - 32 - 2)])
    assert caught.value.hint
    with pytest.raises(CorruptObjectError, match="101 bytes, more than 100"):
        decode_document(small, b"CSTT\x01" + bytes(96), "tested")


def test_the_head_is_checked_in_order() -> None:
    """Another magic is corrupt; with the magic right, another version is unsupported."""
    with pytest.raises(CorruptObjectError, match="no test"):
        decode_document(KIND, b"CSXX\x02\x90", "tested")
    with pytest.raises(UnsupportedFormatError):
        decode_document(KIND, b"CSTT\x02\x90", "tested")
    for length in range(5, 37):
        with pytest.raises(CorruptObjectError, match="checksum"):
            decode_document(SEALED, b"CSTT\x01" + bytes(length - 5), "tested")


def test_a_stated_length_is_held_against_the_bytes_that_are_there() -> None:
    """No array has more values than bytes follow, whatever it says."""
    for length in (1, 15, 16, 100, 65535, 65536, 1 << 31):
        head = b"\xdd" + length.to_bytes(4, "big") if length >= 65536 else laws.packed([0] * length)
        head = head[:5] if length >= 65536 else head[: len(head) - length]
        for behind in (0, length - 1):
            if behind < 1 << 20:
                data = head + bytes(behind)
                with pytest.raises(CorruptObjectError):
                    Fields(data, 0, len(data), "tested").array(1 << 40)
