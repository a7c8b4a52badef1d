"""Stretches of a version on their way to the pager: what is scattered in them is stored again.

A stretch is about what a pull fetches at once. Its entries wait here until it is full; then
`fragmentation` says which of its chunks lie too scattered, those are read from the store and packed
once more, and the entries go on with the places where their chunks lie now. Only stretches with new
chunks are looked at: the others are as the version before left them. One thread calls.
Neighbours: `ingest` gives the entries, `chunk_writer` packs the chunks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from chunkstore.chunk_index import ABSENT, ChunkIndex, Places
from chunkstore.errors import IntegrityError
from chunkstore.fragmentation import (
    STRETCH_CHUNKS,
    STRETCH_FILES,
    STRETCH_SIZE,
    IntArray,
    to_store_again,
)
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind
from chunkstore.limits import MIB
from chunkstore.objects import Objects
from chunkstore.reader import Reader
from chunkstore.spans import Wanted

log = logging.getLogger(__name__)

LEAST_SIZE: Final = 4 * MIB
"""A shorter stretch is a few frames anyhow; so small pushes need no more requests than before."""

_WINDOW: Final = 8 * MIB
"""Raw bytes that are held so as to be packed in the order of the version, not that of old packs."""

_FETCHERS: Final = 2
"""Spans that are read at a time of what is stored again; each takes up to 6 MB."""

_OFFSET_BITS: Final = 28  # offsets are below limits.MAX_PACK_LENGTH


class Again(Protocol):
    """What stores a chunk again."""

    def __call__(
        self, identifier: ChunkId, label: str, data: bytes | None, size: int, stored: float
    ) -> int:
        """Pack `data`, None in a dry run, of about `stored` stored bytes; return their place."""


@dataclass(slots=True)
class _Part:
    """Chunks of one file or of one page.

    Attributes:
        ids: gives joined ids, each with the label that their stored bytes count for.
        places: where they lie; None where `into` has that already, and of nothing else.
        into: the places of the whole file or page.
    """

    ids: Callable[[], Sequence[tuple[bytes, str]]]
    places: Sequence[int] | None
    into: set[int]


@dataclass(slots=True)
class _Open:
    parts: list[_Part] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    chunks: int = 0
    files: int = 0
    size: int = 0
    new: int = 0  # raw bytes


class Stretches:
    """Cuts a version into stretches as it passes."""

    def __init__(
        self,
        index: ChunkIndex,
        read: Callable[[bytes], Iterator[tuple[int, bytes]]] | None,
        again: Again,
        on_its_way: Callable[[ChunkId], int | None],
    ) -> None:
        """`read` yields (row, bytes) of joined ids in any order; None in a dry run.

        `on_its_way` gives the place of a chunk that this push has packed and not yet indexed.
        """
        self._index = index
        self._read = read
        self._again = again
        self._on_its_way = on_its_way
        self._open = _Open()

    def chunks(
        self,
        ids: Sequence[ChunkId],
        places: Sequence[int],
        into: set[int],
        label: str,
        size: int,
        new: int,
    ) -> None:
        """Take chunks of a file, of `size` bytes, `new` of them new; `into` gets their places."""
        self._open.parts.append(_Part(lambda: [(b"".join(ids), label)], places, into))
        self._open.chunks += len(ids)
        self._open.size += size
        self._open.new += new

    def known(
        self,
        ids: Callable[[], Sequence[tuple[bytes, str]]],
        length: int,
        into: set[int],
        size: int,
    ) -> None:
        """Take chunks of what has not changed, which lie at the places `into`.

        `ids` gives joined ids and labels, about `length` bytes, for who needs them.
        """
        self._open.parts.append(_Part(ids, None, into))
        self._open.chunks += length // ID_SIZE
        self._open.size += size

    def then(self, go_on: Callable[[], None], files: int) -> None:
        """Have `go_on` called, in order, once the places of all that came before are settled."""
        self._open.waiting.append(go_on)
        self._open.files += files

    @property
    def full(self) -> bool:
        """Whether it is time to `close` a stretch."""
        stretch = self._open
        return (
            stretch.chunks >= STRETCH_CHUNKS
            or stretch.files >= STRETCH_FILES
            or stretch.size >= STRETCH_SIZE
        )

    def close(self) -> None:
        """End a stretch: store again what lies scattered, let go what waits."""
        stretch, self._open = self._open, _Open()
        if stretch.new and stretch.size >= LEAST_SIZE:
            self._gather(stretch)
        for part in stretch.parts:
            part.into.update(part.places or ())
        for go_on in stretch.waiting:
            go_on()

    def _gather(self, stretch: _Open) -> None:
        given = [part.ids() for part in stretch.parts]
        labels = [
            label for files in given for own, label in files for _ in range(0, len(own), ID_SIZE)
        ]
        joined = b"".join(own for files in given for own, _ in files)
        ids, first, chunk_of = np.unique(
            np.frombuffer(joined, f"S{ID_SIZE}"), return_index=True, return_inverse=True
        )
        found = self._index.locate(ids.tobytes())
        places = found.packs.copy()
        for row, at in enumerate(first.tolist()):
            place = self._on_its_way(_id(joined, at))
            if place is not None:
                places[row] = place
        rows = self._scattered(found, places, stretch.new)
        if not len(rows):
            return
        rows = rows[np.argsort(first[rows])]
        ends = np.cumsum([sum(len(own) for own, _ in files) // ID_SIZE for files in given])
        moved = np.zeros(len(ids), bool)
        chosen = [(_id(joined, at), labels[at]) for at in first[rows].tolist()]
        moved[rows] = self._store_again(chosen, rows, found, places)
        for part, own in zip(stretch.parts, np.split(chunk_of, ends[:-1]), strict=True):
            if moved[own].any() and ABSENT not in places[own]:
                if part.places is None:
                    part.into.clear()
                part.places = places[own].tolist()

    def _scattered(self, found: Places, places: IntArray, new: int) -> IntArray:
        """Return the rows of chunks to be stored again: (m,)."""
        old = np.flatnonzero((places == found.packs) & (places != ABSENT))
        sizes = found.sizes[old]
        if not len(old):
            return old
        lengths = found.frame_lengths[old]
        shares = _shares(found)[old]
        frames = (found.packs[old] << _OFFSET_BITS) + found.frame_offsets[old]
        density = shares.sum() / sizes.sum()
        return old[to_store_again(frames, lengths, shares, new * density)]

    def _store_again(
        self, chosen: list[tuple[ChunkId, str]], rows: IntArray, found: Places, places: IntArray
    ) -> list[bool]:
        """Store the chunks in `rows` again, with those ids and labels; note their new places.

        Returns which it were: one that cannot be read stays where it is.
        """
        sizes, stored = found.sizes[rows].tolist(), _shares(found)[rows].tolist()
        windows = np.cumsum(found.sizes[rows]) // _WINDOW
        done = [False] * len(rows)
        for window in np.unique(windows).tolist():
            members = np.flatnonzero(windows == window).tolist()
            data: dict[int, bytes] = {}
            if self._read is not None:
                try:
                    data.update(self._read(b"".join(chosen[member][0] for member in members)))
                except IntegrityError as error:
                    log.warning("scattered chunks stay where they are: %s", error)
            for at, member in enumerate(members):
                if self._read is None or at in data:
                    places[rows[member]] = self._again(
                        *chosen[member], data.get(at), sizes[member], stored[member]
                    )
                    done[member] = True
        return done


def _id(joined: bytes, at: int) -> ChunkId:
    return ChunkId(joined[at * ID_SIZE : (at + 1) * ID_SIZE])


def _shares(found: Places) -> np.ndarray:
    """Return each chunk's part of the stored bytes of its frame: (n,)."""
    return found.sizes * found.frame_lengths / np.maximum(found.frame_sizes, 1)


def read_chunks(objects: Objects, index: ChunkIndex, ids: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (row, verified bytes) of chunks that the view has, in any order.

    Raises:
        MissingObjectError, CorruptObjectError: a chunk of which no good copy is left.
    """
    reader = Reader(objects, lambda: index)
    wanted = Wanted(ChunkKind.DATA, ids, ())
    with ThreadPoolExecutor(_FETCHERS, "chunkstore-again") as pool:
        for span in pool.map(
            lambda span: [(row, bytes(data)) for row, data in reader.read(span, wanted)],
            reader.plan(wanted),
        ):
            yield from span
