"""The laws that every decoder keeps, as functions that the tests of each kind call."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from blake3 import blake3

from chunkstore.errors import ChunkstoreError, CorruptObjectError, UnsupportedFormatError
from chunkstore.format.document import DocumentKind
from chunkstore.testing.strategies import flipped

Decoder = Callable[[bytes, str], Any]

MOST_GROWTH = 64 * 1024 * 1024
MOST_CALLS = 10_000


def decode_or_refuse(decode: Decoder, data: bytes) -> Any:
    """Return the value that `data` holds, or None where the decoder refuses it as it should.

    Any other exception is a broken law and goes through.
    """
    refusal: ChunkstoreError
    try:
        return decode(data, "tested")
    except (CorruptObjectError, UnsupportedFormatError) as error:
        refusal = error
    assert "tested" in refusal.message
    assert refusal.hint
    return None


def assert_round_trip(decode: Decoder, encode: Callable[[Any], bytes], value: Any) -> bytes:
    """A value comes back equal, and as the same bytes; returns them."""
    data = encode(value)
    decoded = decode(data, "tested")
    assert decoded == value
    assert encode(decoded) == data
    return data


def assert_canonical(decode: Decoder, encode: Callable[[Any], bytes], data: bytes) -> None:
    """Whatever a decoder accepts is what its encoder writes for that value."""
    value = decode_or_refuse(decode, data)
    if value is not None:
        assert encode(value) == data


def assert_other_versions_refused(decode: Decoder, data: bytes, *known: int) -> None:
    """Every other version byte is an UnsupportedFormatError that says what to do.

    But for those that are known too; what they hold is tested elsewhere.
    """
    for version in range(256):
        if version != data[4] and version not in known:
            with pytest.raises(UnsupportedFormatError) as caught:
                decode(data[:4] + bytes([version]) + data[5:], "tested")
            assert caught.value.hint


def assert_every_bit_matters(decode: Decoder, data: bytes) -> None:
    """No single flipped bit is taken for a value."""
    for bit in range(len(data) * 8):
        with pytest.raises((CorruptObjectError, UnsupportedFormatError)):
            decode(flipped(data, bit), "tested")


def assert_every_cut_is_refused(decode: Decoder, data: bytes) -> None:
    """No beginning of an object, and nothing with bytes behind it, is taken for a value."""
    for end in range(len(data)):
        with pytest.raises(CorruptObjectError):
            decode(data[:end], "tested")
    with pytest.raises(CorruptObjectError):
        decode(data + b"\0", "tested")


def document(kind: DocumentKind, body: bytes) -> bytes:
    """Return a document with this body, sealed where its kind is: what a stranger can write."""
    data = kind.magic + bytes([kind.version]) + body
    return data + blake3(data).digest() if kind.sealed else data


def packed(value: Any) -> bytes:
    """Return `value` as canonical msgpack."""
    return bytes(msgpack.packb(value))


def assert_refused_cheaply(decode: Decoder, data: bytes) -> None:
    """They are refused by 10,000 calls at most, with no more than 64 MiB beyond their own size."""

    def refuse(data: bytes, where: str) -> None:
        with pytest.raises((CorruptObjectError, UnsupportedFormatError)):
            decode(data, where)

    assert calls(refuse, data) < MOST_CALLS
    assert growth(refuse, data) < MOST_GROWTH


def assert_cheap(decode: Decoder, data: bytes) -> None:
    """The value takes at most ten bytes of memory for each byte it is decoded from."""
    assert growth(decode, data) < 10 * len(data)


def calls(decode: Decoder, data: bytes) -> int:
    """Return how many functions are called while `data` is decoded, a measure no clock changes."""
    count = 0

    def tally(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tally)
    try:
        decode(data, "tested")
    finally:
        sys.setprofile(None)
    return count


def growth(decode: Decoder, data: bytes) -> int:
    """Return the most bytes that are allocated at a time while `data` is decoded."""
    tracemalloc.start()
    try:
        decode(data, "tested")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bombs(kind: DocumentKind, before: bytes = b"") -> dict[str, bytes]:
    """Return documents of a kind, as long as it allows, that try to cost memory or time.

    They have the msgpack values in `before`, then the bomb.
    """
    room = kind.limit - 5 - len(before) - (32 if kind.sealed else 0)
    huge = b"\xdd" + (room - 5).to_bytes(4, "big")
    values = {
        "arrays in arrays, each said to be as long as the document": huge,
        "empty arrays": b"\x90",
        "arrays of one array": b"\x91",
        "negative numbers": b"\xe0",
        "numbers": b"\xcf" + b"\xff" * 8,
        "short text": b"\xa2ab",
        "nil": b"\xc0",
        "maps": b"\x80",
        "long bytes": b"\xc6" + (room - 10).to_bytes(4, "big"),
        "bytes longer than the document": b"\xc6\xff\xff\xff\xff",
    }
    found: dict[str, bytes] = {}
    for name, value in values.items():
        filled = value * (room // len(value))
        found[name] = document(kind, before + filled)
        found[f"an array of {name}"] = document(kind, before + (huge + filled)[:room])
    return found


def bombs_at_each_field(kind: DocumentKind, fields: list[Any]) -> dict[str, bytes]:
    """Return bombs in the place of each of the fields; those before it are as they should be."""
    found = bombs(kind)
    for number in range(len(fields)):
        before = packed([0] * len(fields))[: -len(fields)] + b"".join(map(packed, fields[:number]))
        small = dataclasses.replace(kind, limit=min(kind.limit, 1 << 19))
        for name, data in bombs(small, before).items():
            found[f"{name} at field {number}"] = data
    return found
