"""The packs of a view by number, and whether they exist: by HEAD where few are asked, else by LIST.

As columns, one row a pack: 20,000 packs, which 10 million chunks need, take 1 MB. A pack that two
segments list has two numbers. Stands on `objects`; `chunk_index` asks.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import IdArray, U32Array
from chunkstore.ids import ID_SIZE, PackId
from chunkstore.objects import Objects

IntArray: TypeAlias = npt.NDArray[np.int64]

ABSENT: Final = -1

_HEADS: Final = 3
_PACKS_A_HEAD: Final = 1000
"""A LIST has a request for each thousand packs, so up to as many HEADs cost no more."""

_UNKNOWN, _ALIVE, _GONE = 0, 1, 2


class PackTable:
    """Packs of loaded segments. Not thread-safe."""

    def __init__(self, objects: Objects, condemned: Collection[PackId] = ()) -> None:
        """Begin without packs; those that are condemned count as gone."""
        self._objects = objects
        self._condemned = np.array(sorted(condemned), f"S{ID_SIZE}")
        self._bases: list[int] = []
        self._parts: list[tuple[IdArray, U32Array, U32Array]] = []
        self._states = np.zeros(0, np.int8)
        self._heads = 0
        self._unique: tuple[IdArray, IntArray, IntArray] | None = None

    def __len__(self) -> int:
        return len(self._states)

    def add(self, ids: IdArray, lengths: U32Array, directories: U32Array, *, alive: bool) -> int:
        """Number the packs of a segment; return the first one's number, the others follow it.

        With `alive` they are known to exist; else that is found out when one is asked for.
        """
        base = len(self._states)
        states = np.full(len(ids), _ALIVE if alive else _UNKNOWN, np.int8)
        states[np.isin(ids, self._condemned)] = _GONE
        self._states = np.concatenate((self._states, states))
        self._bases.append(base)
        self._parts.append((ids, lengths, directories))
        self._unique = None
        return base

    def hint(self, number: int) -> PackHint:
        """Return the pack with that number."""
        part = bisect.bisect_right(self._bases, number) - 1
        (ids, lengths, directories), row = self._parts[part], number - self._bases[part]
        pack = PackId(ids[row : row + 1].tobytes())
        return PackHint(pack, int(lengths[row]), int(directories[row]))

    def numbers(self, packs: Sequence[PackId]) -> IntArray:
        """Return a number of each pack, existing or not, or ABSENT where none is known: (n,)."""
        ids, first, _ = self._table()
        wanted = np.array(packs, f"S{ID_SIZE}")
        if not len(ids):
            return np.full(len(wanted), ABSENT, np.int64)
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        return np.where(ids[at] == wanted, first[at], ABSENT)

    def all_numbers(self, packs: Collection[PackId]) -> IntArray:
        """Return every number of these packs."""
        if not packs or not self._parts:
            return np.zeros(0, np.int64)
        joined = np.concatenate([ids for ids, _, _ in self._parts])
        return np.flatnonzero(np.isin(joined, np.array(sorted(packs), f"S{ID_SIZE}")))

    def exist(self, numbers: IntArray) -> npt.NDArray[np.bool_]:
        """Return for each of n numbers whether the pack exists with its length, uncondemned."""
        unasked = np.unique(numbers[self._states[numbers] == _UNKNOWN]).tolist()
        affordable = max(_HEADS, len(self._states) // _PACKS_A_HEAD)
        if unasked and self._heads + len(unasked) > affordable:
            self._list()
        else:
            self._heads += len(unasked)
            for number in unasked:
                pack = self.hint(number)
                exists = self._objects.pack_length(pack.pack_id) == pack.length
                self._states[number] = _ALIVE if exists else _GONE
        alive: npt.NDArray[np.bool_] = self._states[numbers] == _ALIVE
        return alive

    def _table(self) -> tuple[IdArray, IntArray, IntArray]:
        """Return the different ids, sorted, the first number of each, and each number's id."""
        if self._unique is None:
            joined = np.concatenate([np.zeros(0, f"S{ID_SIZE}"), *(p[0] for p in self._parts)])
            self._unique = np.unique(joined, return_index=True, return_inverse=True)
        return self._unique

    def _list(self) -> None:
        """Settle for every pack whether it exists, by one LIST, which is not kept."""
        ids, _, inverse = self._table()
        listed = np.full(len(ids), ABSENT, np.int64)
        for batch in _batches(self._objects.list_packs(), 1000):
            seen = np.array([pack for pack, _ in batch], f"S{ID_SIZE}")
            at = np.minimum(np.searchsorted(ids, seen), len(ids) - 1)
            known = ids[at] == seen
            listed[at[known]] = np.array([length for _, length in batch])[known]
        exist = listed[inverse] == np.concatenate([lengths for _, lengths, _ in self._parts])
        settled = np.where(exist, _ALIVE, _GONE).astype(np.int8)
        self._states = np.where(self._states == _UNKNOWN, settled, self._states)


def _batches(items: Iterator[tuple[PackId, int]], size: int) -> Iterator[list[tuple[PackId, int]]]:
    while batch := list(itertools.islice(items, size)):
        yield batch
