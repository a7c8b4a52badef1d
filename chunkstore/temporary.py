"""Temporary files that have no name, for what is too long for memory.

Neighbours: `id_runs`, `index_files` and `mapped_segment` write them; `caches` says where.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from io import FileIO

from chunkstore.errors import FilesystemError


def temporary_file(folder: str | None) -> FileIO:
    """Return an empty file in `folder`, None for the system's folder of temporary files.

    Raises:
        FilesystemError: none can be made there.
    """
    with _failures():
        return tempfile.TemporaryFile(dir=folder, prefix="chunkstore-", buffering=0)


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of it.

    Raises:
        FilesystemError: it cannot be written, for instance because the disk is full.
    """
    left = memoryview(data)
    with _failures():
        while left:
            left = left[file.write(left) :]


def read_exactly(file: FileIO, length: int, offset: int) -> bytes:
    """Return a range of what was written.

    Raises:
        EOFError: it ends before.
    """
    pieces: list[bytes] = []
    while length:
        piece = os.pread(file.fileno(), length, offset)
        if not piece:
            raise EOFError("a temporary file is shorter than what was written to it")
        pieces.append(piece)
        length, offset = length - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FilesystemError(
            f"cannot write a temporary file: {error.strerror or error}",
            hint="free some room in the cache folder, if one is in use, or set another",
        ) from error
