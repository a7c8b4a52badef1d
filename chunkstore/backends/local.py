"""A backend in a local folder: one file an object, published by link or rename.

Bytes are written to a temporary file beside their place, synced, and only then given their
name, so nobody ever sees part of an object and what was acknowledged survives a crash.
Implements section "Local folder" of docs/design/consistency.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from chunkstore.backends.base import (
    Backend,
    Buffer,
    Capabilities,
    CreateOnly,
    Fetched,
    ObjectInfo,
    PutMode,
    ReplaceIf,
    check_key,
)
from chunkstore.backends.probe import race
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)

# No key has a `+`, so no object can stand where these do.
TEMPORARY: Final = ".tmp+"
LOCK: Final = ".lock+"

_TICK_NS: Final = 4_000_000  # how coarse the kernel's clock for file times is, at 250 Hz
_STALE_SECONDS: Final = 24 * 3600
_MOST_BUFFERS: Final = 512  # of one writev; the kernel takes at most 1,024
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_NO_FILE: Final = (FileNotFoundError, IsADirectoryError)  # a folder of keys is no object
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1

log = logging.getLogger(__name__)


class LocalBackend(Backend):
    """Objects as files below `root`, which is created at the first write."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(root)
        self._shown = self._root  # in messages; what the user named, while the probe works below
        self._durable: set[str] = set()  # folders that this process knows to survive a crash
        self._stale_removed = False

    @property
    def url(self) -> str:
        return self._shown

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        with self._failures("get", key), open(self._path(key), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            start, end = byte_range or (0, status.st_size)
            if byte_range and not 0 <= start < end:
                raise InvalidInputError(f"not a range: {start}-{end}")
            if end > status.st_size:
                raise UnavailableError(
                    f"{key} has {status.st_size} bytes, not the range {start}-{end}",
                    operation="get",
                    key=key,
                )
            data = _read(file.fileno(), start, end)
        if len(data) != end - start:
            raise UnavailableError(
                f"{key} gave {len(data)} of {end - start} bytes", operation="get", key=key
            )
        return Fetched(data, _version(status))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        path = self._path(key)
        folder = os.path.dirname(path)
        with self._failures("put", key):
            self._remove_stale_once()
            self._make_folder(folder)
            temporary = os.path.join(folder, TEMPORARY + secrets.token_hex(12))
            try:
                _write(temporary, data)
                version = self._publish(temporary, path, key, mode)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            _sync(folder)
        return version

    def _publish(self, temporary: str, path: str, key: str, mode: PutMode) -> str:
        if isinstance(mode, CreateOnly):
            version = _version(os.stat(temporary))
            try:
                _link(temporary, path)
            except FileExistsError as error:
                raise ConditionFailedError(
                    f"{key} is already there", operation="put", key=key
                ) from error
            return version
        with _locked(os.path.join(os.path.dirname(path), LOCK)):
            try:
                current: os.stat_result | None = os.stat(path)
            except FileNotFoundError:
                current = None
            if isinstance(mode, ReplaceIf) and (
                current is None or _version(current) != mode.version
            ):
                raise ConditionFailedError(f"{key} has changed", operation="put", key=key)
            if current is not None:
                _make_newer(temporary, current.st_mtime_ns)
            version = _version(os.stat(temporary))
            os.replace(temporary, path)
        return version

    def head(self, key: str) -> ObjectInfo:
        with self._failures("head", key):
            status = os.stat(self._path(key))
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a file")
        return _info(key, status)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        folder, _, begin = prefix.rpartition("/")
        where = os.path.join(self._root, folder) if folder else self._root
        with self._failures("list", prefix):
            yield from self._list(where, folder + "/" if folder else "", after, begin)

    def _list(self, where: str, prefix: str, after: str, begin: str = "") -> Iterator[ObjectInfo]:
        try:
            with os.scandir(where) as found:
                entries = [e for e in found if e.name.startswith(begin) and not _hidden(e.name)]
        except (FileNotFoundError, NotADirectoryError):  # a prefix may be the key of an object
            return
        names = {e.name + "/" * e.is_dir(): e for e in entries}  # links too: `get` follows them
        for name in sorted(names):
            within = name.endswith("/") and after.startswith(prefix + name)
            if prefix + name <= after and not within:
                continue  # a folder comes before with all that is in it
            if name.endswith("/"):
                yield from self._list(names[name].path, prefix + name, after)
                continue
            try:
                status = os.stat(names[name].path)
            except FileNotFoundError:
                continue  # deleted since the folder was read
            yield _info(prefix + name, status)

    def delete(self, keys: Sequence[str]) -> None:
        folders: dict[str, list[tuple[str, str]]] = {}
        for key in keys:
            folder, name = os.path.split(self._path(key))
            folders.setdefault(folder, []).append((key, name))
        for folder, found in folders.items():
            if not os.path.isdir(folder):
                continue
            # Under the lock, so that no replacement that has looked finds its object gone and
            # another one created in its place.
            with self._failures("delete", found[0][0]), contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(_locked(os.path.join(folder, LOCK)))
                except OSError as error:  # a full disk has to be emptied: nobody can replace there
                    if error.errno not in _FULL:
                        raise
                for key, name in found:
                    with self._failures("delete", key), contextlib.suppress(*_NO_FILE):
                        os.unlink(os.path.join(folder, name))
                _sync(folder)

    def probe(self) -> Capabilities:
        with self._failures("probe", ""):
            self._make_folder(self._root)
            place = os.path.join(self._root, TEMPORARY + secrets.token_hex(12))
            racing = LocalBackend(place)
            racing._shown = self._shown
            try:
                create_only, replace_if = race(racing)
            finally:
                with contextlib.suppress(FileNotFoundError):  # else it hid why nothing was written
                    shutil.rmtree(place)
        return Capabilities("local folder", create_only=create_only, replace_if=replace_if)

    def _remove_stale_once(self) -> None:
        """Clean up at the first write: who only reads has no business to, and may not be able."""
        if not self._stale_removed:
            self._stale_removed = True
            try:
                self.remove_stale()
            except BackendError as error:  # of another user: a pity, but no reason not to write
                log.warning("temporary files of killed writers are left behind: %s", error)

    def remove_stale(self) -> None:
        """Remove temporary files that writers left behind more than a day ago."""
        oldest = time.time() - _STALE_SECONDS
        with self._failures("list", ""):
            for folder, folders, names in os.walk(self._root):
                for name in names + folders:
                    path = os.path.join(folder, name)
                    if name.startswith(TEMPORARY):
                        with contextlib.suppress(FileNotFoundError):
                            if os.stat(path).st_mtime < oldest:
                                _remove(path)
                folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]

    def _path(self, key: str) -> str:
        return os.path.join(self._root, *check_key(key).split("/"))

    def _make_folder(self, folder: str) -> None:
        """Make `folder` and its parents, each durable in its parent.

        One below the root that is already there may have been made a moment ago by a process
        that has not synced it yet, or never will: each is synced once by each process.
        """
        unsure: list[str] = []
        while folder not in self._durable:
            there = os.path.isdir(folder)
            if there and len(folder) <= len(self._root):
                break
            unsure.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(unsure):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
            _sync(os.path.dirname(path))
            self._durable.add(path)

    @contextlib.contextmanager
    def _failures(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _raise(error, operation, key, self._shown)


def _raise(error: OSError, operation: str, key: str, root: str) -> NoReturn:
    what = f"{operation} of {f'{key} in {root}' if key else root}: {error.strerror or error}"
    absent = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR)
    if error.errno in absent and operation in ("get", "head"):
        raise KeyAbsentError(f"no object {key} in {root}", operation=operation, key=key) from error
    if error.errno in _FULL:
        raise StorageFullError(
            what, operation=operation, key=key, hint="free some room, then run the command again"
        ) from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = f"check the permissions of {root}"
        if error.errno == errno.EROFS:
            remedy = f"{root} is mounted read-only: mount it anew, or give another store"
        raise PermissionDeniedError(what, operation=operation, key=key, hint=remedy) from error
    hint = None
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        hint = f"a file stands where a folder is needed; is {root} a folder?"
    elif error.errno in _NO_LOCKS:
        hint = "this file system has no locks: keep the store on another, or on an S3 server"
    raise BackendError(what, operation=operation, key=key, hint=hint) from error


