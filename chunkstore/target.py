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
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from blake3 import blake3

from chunkstore.errors import FilesystemError, RefusedError
from chunkstore.filters import PathFilter
from chunkstore.format.manifest import EntryKind
from chunkstore.walk import FOLDER_FLAGS, PART_PREFIX, Found, expendable, size_of, walk

_MODE: Final = 0o666
_UMASK_LOCK: Final = threading.Lock()


class ObstacleError(Exception):
    """Something else stands where a file, link or folder of the version belongs."""


class AbsentError(Exception):
    """There is no such folder in the target, and none was to be made."""


class Folder:
    """An open folder of the target, closed when its last user lets go of it.

    Attributes:
        handle: its descriptor.
        fresh: it was empty when it was opened, so nothing needs to be looked for in it.
        modes: those that a new file in it was seen to get as asked for; an ACL may change them.
    """

    def __init__(self, handle: int, *, fresh: bool = False) -> None:
        self.handle = handle
        self.fresh = fresh
        self.modes: set[int] = set()
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

    def __init__(self, root: str, *, create: bool = True, clear: PathFilter | None = None) -> None:
        """Open `root`, which is made where it is missing if `create` is given.

        With `clear` obstacles that it takes are removed unless they are ignored; other
        obstacles raise ObstacleError. Without `create` nothing is made or removed ever.

        Raises:
            FilesystemError: it is no folder, or cannot be made or opened.
        """
        self.root = root
        self.cleared: list[str] = []  # paths of obstacles that were removed
        self._writes = create
        self._clear = clear
        try:
            if create:
                os.makedirs(root, exist_ok=True)
            handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:  # ValueError: a NUL
            reason = getattr(error, "strerror", None) or error
            if isinstance(error, FileExistsError):
                reason = "it is not a folder"
            raise FilesystemError(
                f"cannot restore into {root!r}: {reason}",
                hint="give a folder that you may write",
            ) from error
        self.handle = handle
        with os.scandir(handle) as found:
            fresh = next(found, None) is None
        self._stack: list[tuple[str, Folder]] = [("", Folder(handle, fresh=fresh))]
        self._entered: str | None = ""  # the path of the innermost open folder
        umask = _umask()
        self.file_mode = _MODE & ~umask
        self.executable_mode = 0o777 & ~umask
        self.folds = create and _folds(handle)
        self._names: list[tuple[str, dict[str, str]]] = [("", {})]

    def close(self) -> None:
        """Let go of all folders."""
        while self._stack:
            self._stack.pop()[1].release()

    def clash(self, path: str) -> str | None:
        """Return what earlier name `path` cannot stand beside, because this file system folds.

        To be asked for every entry, in order. None on a file system that tells names apart.
        """
        if not self.folds:
            return None
        *above, name = path.rstrip("/").split("/")
        depth = 1
        while depth < len(self._names) and self._names[depth][0] == "/".join(above[:depth]):
            depth += 1
        del self._names[depth:]
        for part in above[depth - 1 :]:
            first = self._names[-1][1].setdefault(folded(part), part)
            if first != part:
                return first
            parts = above[: len(self._names)]
            self._names.append(("/".join(parts), {}))
        first = self._names[-1][1].setdefault(folded(name), name)
        return None if first == name else first

    def folder(self, path: str, *, create: bool = True) -> Folder:
        """Return the folder at `path` ("" is the root), made where it is missing if `create`.

        Raises:
            ObstacleError: a file or link stands in the way.
            AbsentError: it is missing and was not to be made.
            FilesystemError: it cannot be made.
        """
        if path == self._entered:
            return self._stack[-1][1]
        self._entered = None
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
            depth += 1
            above = self._stack[-1][1].handle
            self._stack.append((part, self._enter(above, "/".join(parts[:depth]), create=create)))
        self._entered = path
        return self._stack[-1][1]

    def _enter(self, above: int, path: str, *, create: bool) -> Folder:
        name = path.rpartition("/")[2]
        fresh = False
        for _ in range(3):
            if create:
                with self.failures(path), contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=above)
                    fresh = True
            try:
                return Folder(os.open(name, FOLDER_FLAGS, dir_fd=above), fresh=fresh)
            except FileNotFoundError as error:
                fresh = False
                if not create:
                    raise AbsentError from error
            except OSError as error:
                fresh = False
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    fail(error, path)
                if not self._may_go(path):
                    raise ObstacleError("a file or link stands where a folder is needed") from error
                if not create:
                    raise AbsentError from error
                with self.failures(path):
                    os.unlink(name, dir_fd=above)
                self.cleared.append(path)
        raise FilesystemError(f"folder {path!r} vanishes while it is being made")

    def mode(self, *, executable: bool) -> int:
        """Return the mode that a file gets."""
        return self.executable_mode if executable else self.file_mode

    def status(self, folder: Folder, name: str) -> os.stat_result | None:
        """Return what stands at `name`, not following a link, or None."""
        try:
            return os.stat(name, dir_fd=folder.handle, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            fail(error, name)

    def make_way(self, folder: Folder, path: str, status: os.stat_result | None) -> None:
        """Remove a folder that stands at `path`, where a file or link is needed.

        Raises:
            ObstacleError: it may not be removed, or not all that is in it; or it is a device, which
                never may, or a pipe or socket.
        """
        if status is None or stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            return  # the rename replaces it
        is_device = stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode)
        if is_device or not self._may_go(path):
            is_folder = stat.S_ISDIR(status.st_mode)
            what = "folder" if is_folder else "device" if is_device else "pipe or socket"
            raise ObstacleError(f"a {what} stands where a file or link is needed")
        if self._writes and stat.S_ISDIR(status.st_mode):
            with self.failures(path):
                _remove_tree(folder.handle, path.rpartition("/")[2])
            self.cleared.append(path + "/")

    def _may_go(self, path: str) -> bool:
        return self._clear is not None and expendable(self.handle, path, self._clear)

    def link(self, folder: Folder, name: str, target: str) -> None:
        """Make a symbolic link in place of whatever file or link stands there."""
        temporary = PART_PREFIX + secrets.token_hex(8)
        with self.failures(name):
            os.symlink(target, temporary, dir_fd=folder.handle)
            try:
                os.rename(temporary, name, src_dir_fd=folder.handle, dst_dir_fd=folder.handle)
            except OSError:
                os.unlink(temporary, dir_fd=folder.handle)
                raise

    def remove(self, gone: Superfluous) -> None:
        """Remove a file, link or empty folder, and folders above it that become empty."""
        above, _, name = gone.place.rstrip("/").rpartition("/")
        try:
            folder = self.folder(above, create=False)
        except AbsentError:
            return  # someone else has removed it with all that was in it
        with self.failures(gone.path):
            try:
                if gone.place.endswith("/"):
                    os.rmdir(name, dir_fd=folder.handle)
                else:
                    os.unlink(name, dir_fd=folder.handle)
            except FileNotFoundError:
                return  # someone else has removed it
        while above and above != gone.keep:
            above, _, name = above.rpartition("/")
            try:
                os.rmdir(name, dir_fd=self.folder(above, create=False).handle)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    fail(error, gone.path)
                return

    @contextlib.contextmanager
    def failures(self, path: str) -> Iterator[None]:
        """Turn an OSError into a FilesystemError that names `path`."""
        try:
            yield
        except OSError as error:
            fail(error, path)


