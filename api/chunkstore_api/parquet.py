"""The first rows of a Parquet file, read by a process of its own.

The reader of that format is a large library in C++, which hostile bytes may bring to ask for any
memory or time. So a child reads them, with bounds on both and nothing of the server's environment;
what it needs of the file it asks for by offset and length, and gets verified bytes. Where pyarrow
is not installed there are no rows. Neighbour: `web`, which shows them.

Run as a program this module is the child. It speaks over its standard streams: `R`, an offset and
a length ask for bytes, `D`, nothing and a length precede the rows as JSON.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from chunkstore.stream import FileContent

MOST_ROWS: Final = 100
MOST_COLUMNS: Final = 50
LONGEST_CELL: Final = 200
_MOST_BYTES: Final = 64 << 20  # of the file
_MOST_MEMORY: Final = 1 << 30
_MOST_SECONDS: Final = 10
_MOST_WAIT: Final = 2  # seconds for a turn: who waits holds a thread of the server
_MOST_ANSWER: Final = 8 << 20
_AT_ONCE: Final = threading.BoundedSemaphore(2)
_SIZE: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">cQQ")
_VARIABLES: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Rows:
    """What was read.

    Attributes:
        columns: names and types, at most 50.
        rows: at most 100, as text.
        count: how many rows the file says that it has.
        whole: whether these are all rows and columns.
    """

    columns: list[str]
    rows: list[list[str]]
    count: int
    whole: bool


def first_rows(content: FileContent) -> Rows | None:
    """Return the first rows of a file; None where it is none, too large or not to be read now.

    Raises:
        IntegrityError: bytes of the file are damaged or missing.
        BackendError: the storage failed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        return None
    if not _AT_ONCE.acquire(timeout=_MOST_WAIT):
        return None
    try:
        with _child() as line, contextlib.suppress(EOFError):
            return _checked(_served(line, content))
    finally:
        _AT_ONCE.release()
    return None


class _Line:
    """What goes to and comes from the process, until a time has passed."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._until = time.monotonic() + _MOST_SECONDS

    def send(self, data: bytes) -> None:
        """Send all of some bytes, or raise EOFError."""
        try:
            self._end.settimeout(self._left())
            self._end.sendall(data)
        except OSError as error:
            raise EOFError from error

    def take(self, length: int) -> bytes:
        """Return just so many bytes, or raise EOFError."""
        data = bytearray()
        while len(data) < length:
            try:
                self._end.settimeout(self._left())
                part = self._end.recv(min(length - len(data), 1 << 20))
            except OSError as error:
                raise EOFError from error
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise EOFError
        return left


@contextlib.contextmanager
def _child() -> Iterator[_Line]:
    """Give the line to the process, which is gone afterwards."""
    variables = {**_VARIABLES, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(  # noqa: S603  # this module
                [sys.executable, "-m", __name__],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env=variables,
            )
        try:
            yield _Line(ours)
        finally:
            child.kill()
            child.wait()


def _served(line: _Line, content: FileContent) -> bytes:
    """Answer what the process asks for; return what it found.

    Raises:
        EOFError: it ended, takes too long or asks for too much.
    """
    line.send(_SIZE.pack(content.size))
    left = _MOST_BYTES
    while True:
        what, offset, length = _HEAD.unpack(line.take(_HEAD.size))
        if what == b"D" and length <= _MOST_ANSWER:
            return line.take(length)
        left -= length
        if what != b"R" or left < 0 or offset + length > content.size:
            raise EOFError
        line.send(content.read(offset, offset + length))


def _checked(answer: bytes) -> Rows | None:
    """Return what a process found, which may have been taken over by what it read."""
    try:
        found = json.loads(answer)
        columns = [str(name)[: LONGEST_CELL + 1] for name in found["columns"]][:MOST_COLUMNS]
        rows = [
            [str(cell)[: LONGEST_CELL + 1] for cell in row][: len(columns)]
            for row in found["rows"][:MOST_ROWS]
        ]
        if not columns or any(len(row) != len(columns) for row in rows):
            return None
        return Rows(columns, rows, int(found["count"]), found["whole"] is True)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


# the process


class _Asked(io.RawIOBase):
    """The file, asked for from whoever started this process."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        sys.stdout.buffer.write(_HEAD.pack(b"R", self._at, end - self._at))
        sys.stdout.buffer.flush()
        data = sys.stdin.buffer.read(end - self._at)
        self._at = end
        return data


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parquet: Any = importlib.import_module("pyarrow.parquet")
    (size,) = _SIZE.unpack(sys.stdin.buffer.read(_SIZE.size))
    file = parquet.ParquetFile(_Asked(size), pre_buffer=False, buffer_size=1 << 16)
    schema = file.schema_arrow
    names = list(dict.fromkeys(schema.names))[:MOST_COLUMNS]
    batches = file.iter_batches(MOST_ROWS, columns=names, use_threads=False)
    batch = next(batches, None)
    columns = [column.to_pylist() for column in batch.columns] if batch is not None else []
    rows = [[_cell(cell) for cell in row] for row in zip(*columns, strict=True)]
    whole = len(rows) == file.metadata.num_rows and len(names) == len(schema.names)
    found = {
        "columns": [f"{name} ({schema.field(name).type})" for name in names],
        "rows": rows,
        "count": file.metadata.num_rows,
        "whole": whole,
    }
    answer = json.dumps(found).encode()
    sys.stdout.buffer.write(_HEAD.pack(b"D", 0, len(answer)) + answer)
    sys.stdout.buffer.flush()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


if __name__ == "__main__":
    _main()
