"""The files of a version as a zip stream: stored as they are, zip64 where it must be.

A zip ends with a list of all its files, which is kept until then: about 1 KB each.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.stream import FileContent
from chunkstore.tar_writer import with_bytes

_FIRST: Final = (1980, 1, 1, 0, 0, 0)  # the times that a zip can say
_LAST: Final = (2107, 12, 31, 23, 59, 58)


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def zip_blocks(contents: Iterable[tuple[Entry, FileContent | None]]) -> Iterator[bytes]:
    """Yield a zip archive of what `Store.contents` yields, some bytes at a time.

    Raises:
        IntegrityError: bytes are damaged or missing; what was yielded is no whole archive.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for entry, blocks in with_bytes(contents):
            info = _info(entry)
            if blocks is None:
                archive.writestr(info, entry.target.encode())
                yield sink.take()
                continue
            with archive.open(info, "w", force_zip64=entry.size >= 1 << 31) as member:
                for block in blocks:
                    member.write(block)
                    yield sink.take()
        yield sink.take()
    yield sink.take()


def _info(entry: Entry) -> zipfile.ZipInfo:
    try:
        moment = datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC).timetuple()[:6]
    except (OverflowError, OSError, ValueError):
        moment = _FIRST
    moment = min(max(moment, _FIRST), _LAST) if entry.mtime_ns else _FIRST
    info = zipfile.ZipInfo(entry.path, moment)
    info.create_system = 3  # Unix, whose modes stand in the upper half
    if entry.kind == EntryKind.LINK:
        mode = stat.S_IFLNK | 0o777
    elif entry.kind == EntryKind.FOLDER:
        mode = stat.S_IFDIR | 0o755
    else:
        mode = stat.S_IFREG | (0o755 if entry.executable else 0o644)
    info.external_attr = mode << 16
    return info