@dataclass(frozen=True, slots=True)
class Superfluous:
    """Something in the target that the version does not have.

    Attributes:
        path: its path as a version would have it.
        place: its path as the file system spells it; an empty folder's ends with a slash.
        size: bytes of a file.
        keep: the folder above it that stays even if it becomes empty: the version has it so.
    """

    path: str
    place: str
    size: int
    keep: str


def superfluous(target: Target, wanted: Iterator[str], paths: PathFilter) -> list[Superfluous]:
    """Return what `target` has and the sorted paths `wanted` have not, as far as `paths` takes it.

    Links are not followed; what is ignored, and what no version can hold, is left alone.
    """
    doomed: list[Superfluous] = []
    known: set[str] = set()
    if target.folds:  # the names on disk may be spelt in another way, and so be sorted otherwise
        every = list(wanted)
        known, wanted = {folded(path) for path in every}, iter(every)
    path, empty = next(wanted, None), ""
    for found in walk(target.handle, paths, target=True):
        while path is not None and path.encode() < found.path.encode():
            if path.endswith("/"):
                empty = path  # a folder that the version has, and has empty
            path = next(wanted, None)
        if not isinstance(found, Found) or (known and folded(found.path) in known):
            continue
        if found.path == path and not _is_twin(target.handle, found):
            continue
        keep = empty.rstrip("/") if empty and found.path.startswith(empty) else ""
        doomed.append(Superfluous(found.path, found.place, size_of(found), keep))
    return doomed


