"""One file on its way into the target: a part file that becomes the file when it is complete.

Chunks may be written by several threads in any order. Neighbours: `restore` and `target`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable

from chunkstore.format.manifest import Entry
from chunkstore.ids import ChunkKind, chunk_id
from chunkstore.target import Folder, Target, part_name


class RestoredFile:
    """A file of the version; in a dry run it looks and counts, but writes nothing."""

    def __init__(self, entry: Entry, name: str, target: Target | None, *, dry_run: bool) -> None:
        self.entry = entry
        self.folder: Folder | None = None
        self.on_complete: Callable[[RestoredFile], None] = lambda _: None
        self.resumed = False
        self._name = name
        self._target = target
        self._writes = target is not None and not dry_run
        self._handle = -1
        self._missing = 1  # chunks that are still to come, and one until the file is sealed
        self._lock = threading.Lock()

    @property
    def handle(self) -> int:
        """The descriptor of the part file."""
        return self._handle

    def resume(self) -> bool:
        """Open a part file that an earlier pull left behind; False where there is none."""
        if self._target is None or self.folder is None:
            return False
        name = part_name(self._name)
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
            self._handle = os.open(name, flags, dir_fd=self.folder.handle)
        self.resumed = status.st_size > 0
        return self.resumed

    def expect(self) -> None:
        """Count a chunk that will be written."""
        with self._lock:
            self._missing += 1

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write verified bytes at their place."""
        if self._target is None or not self._writes:
            return
        with self._target.failures(self.entry.path):
            self._open()
            while data:
                written = os.pwrite(self._handle, data, offset)
                data, offset = data[written:], offset + written

    def write_checked(self, data: bytes, offset: int, identifier: bytes) -> bool:
        """Write bytes of the target's own if they are the chunk that belongs there."""
        if chunk_id(ChunkKind.DATA, data) != identifier:
            return False
        self.resumed = True
        self.write(data, offset)
        return True

    def received(self) -> None:
        """Count a chunk as written; the last one completes the file."""
        with self._lock:
            self._missing -= 1
            complete = self._missing == 0
        if complete:
            self._complete()

    def seal(self) -> None:
        """Say that no more chunks will be expected."""
        self.received()

    def refresh(self, handle: int) -> None:
        """Give a file that has the right bytes the right mode and time."""
        if self._target is not None and self._writes:
            with self._target.failures(self.entry.path):
                self._stamp(handle)

    def abandon(self, *, remove: bool) -> None:
        """Close the part file; with `remove` delete it, else leave it for the next pull."""
        with self._lock:
            handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
            if remove and self.folder is not None:
                with contextlib.suppress(OSError):  # the failure that led here is being told
                    os.unlink(part_name(self._name), dir_fd=self.folder.handle)
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
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._handle = os.open(
                    part_name(self._name), flags, 0o600, dir_fd=self.folder.handle
                )

    def _complete(self) -> None:
        if not self._writes:
            if self._handle >= 0:
                os.close(self._handle)
        elif self._target is not None and self.folder is not None:
            with self._target.failures(self.entry.path):
                self._open()  # an empty file was not opened yet
                os.ftruncate(self._handle, self.entry.size)
                self._stamp(self._handle)
                handle, self._handle = self._handle, -1
                os.close(handle)
                folder = self.folder.handle
                os.rename(part_name(self._name), self._name, src_dir_fd=folder, dst_dir_fd=folder)
        self.release()
        self.on_complete(self)

    def _stamp(self, handle: int) -> None:
        assert self._target is not None
        executable = self.entry.executable
        mode = self._target.executable_mode if executable else self._target.file_mode
        if stat.S_IMODE(os.fstat(handle).st_mode) != mode:
            os.fchmod(handle, mode)
        os.utime(handle, ns=(self.entry.mtime_ns, self.entry.mtime_ns))
