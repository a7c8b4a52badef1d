"""Ids are BLAKE3-256, of a kind byte too where they name a chunk."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.errors import InvalidInputError
from chunkstore.ids import (
    ID_SIZE,
    ChunkKind,
    chunk_id,
    chunk_ids,
    content_hash,
    parse_id,
    short,
)

kinds = st.sampled_from(ChunkKind)

# What any implementation of section 2.1 of the format gives for the chunk "hello\n".
FROZEN = {
    ChunkKind.DATA: "49ee2935f38e83a3ac50c595a2c9a259cef944f3e369ee8c997dde9d39bb1285",
    ChunkKind.LIST: "60200926b98f21cddd0dc4fb5c05e6a4d7ab691b9c8b01295ebefe1daca3bbe5",
    ChunkKind.PAGE: "24e3760751c5c440c31484f2a83d92230c3012ca0dfb62bd4acf4e419c503087",
}


@pytest.mark.parametrize("kind", ChunkKind)
def test_chunk_ids_are_frozen(kind: ChunkKind) -> None:
    """An id that changed would lose every chunk of every store."""
    assert chunk_id(kind, b"hello\n").hex() == FROZEN[kind]


def test_the_kinds_have_their_numbers() -> None:
    """They are written in directories of packs and hashed into ids."""
    assert {kind.name: kind.value for kind in ChunkKind} == {"DATA": 0, "LIST": 1, "PAGE": 2}


@given(kinds, st.binary(max_size=300))
def test_a_chunk_id_hashes_the_kind_and_the_bytes(kind: ChunkKind, data: bytes) -> None:
    """BLAKE3-256 of one byte and what follows it."""
    found = chunk_id(kind, data)
    assert found == blake3(bytes([kind]) + data).digest()
    assert len(found) == ID_SIZE
    assert chunk_id(kind, memoryview(data)) == found


@given(st.binary(max_size=300))
def test_content_is_never_taken_for_metadata(data: bytes) -> None:
    """The same bytes have another id as data, as a list and as a page."""
    assert len({chunk_id(kind, data) for kind in ChunkKind}) == 3


@given(kinds, st.lists(st.binary(max_size=100), max_size=10))
def test_many_ids_are_the_single_ones(kind: ChunkKind, pieces: list[bytes]) -> None:
    """In their order, of bytes and of views of them."""
    single = [chunk_id(kind, piece) for piece in pieces]
    assert chunk_ids(kind, pieces) == single
    assert chunk_ids(kind, [memoryview(piece) for piece in pieces]) == single


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_an_object_is_named_by_all_its_bytes(buffers: list[bytes]) -> None:
    """However they are split, and as `b3sum` prints it."""
    whole = b"".join(buffers)
    assert content_hash(buffers) == content_hash([bytearray(whole)]) == blake3(whole).digest()


@given(st.binary(min_size=ID_SIZE, max_size=ID_SIZE))
def test_an_id_is_parsed_as_it_is_printed(identifier: bytes) -> None:
    """64 hex digits whole, the first 12 of them in tables."""
    assert parse_id(identifier.hex()) == identifier
    assert short(identifier) == identifier.hex()[:12]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab",
        "0" * 63,
        "0" * 65,
        "A" * 64,
        "g" * 64,
        " " + "0" * 63,
        "0" * 64 + "\n",
        "\uff10" * 64,
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    """Only 64 lower-case hex digits, nothing about them."""
    with pytest.raises(InvalidInputError):
        parse_id(text)
