"""The collector's state as writers must know it: is it at work, and which packs are condemned.

Implements section 11, "Collector's objects", of docs/design/format.md. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from chunkstore import limits
from chunkstore.format.document import (
    DocumentKind,
    corrupt,
    decode_document,
    encode_document,
    is_extended,
)
from chunkstore.ids import ID_SIZE, PackId

GC_STATE: Final = DocumentKind(
    "gc state", b"CSGC", 1, limits.MAX_GC_LENGTH, sealed=True, extended=2
)
CONDEMNED: Final = DocumentKind(
    "condemned list", b"CSCL", 1, limits.MAX_CONDEMNED_LENGTH, sealed=True
)

_MOST: Final = (1 << 63) - 1
_CONDEMNED_KEY: Final = re.compile(r"gc/condemned/[0-9A-Za-z_-]{1,255}")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many objects a collection left, at least; only another one makes them fewer."""

    refs: int
    packs: int
    manifests: int


@dataclass(frozen=True, slots=True)
class GcState:
    """What `gc/current` says.

    Attributes:
        generation: how many collections began.
        condemned: the key of the condemned list while a collection deletes, "" when idle.
        left: what the last collection left that came to its end, None where there was none.
    """

    generation: int
    condemned: str
    left: Counts | None = None


IDLE: Final = GcState(0, "")
"""The state of a store that was never collected and has no `gc/current`."""


def encode_gc_state(state: GcState) -> bytes:
    """Return the bytes of `gc/current`: of version 2 only where there are counts to keep."""
    if state.left is None:
        return encode_document(GC_STATE, [state.generation, state.condemned])
    counts = [state.left.refs, state.left.packs, state.left.manifests]
    return encode_document(GC_STATE, [state.generation, state.condemned, counts], extended=True)


def decode_gc_state(data: bytes, where: str) -> GcState:
    """Return the state that `data` holds.

    Raises:
        CorruptObjectError: not a gc state.
        UnsupportedFormatError: one of another format version.
    """
    fields = decode_document(GC_STATE, data, where)
    counted = is_extended(GC_STATE, data)
    fields.record(3 if counted else 2)
    generation, condemned, left = fields.integer(0, _MOST), fields.text(1024), None
    if counted:
        fields.record(3)
        left = Counts(*(fields.integer(0, _MOST) for _ in range(3)))
    fields.end()
    state = GcState(generation, condemned, left)
    if state.condemned and not _CONDEMNED_KEY.fullmatch(state.condemned):
        corrupt("it names a condemned list by what is no key of one", where)
    return state


def encode_condemned(packs: Collection[PackId]) -> bytes:
    """Return the bytes of a condemned list."""
    return encode_document(CONDEMNED, [b"".join(sorted(packs))])


def decode_condemned(data: bytes, where: str) -> frozenset[PackId]:
    """Return the condemned packs.

    Raises:
        CorruptObjectError: not a condemned list.
        UnsupportedFormatError: one of another format version.
    """
    fields = decode_document(CONDEMNED, data, where)
    fields.record(1)
    joined = fields.bounded_binary(limits.MAX_CONDEMNED_LENGTH)
    fields.end()
    if len(joined) % ID_SIZE:
        corrupt("the packs are not whole ids", where)
    ids = np.frombuffer(joined, f"S{ID_SIZE}")
    if not bool((ids[:-1] < ids[1:]).all()):
        corrupt("the packs are not in ascending order", where)
    return frozenset(PackId(joined[at : at + ID_SIZE]) for at in range(0, len(joined), ID_SIZE))