def _is_twin(root: int, found: Found) -> bool:
    """Whether another file has the name of this one in NFC, and this one only a like name."""
    if found.place == found.path or found.kind == EntryKind.FOLDER:
        return False
    try:
        other = os.stat(found.path, dir_fd=root, follow_symlinks=False)
        own = os.stat(found.location, dir_fd=found.folder, follow_symlinks=False)
    except OSError:
        return False
    return (other.st_dev, other.st_ino) != (own.st_dev, own.st_ino)


def folded(path: str) -> str:
    """Return what names have in common that a file system without case or forms cannot tell."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def part_name(name: str) -> str:
    """Return the name under which a file is written before it is complete."""
    return PART_PREFIX + blake3(name.encode()).hexdigest(16)  # too long for a made collision


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
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    with _UMASK_LOCK:  # elsewhere the only way to learn the mask is to set it
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _folds(folder: int) -> bool:
    """Whether the file system of an open folder finds names in another case."""
    name = PART_PREFIX + secrets.token_hex(8) + "-case"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    status = os.fstat(folder)
    try:
        os.close(os.open(name, flags, 0o600, dir_fd=folder))
    except OSError:
        return False  # whoever writes will meet the same and report it
    try:
        os.stat(name.upper(), dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
            os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if nothing was
    return True


def _remove_tree(above: int, name: str) -> None:
    handle = os.open(name, FOLDER_FLAGS, dir_fd=above)
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


def fail(error: OSError, path: str) -> NoReturn:
    """Raise FilesystemError: `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some room, then run the same command again"
    elif error.errno == errno.EEXIST:  # a part file that was not there a moment ago
        hint = "let the other pull into the same folder end, or pull into another folder"
    elif error.errno == errno.ENOENT:
        hint = "the folder was moved or removed meanwhile; run the same command again"
    elif error.errno == errno.EROFS:
        hint = "the target is mounted read-only: give another folder"
    else:
        hint = "check the permissions of the target folder"
    raise FilesystemError(f"cannot write {path!r}: {error.strerror}", hint=hint) from error


def check_apart(store: str, target: str, paths: PathFilter, *, delete: bool) -> None:
    """Refuse a target in the store, or with the store in it where all else is to be removed.

    Raises:
        RefusedError: it lies so, and `paths` does not leave it out of what is to be removed.
    """
    if "://" in store or "\0" in target:  # no place at all, as `Target` will say
        return
    store_place, target_place = os.path.realpath(store), os.path.realpath(target)
    inside = os.path.relpath(store_place, target_place)
    holds = inside.split(os.sep, 1)[0] != os.pardir
    if not (delete and holds):
        if os.path.relpath(target_place, store_place).split(os.sep, 1)[0] == os.pardir:
            return
        # A version may well have a file `config`, or links in a folder `packs`.
        raise RefusedError(f"{target} is in the store {store}", hint="pull elsewhere")
    below = "" if inside == os.curdir else f"{inside}/"
    if any(paths.takes(below + name) for name in ("config", "index/0", "packs/0", "refs/0")):
        raise RefusedError(
            f"the store {store} lies in {target}, and its files would be removed",
            hint="pull elsewhere" + (f", or leave it out: --exclude '/{below}'" if below else ""),
        )
