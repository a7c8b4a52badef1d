"""Which packs a collection can do without: what of each pack is alive, and what follows from it.

Entries and live ids are gone through side by side, a range at a time, so memory is bounded by the
number of packs. A live chunk keeps one copy: of several that in the newest pack is taken, which
readers mostly take too, and the others count as dead. Steps G2 and G3 of
docs/design/consistency.md.
Neighbours: `id_runs` and `index_files` below, `gc` above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore.format.pack import IdArray
from chunkstore.id_runs import IdRuns, Mask, contained, id_list
from chunkstore.ids import ChunkId
from chunkstore.index_files import IndexFiles, IntArray, Rows, StoredPacks

MOSTLY_DEAD: Final = 0.5
"""A pack of whose chunks at least this part is dead, by their bytes, is packed again: copying what
is alive then costs no more than it frees."""

MOST_COPIED: Final = 1 << 20
"""Chunks that one run copies out of mostly dead packs: their ids and packs take 40 MB."""

MOST_CONDEMNED: Final = 500_000
"""Packs that one run condemns, at least 15 TB of full ones; the next run takes the others."""

_MOST_MISSING: Final = 1000


@dataclass(slots=True)
class Tally:
    """What is alive in each of P packs.

    Attributes:
        chunks: entries of the pack (P,).
        sizes: raw bytes of these (P,).
        live_chunks: live chunks whose copy here is the one to keep (P,).
        live_sizes: raw bytes of these (P,).
        missing: live chunks that no pack has, a thousand at most.
        missing_count: how many there are.
    """

    chunks: IntArray
    sizes: IntArray
    live_chunks: IntArray
    live_sizes: IntArray
    missing: list[ChunkId] = field(default_factory=list)
    missing_count: int = 0


def kept_copies(index: IndexFiles, live: IdRuns) -> Iterator[tuple[Rows, Mask, IdArray]]:
    """Yield the entries range by range, which of them are kept copies, and live ids without any."""
    for first, end in index.ranges(len(live)):
        rows, wanted = index.rows(first, end), live.between(first, end)
        kept = rows.first_copies() & contained(rows.ids, wanted)
        complete = len(wanted) == int(kept.sum())
        yield rows, kept, wanted[:0] if complete else wanted[~contained(wanted, rows.ids)]


def tally(
    index: IndexFiles, live: IdRuns, on_entries: Callable[[int], object] = lambda _: None
) -> Tally:
    """Count what is alive in each pack; `on_entries` is told how many entries are dealt with."""
    done = 0
    zeros = np.zeros((4, len(index.packs)), np.int64)
    found = Tally(zeros[0], zeros[1], zeros[2], zeros[3])
    for rows, kept, missing in kept_copies(index, live):
        _count(rows, found.chunks, found.sizes)
        alive = Rows(rows.ids[kept], rows.packs[kept], rows.sizes[kept])
        _count(alive, found.live_chunks, found.live_sizes)
        found.missing_count += len(missing)
        done += len(rows.ids)
        on_entries(done)
        room = _MOST_MISSING - len(found.missing)
        found.missing += [ChunkId(chunk) for chunk in id_list(missing[:room])]
    return found


def _count(rows: Rows, chunks: IntArray, sizes: IntArray) -> None:
    packs, at = np.unique(rows.packs, return_inverse=True)
    chunks[packs] += np.bincount(at, minlength=len(packs))
    sizes[packs] += np.bincount(at, rows.sizes, minlength=len(packs)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of the packs, as their numbers; a pack stands in one of these or stays.

    Attributes:
        dead: older than the grace, and nothing in it is needed; ready to be condemned.
        sparse: older than the grace and mostly dead, to be condemned when what is alive was copied.
        young: nothing in it is needed, but it is younger than the grace.
        left: dead or sparse too, but more than one run takes.
    """

    dead: IntArray
    sparse: IntArray
    young: IntArray
    left: IntArray


def choose(packs: StoredPacks, counted: Tally, born_before: float | None) -> Choice:
    """Say what becomes of the packs.

    `born_before` is the latest time, by the storage's clock, of what is old enough, None where all
    is. Packs that are condemned already are in none of the classes.
    """
    here = ~packs.condemned
    old = here if born_before is None else here & (packs.modified <= born_before)
    lifeless = counted.live_chunks == 0
    dead = np.flatnonzero(old & lifeless)
    part = (counted.sizes - counted.live_sizes) / np.maximum(counted.sizes, 1)
    sparse = np.flatnonzero(old & ~lifeless & (part >= MOSTLY_DEAD))
    sparse = sparse[np.argsort(-part[sparse], kind="stable")]
    affordable = np.cumsum(counted.live_chunks[sparse]) <= MOST_COPIED
    affordable &= np.arange(len(sparse)) < MOST_CONDEMNED - len(dead[:MOST_CONDEMNED])
    left = np.concatenate((dead[MOST_CONDEMNED:], sparse[~affordable]))
    young = np.flatnonzero(here & lifeless & ~old)
    return Choice(dead[:MOST_CONDEMNED], np.sort(sparse[affordable]), young, left)


@dataclass(frozen=True, slots=True)
class Copies:
    """Live chunks to be copied out of packs: numbers of packs, ascending, and ids, (n,) each."""

    packs: npt.NDArray[np.int32]
    ids: IdArray


def copies_in(index: IndexFiles, live: IdRuns, chosen: Mask) -> Iterator[Copies]:
    """Yield the kept copies that lie in the `chosen` packs (P,), up to a million at a time."""
    packs: list[npt.NDArray[np.int32]] = []
    ids: list[IdArray] = []
    held = 0
    for rows, kept, _ in kept_copies(index, live):
        here = kept & chosen[rows.packs]
        packs.append(rows.packs[here].astype(np.int32))
        ids.append(rows.ids[here])
        held += len(ids[-1])
        if held >= MOST_COPIED:
            yield _by_pack(packs, ids)
            packs, ids, held = [], [], 0
    if held:
        yield _by_pack(packs, ids)


def _by_pack(packs: list[npt.NDArray[np.int32]], ids: list[IdArray]) -> Copies:
    joined = np.concatenate(packs)
    order = np.argsort(joined, kind="stable")
    return Copies(joined[order], np.concatenate(ids)[order])
