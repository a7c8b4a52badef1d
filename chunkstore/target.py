"""A folder that a version is restored into: nothing is ever written outside it.

All work is done relative to descriptors of folders that were opened without following links,
so neither hostile paths nor links that stand in the folder, or appear in it meanwhile, lead out.
Implements "Restoring files" of docs/design/security.md. Neighbour: `restore`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from typing import Final, NoReturn

from blake3 import blake3

from chunkstore.errors import FilesystemError
from chunkstore.walk import PART_PREFIX

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o666
_UMASK_LOCK: Final = threading.Lock()


class ObstacleError(Exception):
    """Something else stands where a file, link or folder of the version belongs."""


class Folder:
    """An open folder of the target, closed when its last user lets go of it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._users = 1
        self._lock = threading.Lock()

    def hold(self) -> Folder:
        """Count one more user."""
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        """Count one user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                os.close(self.handle)


class Target:
    """The target folder. Folders are opened by one thread, in the order of the version."""

    def __init__(self, root: str, *, create: bool = True, clear: bool = False) -> None:
        """Open `root`; with `clear` obstacles are removed, else they raise ObstacleError.

        Raises:
            FilesystemError: it is no folder, or cannot be made or opened.
        """
        self.root = root
        self._clear = clear
        try:
            if create:
                os.makedirs(root, exist_ok=True)
            handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            blocked = isinstance(error, FileExistsError | NotADirectoryError)
            reason = "a file stands there" if blocked else error.strerror
            raise FilesystemError(
                f"cannot restore into {root!r}: {reason}",
                hint="give a folder that you may write",
            ) from error
        self._stack: list[tuple[str, Folder]] = [("", Folder(handle))]
        umask = _umask()
        self.file_mode = _MODE & ~umask
        self.executable_mode = 0o777 & ~umask

    def close(self) -> None:
        """Let go of all folders."""
        while self._stack:
            self._stack.pop()[1].release()

    def folder(self, path: str) -> Folder:
        """Return the folder at `path` ("" is the root), made where it is missing.

        Raises:
            ObstacleError: a file or link stands in the way.
            FilesystemError: it cannot be made.
        """
        parts = path.split("/") if path else []
        depth = 0
        while (
            depth < len(parts)
            and depth + 1 < len(self._stack)
            and self._stack[depth + 1][0] == parts[depth]
        ):
            depth += 1
        while len(self._stack) > depth + 1:
            self._stack.pop()[1].release()
        for part in parts[depth:]:
            self._stack.append((part, Folder(self._enter(self._stack[-1][1].handle, part, path))))
        return self._stack[-1][1]

    def _enter(self, above: int, name: str, path: str) -> int:
        for _ in range(3):
            with self.failures(path), contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
            try:
                return os.open(name, _FOLDER, dir_fd=above)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    _raise(error, path)
                if not self._clear:
                    raise ObstacleError("a file or link stands where a folder is needed") from error
                with self.failures(path):
                    os.unlink(name, dir_fd=above)
        raise FilesystemError(f"folder {path!r} vanishes while it is being made")

    def status(self, folder: Folder, name: str) -> os.stat_result | None:
        """Return what stands at `name`, not following a link, or None."""
        try:
            return os.stat(name, dir_fd=folder.handle, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def make_way(self, folder: Folder, name: str, status: os.stat_result | None) -> None:
        """Remove a folder that stands where a file or link is needed.

        Raises:
            ObstacleError: it may not be removed.
        """
        if status is None or not stat.S_ISDIR(status.st_mode):
            return
        if not self._clear:
            raise ObstacleError("a folder stands where a file or link is needed")
        with self.failures(name):
            _remove_tree(folder.handle, name)

    def link(self, folder: Folder, name: str, target: str) -> None:
        """Make a symbolic link in place of whatever file or link stands there."""
        temporary = PART_PREFIX + secrets.token_hex(8)
        with self.failures(name):
            os.symlink(target, temporary, dir_fd=folder.handle)
            os.rename(temporary, name, src_dir_fd=folder.handle, dst_dir_fd=folder.handle)

    def remove(self, path: str) -> None:
        """Remove the file, link or empty folder at `path`, and folders above that become empty."""
        above, _, name = path.rstrip("/").rpartition("/")
        folder = self.folder(above)
        with self.failures(path):
            if path.endswith("/"):
                os.rmdir(name, dir_fd=folder.handle)
            else:
                os.unlink(name, dir_fd=folder.handle)
        while above:
            above, _, name = above.rpartition("/")
            try:
                os.rmdir(name, dir_fd=self.folder(above).handle)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    _raise(error, path)
                return

    @contextlib.contextmanager
    def failures(self, path: str) -> Iterator[None]:
        """Turn an OSError into a FilesystemError that names `path`."""
        try:
            yield
        except OSError as error:
            _raise(error, path)


def part_name(name: str) -> str:
    """Return the name under which a file is written before it is complete."""
    return PART_PREFIX + blake3(name.encode()).hexdigest(8)


def link_leads_out(path: str, target: str) -> bool:
    """Whether a link at `path` may lead out of the version, judged without following anything.

    A link is inside if it is relative, climbs with `..` only at its beginning, and no higher than
    the root. A `..` after a name is refused: the name may be a link that leads elsewhere.
    """
    if target.startswith("/"):
        return True
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    return ".." in parts[climbs:] or climbs > path.count("/")


def _umask() -> int:
    with _UMASK_LOCK:  # the only way to learn the mask is to set it
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _remove_tree(above: int, name: str) -> None:
    handle = os.open(name, _FOLDER, dir_fd=above)
    try:
        with os.scandir(handle) as found:
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        for entry, is_folder in entries:
            if is_folder:
                _remove_tree(handle, entry)
            else:
                os.unlink(entry, dir_fd=handle)
    finally:
        os.close(handle)
    os.rmdir(name, dir_fd=above)


def _raise(error: OSError, path: str) -> NoReturn:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    raise FilesystemError(
        f"cannot write {path!r}: {error.strerror}",
        hint="free some room, then run the same command again"
        if full
        else "check the permissions of the target folder",
    ) from error
