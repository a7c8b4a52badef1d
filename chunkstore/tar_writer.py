"""The files of a version out as a tar stream: ustar headers, with pax where they do not suffice.

Reads back by `tar_reader`, GNU tar, bsdtar and Python. Owners are left out, as versions have none.
"""

from __future__ import annotations

import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias

from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.stream import GROUP_SIZE, FileContent, read_whole

Block: TypeAlias = bytes | memoryview
Content: TypeAlias = tuple[Entry, FileContent | None]
Readable: TypeAlias = tuple[Entry, Iterable[Block] | None]

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK
_SMALL: Final = 1024 * 1024
"""Files up to this are read together; larger ones are read ahead one by one."""

_MOST_AT_ONCE: Final = 1024
_BATCHES_AHEAD: Final = 2


def tar_blocks(contents: Iterable[Content]) -> Iterator[Block]:
    """Yield a tar archive of what `Store.contents` yields, some bytes at a time.

    Raises:
        IntegrityError: bytes are damaged or missing; what was yielded is no whole archive.
    """
    length = 0
    for entry, blocks in with_bytes(contents):
        header = _header(entry)
        yield header
        length += len(header)
        if blocks is not None:
            yield from blocks
            padding = -entry.size % _BLOCK
            yield bytes(padding)
            length += entry.size + padding
    length += 2 * _BLOCK
    yield bytes(2 * _BLOCK + -length % _RECORD)


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


def with_bytes(contents: Iterable[Content]) -> Iterator[Readable]:
    """Yield entries with their bytes; small files are read together, and ahead in a thread.

    Raises:
        IntegrityError: bytes are damaged or missing; what was yielded is not all.
    """
    ahead: deque[Future[list[Readable]]] = deque()
    with ThreadPoolExecutor(1, "chunkstore-small") as pool:
        try:
            for batch in _batches(contents):
                ahead.append(pool.submit(_read_batch, batch))
                if len(ahead) > _BATCHES_AHEAD:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _batches(contents: Iterable[Content]) -> Iterator[list[Content]]:
    """Divide entries where enough is to be read at once; a large file ends a batch."""
    batch: list[Content] = []
    size = 0
    for entry, content in contents:
        batch.append((entry, content))
        size += entry.size
        if size >= GROUP_SIZE or len(batch) == _MOST_AT_ONCE:
            yield batch
            batch, size = [], 0
    yield batch


def _read_batch(batch: Sequence[Content]) -> list[Readable]:
    small = [content for _, content in batch if content is not None and content.size <= _SMALL]
    data = iter(read_whole(small))
    found: list[Readable] = []
    for entry, content in batch:
        if content is None:
            found.append((entry, None))
        elif content.size <= _SMALL:
            found.append((entry, (next(data),)))
        else:
            found.append((entry, content.blocks(0, content.size)))
    return found
