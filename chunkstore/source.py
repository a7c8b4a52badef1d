"""What is pushed: a folder, a single file or a stream.

Neighbours: `walk` goes through a folder, `slicer` cuts what is found.
"""

from __future__ import annotations

import dataclasses
import io
import os
import select
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Final

from chunkstore.errors import FilesystemError, InvalidInputError, NotFoundError
from chunkstore.filters import PathFilter
from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.format.path import path_problem
from chunkstore.slicer import Slicer, fill_from
from chunkstore.tar_reader import Member, TarReader, refuse
from chunkstore.walk import Found, LeftOut, part_problem, size_of, walk

_MOST_ENTRIES: Final = 1000

MAX_MEMBERS: Final = 1_000_000
"""Members of an archive that is pushed; their entries are sorted in memory, about 1 KB each."""


@dataclass(frozen=True, slots=True)
class Source:
    """One of folder, file and stream.

    Attributes:
        location: the real path of a folder or file, None for a stream.
        file: the single file, or where the stream's bytes shall stand.
        stream: the stream.
        archive: the stream is a tar archive, whose members are pushed.
        unwrap: all in the archive lies in one folder, which is left out; or it is a single file.
        name: path of the single file that the archive is to be, None where it may hold anything.
        stored: a file whose chunks the store has already; what the three say is past then.
    """

    location: str | None
    file: Found | None
    stream: PeekedStream | None
    archive: bool = False
    unwrap: bool = False
    name: str | None = None
    stored: Entry | None = None

    @property
    def repeatable(self) -> bool:
        """Whether the source can be read a second time."""
        return self.stream is None or self.stored is not None

    def as_stored(self, entry: Entry) -> Source:
        """Return the source of which a push has stored everything, as `entry`."""
        return dataclasses.replace(self, stored=entry)

    def slice(self, slicer: Slicer, paths: PathFilter, *, keep: bool) -> None:
        """Have `slicer` cut all of it; `paths` says what of a folder takes part.

        With `keep` a single file or stream joins the files of the version before.
        """
        if self.stored is not None:
            slicer.slice_stored(self.stored)
        elif self.stream is not None:
            assert self.file is not None
            slicer.slice_stream(self.stream, self.file.path, time.time_ns(), keep=keep)
        elif self.file is not None:
            slicer.slice_file(self.file, keep=keep)
        else:
            assert self.location is not None
            slicer.slice_folder(walk(self.location, paths))

    def gather(self, slicer: Slicer) -> list[Member]:
        """Have `slicer` cut the files of an archive; return its other members.

        Raises:
            InvalidInputError: not an archive, or one with what no version can hold.
        """
        assert self.stream is not None
        others: list[Member] = []
        reader = TarReader(self.stream, self.unwrap)
        for member in reader if self.name is None else _called(self.name, reader):
            if reader.members > MAX_MEMBERS:
                refuse(f"it has more than {MAX_MEMBERS:,} members")
            if member.content is None:
                others.append(member)
            else:
                slicer.cut_apart(member)
        slicer.flush()
        return others

    def chosen(self, paths: PathFilter, store: str) -> PathFilter:
        """Return what takes part: what `paths` says, but never the store, where it lies inside.

        Raises:
            InvalidInputError: patterns for what is no folder; or the folder is the store.
        """
        if self.location is None or self.file is not None:
            if not paths.takes_all:
                raise InvalidInputError(
                    "patterns choose from a folder, and this is a single file or a stream"
                )
            return paths
        assert self.location is not None
        inside = os.path.relpath(os.path.realpath(store), self.location)
        if "://" in store or inside.split(os.sep, 1)[0] == os.pardir:
            return paths
        if inside == os.curdir:
            raise InvalidInputError(f"{self.location} is the store itself", hint="push other data")
        return paths.without(unicodedata.normalize("NFC", inside) + "/")

    def walk(self, paths: PathFilter) -> Iterable[Found | LeftOut] | None:
        """Go through what there is without reading it; None for a stream."""
        if self.stream is not None or self.stored is not None:
            return None
        if self.file is not None:
            return [self.file]
        assert self.location is not None
        return walk(self.location, paths)

    def size_below(self, bound: int, paths: PathFilter) -> int | None:
        """Return the bytes of the source, or None where they are not known to be under `bound`.

        Looks at no more than the first thousand entries of a folder, and reads no more of a
        stream than `bound`. Nothing is known of what is stored, which is not read again.
        """
        if self.stored is not None:
            return None
        if self.stream is not None:
            return self.stream.size_below(bound)
        if self.file is not None:
            size = size_of(self.file)
            return size if size < bound else None
        assert self.location is not None
        size = 0
        for number, item in enumerate(walk(self.location, paths)):
            if isinstance(item, Found):
                size += size_of(item)
            if size >= bound or number >= _MOST_ENTRIES:
                return None
        return size