def _hidden(name: str) -> bool:
    return name.startswith(TEMPORARY) or name == LOCK


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)  # of a probe that was killed
    else:
        os.unlink(path)


def _version(status: os.stat_result) -> str:
    # Inodes are given out again, so the time must tell two files of one key apart: `_write` makes
    # it finer than the kernel's clock, `_make_newer` keeps it ascending over replacements.
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _make_newer(path: str, than_ns: int) -> None:
    """See to it that the file's mtime is later than `than_ns`, whatever the clock says.

    Two writes in one tick of the clock, of equal length and with a reused inode, would otherwise
    have the same version. The steps are the granularities that file systems keep.
    """
    for step in (1, 1_000, 2_000_000_000):
        status = os.stat(path)
        if status.st_mtime_ns > than_ns:
            return
        os.utime(path, ns=(status.st_atime_ns, than_ns + step))
        _sync(path)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, _version(status), status.st_mtime)


def _read(handle: int, start: int, end: int) -> bytes:
    """Return the bytes from `start` to `end`, fewer only where the file ends before."""
    data = os.pread(handle, end - start, start)
    if len(data) == end - start:
        return data
    parts = [data]
    at = start + len(data)
    while parts[-1] and at < end:
        parts.append(os.pread(handle, end - at, at))
        at += len(parts[-1])
    return b"".join(parts)


def _write(path: str, data: Sequence[Buffer]) -> None:
    """Write a new read-only file and sync it; its time is exact to less than the clock's tick."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        buffers = [memoryview(buffer).cast("B") for buffer in data if len(buffer)]
        while buffers:
            written = os.writev(handle, buffers[:_MOST_BUFFERS])
            while buffers and written >= len(buffers[0]):
                written -= len(buffers.pop(0))
            if written:
                buffers[0] = buffers[0][written:]
        status = os.fstat(handle)
        os.utime(handle, ns=(status.st_atime_ns, status.st_mtime_ns + secrets.randbelow(_TICK_NS)))
        os.fsync(handle)  # a failed sync is never tried again: the kernel may have dropped the data
    finally:
        os.close(handle)


def _link(source: str, target: str) -> None:
    """Give the file `source` the name `target` unless that is taken.

    Where the file system has no links (some over FUSE and SMB), a rename that never replaces is
    as good. Where it has neither, nothing would keep two writers apart, so it is refused.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_exclusively(source, target, error)


def _rename_exclusively(source: str, target: str, why: OSError) -> None:
    import ctypes  # noqa: PLC0415  # 8 ms, only where there are no links

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if rename is not None:
        names = os.fsencode(source), os.fsencode(target)
        if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
    if number == errno.EEXIST:
        raise FileExistsError(number, os.strerror(number), target)
    if number not in (errno.ENOSYS, errno.EINVAL, *_NO_LINKS):
        raise OSError(number, os.strerror(number), target)
    raise BackendError(
        f"put of {target}: this file system has neither hard links nor exclusive renames, so "
        "writers could overwrite one another",
        operation="put",
        hint="keep the store on another file system, or on an S3 server",
    ) from why


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
