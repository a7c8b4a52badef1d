"""Which kind of object a key is that of, and how long one may be that a client sends. Pure.

`chunkstore.layout` says how keys are made. Implements the table of kinds of
docs/reference/protocol.md.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from chunkstore import layout, limits
from chunkstore.ids import ChunkId, ChunkKind


class Kind(Enum):
    """What is stored under a key."""

    CONFIG = auto()
    PACK = auto()
    SEGMENT = auto()
    MANIFEST = auto()
    REF = auto()
    GC_CURRENT = auto()
    CONDEMNED = auto()
    NOTE = auto()
    CHUNK = auto()
    """A single chunk, which no storage has under a key of its own."""

    @property
    def immutable(self) -> bool:
        """Whether what has such a key is never replaced."""
        return self not in (Kind.REF, Kind.GC_CURRENT)


MAX_SEGMENT_LENGTH: Final = 32 * limits.MIB
"""A segment is compared with the directories of its packs, all of which are in memory."""

LONGEST: Final = {
    Kind.PACK: limits.MAX_PACK_LENGTH,
    Kind.SEGMENT: MAX_SEGMENT_LENGTH,
    Kind.MANIFEST: limits.MAX_MANIFEST_LENGTH,
    Kind.REF: limits.MAX_REF_LENGTH,
    Kind.GC_CURRENT: limits.MAX_GC_LENGTH,
    Kind.CONDEMNED: limits.MAX_CONDEMNED_LENGTH,
}
"""Bytes of an object that a client may send, for each kind that it may."""

_CHUNK: Final = re.compile(r"chunks/(data|list|page)/([0-9a-f]{64})")
_CONDEMNED: Final = re.compile(r"gc/condemned/[0-9A-Za-z_-]{1,255}")


def chunk_of(key: str) -> tuple[ChunkKind, ChunkId] | None:
    """Return the chunk that has a key, None where it is no chunk's."""
    match = _CHUNK.fullmatch(key)
    return (ChunkKind[match[1].upper()], ChunkId(bytes.fromhex(match[2]))) if match else None


def kind_of(key: str) -> Kind | None:
    """Return the kind of object that has a key, None where no object of a store has it."""
    if key == layout.CONFIG:
        return Kind.CONFIG
    if key == layout.GC_CURRENT:
        return Kind.GC_CURRENT
    if layout.pack_of(key):
        return Kind.PACK
    if layout.segment_of(key):
        return Kind.SEGMENT
    if layout.manifest_of(key):
        return Kind.MANIFEST
    if layout.dataset_of(key):
        return Kind.REF
    if layout.note_of(key):
        return Kind.NOTE
    if chunk_of(key):
        return Kind.CHUNK
    return Kind.CONDEMNED if _CONDEMNED.fullmatch(key) else None