def open_source(
    source: str | os.PathLike[str] | IO[bytes],
    name: str | None,
    *,
    archive: bool = False,
    unwrap: bool = False,
) -> Source:
    """Return the Source that `source` is; `name` is the path of a file or stream in the version.

    With `archive` it is a stream of a tar archive, of a single file where it has a `name`; with
    `unwrap` all in it lies in one folder, which is left out.

    Raises:
        NotFoundError: there is nothing.
        FilesystemError: it cannot be looked at.
        InvalidInputError: neither file nor folder, a name for a folder, none for a stream, or
            one that no version can hold.
    """
    if archive:
        if isinstance(source, str | os.PathLike):
            raise InvalidInputError("a tar archive is pushed from a stream")
        if name is not None:
            name = _checked(name)
        return Source(None, None, PeekedStream(source), archive=True, unwrap=unwrap, name=name)
    if unwrap:
        raise InvalidInputError("only a tar archive is unwrapped")
    if not isinstance(source, str | os.PathLike):
        if name is None:
            raise InvalidInputError(
                "a stream needs the name of the file that it becomes", hint="give --name PATH"
            )
        file = Found(_checked(name), EntryKind.FILE, "")
        return Source(None, file, PeekedStream(source))
    try:
        mode = os.stat(source).st_mode  # not of `location`: that of a pipe, /dev/fd/63, is none
        location = os.path.realpath(source)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL
        raise NotFoundError(f"no file or folder {os.fspath(source)!r} to push") from error
    except OSError as error:
        raise FilesystemError(f"cannot read {os.fspath(source)!r}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        if name is not None:
            raise InvalidInputError("a name is given to a file or stream, not to a folder")
        return Source(location, None, None)
    if not stat.S_ISREG(mode):
        raise InvalidInputError(
            f"{os.fspath(source)!r} is neither a file nor a folder",
            hint="what comes out of a pipe is pushed from stdin, as - with --name PATH",
        )
    base = os.path.basename(os.path.abspath(source))
    path = _checked(name or unicodedata.normalize("NFC", base))
    return Source(location, Found(path, EntryKind.FILE, location), None)


class PeekedStream:
    """A stream whose beginning was read ahead, to see whether it is a short one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._ahead = io.BytesIO()
        self._ended = False

    def size_below(self, bound: int) -> int | None:
        """Return how long the rest of the stream is if that is under `bound`, else None."""
        ahead = self._ahead.read()
        if not self._ended and len(ahead) < bound:
            buffer = memoryview(bytearray(bound - len(ahead)))
            filled = fill_from(self)(buffer)
            ahead += buffer[:filled]
            self._ended = filled < len(buffer)
        self._ahead = io.BytesIO(ahead)
        return len(ahead) if self._ended else None

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""
        data = self._ahead.read(size)
        return data if data or self._ended else self._read(size)

    def _read(self, size: int) -> bytes:
        """Wait where the stream does not block and says None, which is "nothing yet" and no end."""
        read: Callable[[int], bytes | None] = self._stream.read
        while (data := read(size)) is None:
            waiting = select.poll()
            try:
                waiting.register(self._stream, select.POLLIN)
            except (OSError, TypeError) as error:  # it has no descriptor
                raise FilesystemError(
                    "the input has nothing to read yet, and cannot be waited for",
                    hint="give a stream whose read() waits for data",
                ) from error
            waiting.poll()
        return data


def _called(name: str, members: Iterable[Member]) -> Iterator[Member]:
    """Yield the one file that an archive is to hold, called `name`."""
    number = 0
    for number, member in enumerate(members, 1):
        if number > 1 or member.kind != EntryKind.FILE:
            refuse(f"it is not the one file that is to be called {name!r}")
        yield dataclasses.replace(member, path=name)
    if not number:
        refuse(f"it is empty, and not the one file that is to be called {name!r}")


def _checked(name: str) -> str:
    problem = path_problem(name) or part_problem(name)
    if problem:
        raise InvalidInputError(
            f"not a path in a version: {name!r}: {problem}", hint="give another by --name PATH"
        )
    return name
