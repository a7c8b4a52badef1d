"""stdout and stderr that take all of what is written, or say that they do not.

What Python makes of them drops the rest of a write that is cut short without a word where
PYTHONUNBUFFERED is set: as a disk fills up, or where another program made the stream one that does
not block. Neighbours: `main` puts them in place, `output` writes.
"""

from __future__ import annotations

import io
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Whole(io.FileIO):
    """A file of which every write is whole."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all, waiting for who reads.

        Raises:
            OSError: not all could be written.
        """
        left = memoryview(data).cast("B")
        length = len(left)
        while left:
            written: int | None = super().write(left)
            if written is None:  # it does not block, and is full
                waiting = select.poll()
                waiting.register(self, select.POLLOUT)
                waiting.poll()
            else:
                left = left[written:]
        return length


def whole(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return the same stream with whole writes, and with escapes for what it cannot say."""
    file = _Whole(stream.fileno(), "wb", closefd=False)
    is_raw = isinstance(stream.buffer, io.RawIOBase)
    return io.TextIOWrapper(
        file if is_raw else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=is_raw,
    )
