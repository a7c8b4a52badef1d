"""One file on its way into the target: a part file that becomes the file when it is complete.

Chunks may be written by several threads in any order. The whole is hashed as it grows, from
memory where the chunks come in order, and must have the hash that the manifest states.
Neighbours: `restore` and `target`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Callable
from typing import Final, NoReturn

from blake3 import blake3

from chunkstore.errors import CorruptObjectError, FilesystemError
from chunkstore.format.manifest import Entry
from chunkstore.target import Folder, Target, part_name

_READ_SIZE: Final = 1024 * 1024

NEW_PART: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a part file is opened that must not be there yet."""


class RestoredFile:
    """A file of the version; in a dry run it looks and counts, but writes nothing."""

    def __init__(self, entry: Entry, name: str, target: Target | None, *, dry_run: bool) -> None:
        self.entry = entry
        self.name = name
        self.folder: Folder | None = None
        self.on_complete: Callable[[RestoredFile], None] = lambda _: None
        self.resumed = False
        self._part = part_name(name)
        self._target = target
        self._writes = target is not None and not dry_run
        self._handle = -1
        self._missing = 1  # chunks that are still to come, and one until the file is sealed
        self._lock = threading.Lock()
        self._hasher: blake3 | None = None  # 2 KB, and very many files may wait at once
        self._hashed = 0  # bytes from the beginning that are hashed
        self._unhashed: dict[int, int] = {}  # of what is in place behind them: offset, end
        self._hashing = False

    @property
    def handle(self) -> int:
        """The descriptor of the part file."""
        return self._handle

    def resume(self) -> bool:
        """Open a part file that an earlier pull left behind; False where there is none."""
        if self._target is None or self.folder is None:
            return False
        name = self._part
        status = self._target.status(self.folder, name)
        if status is None:
            return False
        with self._target.failures(self.entry.path):
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                if not self._writes:
                    return False
                os.unlink(name, dir_fd=self.folder.handle)
                return False
            flags = (os.O_RDWR if self._writes else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                self._handle = os.open(name, flags, dir_fd=self.folder.handle)
            except FileNotFoundError:
                return False  # another pull has just completed it
            if self._writes:
                self._claim()
            # It may have been completed, and so renamed, before it was claimed.
            now = self._target.status(self.folder, name)
            if now is None or now.st_ino != os.fstat(self._handle).st_ino:
                os.close(self._handle)
                self._handle = -1
                return False
        self.resumed = status.st_size > 0
        return self.resumed

    def _claim(self) -> None:
        try:
            claim(self._handle, self.entry.path)
        except FilesystemError:
            os.close(self._handle)
            self._handle = -1
            raise

    def expect(self, chunks: int) -> None:
        """Count chunks that will be written."""
        with self._lock:
            self._missing += chunks

    def write(self, data: bytes | memoryview, offset: int, chunks: int = 0) -> None:
        """Write verified bytes at their place; so many of the chunks that were expected."""
        if self._target is not None and self._writes:
            with self._target.failures(self.entry.path):
                if self._handle < 0:
                    self._open()
                write_all(self._handle, data, offset)
                self._placed(offset, offset + len(data), data)
        self.received(chunks)

    def keep(self, offset: int, size: int) -> None:
        """Take note of verified bytes that the part file has already."""
        if self._target is not None and self._writes:
            with self._target.failures(self.entry.path):
                self._placed(offset, offset + size)

    def _placed(self, start: int, end: int, data: bytes | memoryview | None = None) -> None:
        """Hash what is in place without a gap, unless another thread is about it."""
        with self._lock:
            self._unhashed[start] = end
            if self._hashing or self._hashed not in self._unhashed:
                return
            self._hashing = True
            self._missing += 1  # so that the file is not completed before it is hashed
        hasher = self._hasher = self._hasher or blake3()
        while (following := self._next_unhashed()) is not None:
            at, stop = following
            if at == start and data is not None:
                hasher.update(data)
            else:
                self._hash_back(hasher, at, stop)
            self._hashed = stop
        self.received()

    def _next_unhashed(self) -> tuple[int, int] | None:
        with self._lock:
            end = self._unhashed.pop(self._hashed, None)
            self._hashing = end is not None
            return None if end is None else (self._hashed, end)

    def _hash_back(self, hasher: blake3, at: int, end: int) -> None:
        while at < end:
            data = os.pread(self._handle, min(_READ_SIZE, end - at), at)
            if not data:
                return  # someone cut the file off: it will not have its hash
            hasher.update(data)
            at += len(data)

    def reuse(self, data: memoryview, offset: int) -> None:
        """Write verified bytes that the target had elsewhere."""
        self.resumed = True
        self.write(data, offset)

    def received(self, chunks: int = 1) -> None:
        """Count chunks as written; the last one completes the file."""
        with self._lock:
            self._missing -= chunks
            complete = chunks > 0 and self._missing == 0
        if complete:
            self._complete()

    def seal(self) -> None:
        """Say that no more chunks will be expected."""
        self.received()

    def refresh(self, handle: int) -> bool:
        """Give a file that has the right bytes the right mode and time.

        Returns False where it has other names too, perhaps outside the target, whose mode and
        time are not to be touched: it must be written anew.
        """
        if self._target is not None and self._writes:
            with self._target.failures(self.entry.path):
                status = os.fstat(handle)
                if status.st_nlink > 1 and not self._is_stamped(status):
                    return False
                stamp(handle, status, self._mode(), self.entry.mtime_ns)
        return True

    def abandon(self, *, remove: bool) -> None:
        """Close the part file; with `remove` delete it, else leave it for the next pull."""
        with self._lock:
            handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
            if remove and self.folder is not None:
                with contextlib.suppress(OSError):  # the failure that led here is being told
                    os.unlink(self._part, dir_fd=self.folder.handle)
        self.release()

    def release(self) -> None:
        """Let go of the folder."""
        folder, self.folder = self.folder, None
        if folder is not None:
            folder.release()

    def _open(self) -> None:
        with self._lock:
            if self._handle < 0:
                assert self.folder is not None
                self._handle = os.open(
                    self._part, NEW_PART, self._mode(), dir_fd=self.folder.handle
                )
                self._claim()

    def _complete(self) -> None:
        if not self._writes:
            if self._handle >= 0:
                os.close(self._handle)
        elif self._target is not None and self.folder is not None:
            with self._target.failures(self.entry.path):
                self._open()  # an empty file was not opened yet
                self._check()
                status = os.fstat(self._handle)
                if status.st_size != self.entry.size:
                    os.ftruncate(self._handle, self.entry.size)
                stamp(self._handle, status, self._mode(), self.entry.mtime_ns)
                folder = self.folder.handle
                os.rename(self._part, self.name, src_dir_fd=folder, dst_dir_fd=folder)
                handle, self._handle = self._handle, -1
                os.close(handle)
        self.release()
        self.on_complete(self)

    def _check(self) -> None:
        """Hold the whole file against the hash that the manifest states.

        Raises:
            CorruptObjectError: it has another; the part file is gone.
        """
        hasher, self._hasher = self._hasher or blake3(), None
        if self._hashed == self.entry.size and hasher.digest() == self.entry.file_hash:
            return
        self.abandon(remove=True)
        refuse(self.entry)

    def _mode(self) -> int:
        assert self._target is not None
        return self._target.mode(executable=self.entry.executable)

    def _is_stamped(self, status: os.stat_result) -> bool:
        same_mode = stat.S_IMODE(status.st_mode) == self._mode()
        return same_mode and status.st_mtime_ns == self.entry.mtime_ns


def claim(handle: int, path: str) -> None:
    """Keep other pulls from writing into an open part file at the same time.

    Raises:
        FilesystemError: another pull does so; the handle stays open.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FilesystemError(
            f"{path!r} is being restored by another pull into the same folder",
            hint="let that one end, or pull into another folder",
        ) from error
    except OSError:
        return  # a file system without locks


def write_all(handle: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at offset `at`; OSError where that fails."""
    while data:
        written = os.pwrite(handle, data, at)
        data, at = data[written:], at + written


def stamp(handle: int, status: os.stat_result, mode: int, mtime_ns: int) -> None:
    """Give an open file, which has `status`, its mode and time where it has others."""
    if stat.S_IMODE(status.st_mode) != mode:
        os.fchmod(handle, mode)
    if status.st_mtime_ns != mtime_ns:
        os.utime(handle, ns=(mtime_ns, mtime_ns))


def refuse(entry: Entry) -> NoReturn:
    """Raise CorruptObjectError: a file does not have the hash that the manifest states."""
    raise CorruptObjectError(
        f"{entry.path}: its chunks do not make a file with the hash that the manifest "
        f"states, {entry.file_hash.hex()}"
    )
