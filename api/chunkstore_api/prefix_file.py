"""Sorted prefixes of ids in a mapped file: is an id among them, in little memory.

    magic, u32 M, u64 N | M names of 32 bytes | N prefixes of 16 bytes | BLAKE3 of all before

16 bytes do: two chunks of one prefix would take 2^128 tries to find for a given one. Neighbour:
`readable` says what the prefixes and names are of.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import secrets
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chunkstore.id_runs import contained, short_ids
from chunkstore.ids import ID_SIZE

log = logging.getLogger(__name__)

Mask: TypeAlias = npt.NDArray[np.bool_]
Prefixes: TypeAlias = npt.NDArray[np.bytes_]

_MAGIC: Final = b"CSRS\x01\0\0\0"
_HEAD: Final = struct.Struct("<8sIQ")
_SUM: Final = 32
_PREFIX: Final = 16
_DTYPE: Final = f"S{_PREFIX}"
_ROWS: Final = 1 << 18
_TEMPORARY: Final = ".tmp"


@dataclass(frozen=True, slots=True)
class PrefixFile:
    """What stands in such a file.

    Attributes:
        names: of what the ids are.
        prefixes: of the ids, ascending: `S16` (n,).
    """

    names: frozenset[bytes]
    prefixes: Prefixes

    def contains(self, ids: bytes) -> Mask:
        """Return for each of n joined ids whether it is there: (n,)."""
        return contained(short_ids(ids), self.prefixes)


EMPTY: Final = PrefixFile(frozenset(), np.zeros(0, _DTYPE))


def write(
    path: str | None,
    names: Callable[[], Sequence[bytes]],
    old: Prefixes,
    added: Iterator[bytes],
) -> PrefixFile:
    """Write the prefixes `old` and those of `added`, joined ids in any order, and return the file.

    `names` is called once `added` has come to its end.
    Sorts and joins in files; memory does not grow with them. Without a path it has no name, nor
    where it cannot be written there.

    Raises:
        OSError: there is no room in the system's folder for temporary files either.
    """
    with tempfile.TemporaryFile(prefix="chunkstore-") as collected:
        for ids in added:
            collected.write(short_ids(ids).tobytes())
        collected.flush()
        new = _sorted(collected)
        if path is not None:
            try:
                return _named(path, names(), old, new)
            except OSError as error:
                log.warning("cannot keep what is readable in %s: %s", path, error)
        with tempfile.TemporaryFile(prefix="chunkstore-") as file:
            return _filled(file, names(), old, new)


def _named(path: str, names: Sequence[bytes], old: Prefixes, new: Prefixes) -> PrefixFile:
    temporary = f"{path}.{secrets.token_hex(8)}{_TEMPORARY}"
    try:
        with open(temporary, "w+b") as file:
            found = _filled(file, names, old, new)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return found


def read(path: str) -> PrefixFile | None:
    """Return what a file holds, all of it hashed, or None where it is none, or damaged."""
    try:
        with open(path, "rb") as file:
            os.utime(file.fileno())  # used now: `trim` removes what was not used for longest
            return _opened(file)
    except (OSError, ValueError):
        return None


def trim(folder: str, bound: int) -> None:
    """Remove what was not used for longest, down to a bound in bytes."""
    files = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process may trim at the same time
                files.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > bound:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _sorted(file: BinaryIO) -> Prefixes:
    length = file.seek(0, os.SEEK_END)
    if not length:
        return EMPTY.prefixes
    rows = np.frombuffer(mmap.mmap(file.fileno(), length), _DTYPE)
    rows.sort()
    return rows


def _filled(file: BinaryIO, names: Sequence[bytes], old: Prefixes, new: Prefixes) -> PrefixFile:
    count = 0
    file.write(bytes(_HEAD.size) + b"".join(names))
    for block in _merged(old, new):
        file.write(block.tobytes())
        count += len(block)
    file.seek(0)
    file.write(_HEAD.pack(_MAGIC, len(names), count))
    file.seek(0)
    hasher = blake3()
    while data := file.read(1 << 20):
        hasher.update(data)
    file.write(hasher.digest())
    file.flush()
    found = _opened(file)
    assert found is not None
    return found


def _merged(old: Prefixes, new: Prefixes) -> Iterator[Prefixes]:
    """Yield the different ones of two sorted columns, sorted, in blocks."""
    large, small = (old, new) if len(old) > len(new) else (new, old)
    taken = 0
    last: bytes | None = None
    for start in range(0, len(large), _ROWS):
        end = min(start + _ROWS, len(large))
        until = len(small) if end == len(large) else int(np.searchsorted(small, large[end]))
        block = np.unique(np.concatenate((large[start:end], small[taken:until])))
        taken = until
        block = block[1:] if last is not None and block[0] == last else block
        if len(block):
            last = block[-1]
            yield block


def _opened(file: BinaryIO) -> PrefixFile | None:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = memoryview(data)
    if len(view) < _HEAD.size + _SUM or blake3(view[:-_SUM]).digest() != view[-_SUM:]:
        return None
    magic, names, count = _HEAD.unpack(view[: _HEAD.size])
    at = _HEAD.size + names * ID_SIZE
    if magic != _MAGIC or at + count * _PREFIX + _SUM != len(view):
        return None
    rows = range(_HEAD.size, at, ID_SIZE)
    found = frozenset(bytes(view[row : row + ID_SIZE]) for row in rows)
    return PrefixFile(found, np.frombuffer(data, _DTYPE, count, at))
