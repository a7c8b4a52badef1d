"""Typed BLAKE3-256 ids: make, parse and print them. Pure.

An id is 32 raw bytes in memory and in the formats, 64 hex digits in keys, errors and JSON,
and 12 hex digits in tables and logs. Implements section 2.1, "Ids", of docs/design/format.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NewType

from blake3 import blake3

from chunkstore.errors import InvalidInputError

ID_SIZE: Final = 32

ChunkId = NewType("ChunkId", bytes)
PackId = NewType("PackId", bytes)
SegmentId = NewType("SegmentId", bytes)
ManifestId = NewType("ManifestId", bytes)
FileHash = NewType("FileHash", bytes)

NO_HASH: Final = FileHash(b"")
"""The hash of what is no file, or is not known yet."""


class ChunkKind(IntEnum):
    """What a chunk holds; the first byte that its id hashes.

    The kind is part of the id, so that nobody's file content can be taken for metadata.
    """

    DATA = 0
    LIST = 1
    PAGE = 2


_KIND_BYTES: Final = {kind: bytes([kind]) for kind in ChunkKind}


def chunk_id(kind: ChunkKind, data: bytes | memoryview) -> ChunkId:
    """Return BLAKE3-256 of the kind byte and the chunk's raw bytes."""
    hasher = blake3(_KIND_BYTES[kind])
    hasher.update(data)
    return ChunkId(hasher.digest())


def chunk_ids(kind: ChunkKind, pieces: Iterable[bytes | memoryview]) -> list[ChunkId]:
    """Return the ids of many chunks of one kind, in order."""
    prefix = _KIND_BYTES[kind]
    ids: list[ChunkId] = []
    for piece in pieces:
        hasher = blake3(prefix)
        hasher.update(piece)
        ids.append(ChunkId(hasher.digest()))
    return ids


def content_hash(buffers: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """Return BLAKE3-256 of the joined buffers: the id of a pack, segment or manifest."""
    hasher = blake3()
    for buffer in buffers:
        hasher.update(buffer)
    return hasher.digest()


def short(identifier: bytes) -> str:
    """Return the first 12 hex digits, for tables and logs."""
    return identifier[:6].hex()


_HEX_ID: Final = re.compile(r"[0-9a-f]{64}")


def parse_id(text: str) -> bytes:
    """Return the 32 bytes of a whole id in lower-case hex.

    Raises:
        InvalidInputError: not 64 lower-case hex digits.
    """
    if not _HEX_ID.fullmatch(text):
        raise InvalidInputError(f"not an id (64 lower-case hex digits): {text!r}")
    return bytes.fromhex(text)
