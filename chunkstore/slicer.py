"""Files in, batches of chunks out: reads the user's files and cuts them.

Files that have not changed since the parent version are not read: their entries are taken over,
provided that the index still has their chunks. Neighbours: `walk` finds the files, `takeover` the
pages that are the same, `filestate` says which files have changed, `parent` has the version before,
`ingest` takes the batches.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from chunkstore.chunker import WINDOW_SIZE, Chunker
from chunkstore.errors import FilesystemError, MissingObjectError
from chunkstore.filestate import FileStates
from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.limits import MAX_CHUNK_SIZE
from chunkstore.parent import ParentVersion
from chunkstore.profile import OFF, Clock
from chunkstore.steps import Batch, Gone, Piece, Ready, SourceFile, Step, Taken
from chunkstore.takeover import SamePage, SameStart, TakeOver
from chunkstore.tar_reader import Member, Readable
from chunkstore.walk import FileState, Found, LeftOut, state_of

_ATTEMPTS: Final = 3


class Slicer:
    """Cuts files into batches."""

    def __init__(
        self,
        chunker: Chunker,
        parent: ParentVersion,
        states: FileStates,
        take_over: TakeOver,
        emit: Callable[[Batch], None],
        clock: Clock = OFF,
    ) -> None:
        """`emit` takes each batch whole before it returns; what it raises ends the slicing."""
        self._clock = clock
        self._sizes = clock.timed("cut", chunker.cut, lambda _, data: len(data))
        self._parent = parent
        self._states = states
        self._take_over = take_over
        self._emit = emit
        self._batch = Batch()
        # Files are read into one buffer, which stays in the cache of a core and is never cleared.
        self._buffer = np.empty(WINDOW_SIZE + MAX_CHUNK_SIZE, np.uint8).data
        self._filled = 0

    def slice_folder(self, found: Iterator[Found | LeftOut]) -> None:
        """Cut everything that a walk found."""
        for item in self._take_over.sift(found):
            if isinstance(item, Found):
                before = self._before(item.path)
                if item.kind == EntryKind.FILE:
                    self._file(item, before)
                else:
                    entry = Entry(item.path, item.kind, target=item.target)
                    self._step(Ready(entry, before))
            elif isinstance(item, SamePage):
                self._page(item)
            elif isinstance(item, SameStart):
                self._start(item)
            else:
                self._step(item)
        self._finish()

    def _page(self, page: SamePage) -> None:
        self._parent.pass_page(page.number, lambda entry: self._step(Gone(entry)))
        entries = functools.partial(self._entries, page)
        fetch = functools.partial(self._parent.page_data, page.number)
        self._step(Taken(page, entries, fetch), page.ref.entries)

    def _start(self, start: SameStart) -> None:
        """Take over the first entries of a page, beside which the parent is asked on."""
        for ready in itertools.islice(self._entries(start.page), start.count):
            self._before(ready.entry.path)
            self._step(ready)

    def _entries(self, page: SamePage) -> Iterator[Ready]:
        before = self._parent.page(page.number)
        for entry, seen in zip(before.entries, page.seen, strict=True):
            if entry.kind == EntryKind.FILE:
                assert isinstance(seen, tuple)
                packs = before.packs_of(entry)
                if packs is None:
                    packs = frozenset(page.packs)
                yield Ready(entry, entry, FileState._make(seen), packs)
            else:
                yield Ready(entry, entry)

    def slice_file(self, item: Found, *, keep: bool = False) -> None:
        """Cut one file, which is the whole version, or with `keep` joins the one before."""
        with self._beside(item.path, keep=keep) as before:
            self._file(item, before)

    def slice_stream(
        self, stream: Readable, path: str, mtime_ns: int, *, keep: bool = False
    ) -> None:
        """Cut what a stream gives until it ends; `keep` as for `slice_file`."""
        with self._beside(path, keep=keep) as before:
            executable = keep and before is not None and before.executable
            file = SourceFile(path, before, executable=executable, mtime_ns=mtime_ns)
            self._cut(file, fill_from(stream))

    def slice_stored(self, entry: Entry) -> None:
        """Put a file whose chunks are stored already beside the others of the version before.

        Raises:
            MissingObjectError: the view lacks one of its chunks, or of the others'.
        """
        with self._beside(entry.path, keep=True) as before:
            self._step(Ready(entry, before, packs=self._parent.packs_of_stored(entry)))

    def cut_apart(self, member: Member) -> None:
        """Cut the file that a member of an archive is; its entry is gathered."""
        assert member.content is not None
        file = SourceFile(
            member.path,
            None,
            executable=member.executable,
            mtime_ns=member.mtime_ns,
            apart=True,
        )
        self._cut(file, fill_from(member.content))

    def flush(self) -> None:
        """Emit what is open, so that all that was cut can be taken in."""
        self._flush()

    def place(self, gathered: Iterable[tuple[Entry, frozenset[int]]]) -> None:
        """Take in entries whose chunks are on their way, in the order of paths."""
        for entry, places in gathered:
            self._step(Ready(entry, self._before(entry.path), packs=places))
        self._finish()

    @contextlib.contextmanager
    def _beside(self, path: str, *, keep: bool) -> Iterator[Entry | None]:
        """Give what stood at `path`, for a block that puts something there.

        The other entries of the version before are gone, or with `keep` are taken over.
        """

        def other(entry: Entry) -> None:
            if not keep or (entry.kind == EntryKind.FOLDER and path.startswith(entry.path)):
                self._step(Gone(entry))  # with `keep`: a folder that is no longer empty
                return
            packs = self._parent.packs_of(entry) if entry.kind == EntryKind.FILE else frozenset()
            if packs is None:
                raise MissingObjectError(f"the index lacks chunks of {entry.path!r}")
            self._step(Ready(entry, entry, packs=packs))

        yield self._parent.seek(path, other)
        for entry in self._parent.rest():
            other(entry)
        self._flush()

    def _finish(self) -> None:
        for entry in self._parent.rest():
            self._step(Gone(entry))
        self._flush()

    def _flush(self) -> None:
        if self._batch.steps:
            self._emit(self._batch)
        self._batch, self._filled = Batch(), 0

    def _before(self, path: str) -> Entry | None:
        return self._parent.seek(path, lambda entry: self._step(Gone(entry)))

    def _step(self, step: Step, files: int = 1) -> None:
        self._batch.steps.append(step)
        self._batch.files += files
        if self._batch.full:
            self._flush()

    def _file(self, item: Found, before: Entry | None) -> None:
        try:
            for _ in range(_ATTEMPTS):
                if self._read(item, before):
                    return
        except OSError as error:
            self._step(LeftOut(item.path, _reason(error), unreadable=True))
            return
        self._step(LeftOut(item.path, "it changes while it is being read", unreadable=True))

    def _read(self, item: Found, before: Entry | None) -> bool:
        """Take over or cut one file; False where it changed meanwhile.

        Nothing but a regular file is opened for reading, even where one was replaced by a pipe
        after the walk had seen it.
        """
        if before is not None and self._unchanged(item, before):
            return True
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(item.location, flags, dir_fd=item.folder)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is no longer a regular file")
            state = state_of(status)
            file = SourceFile(
                item.path,
                before,
                executable=bool(status.st_mode & 0o100),
                mtime_ns=status.st_mtime_ns,
                state=state,
            )
            return self._cut(
                file,
                _reading(handle, status.st_size),
                window=min(status.st_size + 1, WINDOW_SIZE),
                settled=lambda: state_of(os.fstat(handle)) == state,
            )
        finally:
            os.close(handle)

    def _unchanged(self, item: Found, before: Entry) -> bool:
        state = item.state
        if state is None:
            status = os.stat(item.location, dir_fd=item.folder, follow_symlinks=False)
            state = state_of(status)
        known = self._states.hash_of(item.path, state)
        if (
            known is None
            or known != before.file_hash
            or state.size != before.size
            or state.executable != before.executable
        ):
            return False
        packs = self._parent.packs_of(before)
        if packs is None:
            return False
        self._step(Ready(before, before, state, packs))
        return True

    def _cut(
        self,
        file: SourceFile,
        readinto: Callable[[memoryview], int],
        *,
        window: int = WINDOW_SIZE,
        settled: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Cut all that `readinto` gives until it fills less than it was offered.

        Returns False, before the file's last piece is emitted, where it was not `settled` or has
        another size: it changed since it was opened.
        """
        readinto = self._clock.timed("read", readinto, lambda filled, _: filled)
        if self._filled + window > WINDOW_SIZE:
            self._flush()
        buffer, start = self._buffer, self._filled
        carried, size, first, last = 0, 0, True, False
        while not last:
            fresh = start + carried
            filled = readinto(buffer[fresh : fresh + window])
            size += filled
            last = filled < window
            if file.state is not None and size > file.state.size:
                return False  # it grows, perhaps as fast as it is read
            if last and not (settled() and (file.state is None or file.state.size == size)):
                return False
            end = fresh + filled
            piece = Piece(file, 0, 0, first, last, buffer[fresh:end])
            cut = self._piece(piece, buffer[start:end])
            if not last:
                buffer[: end - start - cut] = buffer[start + cut : end]
                carried, start, first = end - start - cut, 0, False
        return True

    def _piece(self, piece: Piece, data: memoryview) -> int:
        """Emit the chunks of `data`; return the bytes in them. Not the last: the buffer is free."""
        batch, at = self._batch, 0
        piece.start = len(batch.chunks)
        for size in self._sizes(data, final=piece.last):
            batch.chunks.append(data[at : at + size])
            at += size
        batch.size += at
        self._filled += at
        piece.end = len(batch.chunks)
        self._step(piece)
        if not piece.last:
            self._flush()
        return at


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "it vanished"
    if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket or device
        return "it is no longer a regular file"
    return str(error.strerror or error)


def _reading(handle: int, left: int) -> Callable[[memoryview], int]:
    """Return a function that reads on in a file of which `left` bytes are to be expected."""

    def readinto(buffer: memoryview) -> int:
        nonlocal left
        filled = _fill(handle, buffer, left)
        left -= filled
        return filled

    return readinto


def _fill(handle: int, buffer: memoryview, left: int) -> int:
    """Read until the buffer is full, or the `left` bytes are there and the file ends.

    Some file systems give less than they are asked for in the middle of a file.
    """
    filled = more = os.readv(handle, [buffer])
    while more and filled < min(len(buffer), left):
        more = os.readv(handle, [buffer[filled:]])
        filled += more
    return filled


def fill_from(stream: Readable) -> Callable[[memoryview], int]:
    """Return a function that fills a buffer from `stream`, short only where the stream ends.

    Pipes and sockets give what they have; a short read of them is no end.

    Raises (when called):
        FilesystemError: the stream cannot be read, or does not give bytes.
    """

    def readinto(buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            try:
                data = stream.read(len(buffer) - filled)
            except OSError as error:
                raise FilesystemError(f"the input cannot be read: {error}") from error
            if not data:
                break
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    return readinto
