"""The files of a version out as a tar stream: ustar headers, with pax where they do not suffice.

Reads back by `tar_reader`, GNU tar, bsdtar and Python. Owners are left out, as versions have none.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import Final

from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.stream import FileContent

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK
_SMALL: Final = 1024 * 1024
"""Files up to this are read at once, without threads that read ahead."""


def tar_blocks(
    contents: Iterable[tuple[Entry, FileContent | None]],
) -> Iterator[bytes | memoryview]:
    """Yield a tar archive of what `Store.contents` yields, some bytes at a time.

    Raises:
        IntegrityError: bytes are damaged or missing; what was yielded is no whole archive.
    """
    length = 0
    for entry, content in contents:
        header = _header(entry)
        yield header
        length += len(header)
        if content is not None:
            yield from read_all(content)
            padding = -entry.size % _BLOCK
            yield bytes(padding)
            length += entry.size + padding
    length += 2 * _BLOCK
    yield bytes(2 * _BLOCK + -length % _RECORD)


def read_all(content: FileContent) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file, reading ahead where it is a large one."""
    if content.size <= _SMALL:
        return iter([content.read(0, content.size)])
    return content.blocks(0, content.size)


def _header(entry: Entry) -> bytes:
    member = tarfile.TarInfo(entry.path)
    member.mode = 0o755 if entry.executable or entry.kind == EntryKind.FOLDER else 0o644
    member.mtime = entry.mtime_ns // 10**9
    if entry.mtime_ns % 10**9:
        seconds, rest = divmod(entry.mtime_ns, 10**9)
        sign = "-" if seconds < 0 else ""
        if seconds < 0:  # the decimal counts towards zero
            seconds, rest = -seconds - 1, 10**9 - rest
        member.pax_headers = {"mtime": f"{sign}{seconds}.{rest:09}"}
    if entry.kind == EntryKind.LINK:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
    elif entry.kind == EntryKind.FOLDER:
        member.type = tarfile.DIRTYPE
    else:
        member.size = entry.size
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
