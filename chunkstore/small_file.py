"""A small file on its way into the target: written, checked and named in one go.

A file of one chunk that is new to the target, and of which no part was left behind, needs no state
between the arrival of its bytes and its name: no mutex, no descriptor that stays open, no hash that
grows. Nine of ten files of a package tree are such. The rules of "Restoring files" in
docs/design/security.md are the same. Neighbours: `restored_file` for all other files, `fetcher`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from blake3 import blake3

from chunkstore.format.manifest import Entry
from chunkstore.restored_file import NEW_PART, claim, refuse, stamp, write_all
from chunkstore.target import Folder, Target, fail, part_name


class SmallFile:
    """A file of at most one chunk. Whoever holds it keeps its folder open.

    Attributes:
        entry: the file in the version.
        folder: the folder of the target that it goes into.
        resumed: never: there was nothing of it.
    """

    __slots__ = ("_name", "_on_complete", "_target", "entry", "folder")

    resumed = False

    def __init__(
        self,
        entry: Entry,
        name: str,
        folder: Folder,
        target: Target,
        on_complete: Callable[[SmallFile], None],
    ) -> None:
        """`on_complete` is called in the thread that writes."""
        self.entry = entry
        self.folder = folder
        self._name = name
        self._target = target
        self._on_complete = on_complete

    def write(self, data: bytes | memoryview, offset: int, chunks: int = 1) -> None:
        """Make the file of its only chunk, whose id is verified.

        Raises:
            CorruptObjectError: it does not have the hash that the manifest states.
            FilesystemError: it cannot be written; no part of it is left.
        """
        del offset, chunks  # there is but one
        entry = self.entry
        if len(data) != entry.size or blake3(data).digest() != entry.file_hash:
            refuse(entry)
        part, folder = part_name(self._name), self.folder
        mode = self._target.mode(executable=entry.executable)
        try:
            handle = os.open(part, NEW_PART, mode, dir_fd=folder.handle)
            try:
                claim(handle, entry.path)
                write_all(handle, data, 0)
                if mode in folder.modes:
                    os.utime(handle, ns=(entry.mtime_ns, entry.mtime_ns))
                else:
                    status = os.fstat(handle)
                    stamp(handle, status, mode, entry.mtime_ns)
                    if stat.S_IMODE(status.st_mode) == mode:
                        folder.modes.add(mode)
                os.rename(part, self._name, src_dir_fd=folder.handle, dst_dir_fd=folder.handle)
            except OSError:
                with contextlib.suppress(OSError):  # the failure that led here is being told
                    os.unlink(part, dir_fd=folder.handle)
                raise
            finally:
                os.close(handle)
        except OSError as error:
            fail(error, entry.path)
        self._on_complete(self)
