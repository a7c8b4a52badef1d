"""A backend in a local folder: one file an object, published by link or rename.

Bytes are written to a temporary file beside their place, synced, and only then given their
name, so nobody ever sees part of an object and what was acknowledged survives a crash.
Implements section "Local folder" of docs/design/consistency.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
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
    KeyAbsentError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)

TEMPORARY: Final = ".tmp-"
LOCK: Final = ".lock"

_STALE_SECONDS: Final = 24 * 3600
_MOST_BUFFERS: Final = 512  # of one writev; the kernel takes at most 1,024


class LocalBackend(Backend):
    """Objects as files below `root`, which is created at the first write."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(root)

    @property
    def url(self) -> str:
        return self._root

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        with self._failures("get", key), open(self._path(key), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            start, end = byte_range or (0, status.st_size)
            if not 0 <= start <= end <= status.st_size:
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
                os.link(temporary, path)
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

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder, _, begin = prefix.rpartition("/")
        where = os.path.join(self._root, folder) if folder else self._root
        with self._failures("list", prefix):
            yield from self._list(where, folder + "/" if folder else "", begin)

    def _list(self, where: str, prefix: str, begin: str = "") -> Iterator[ObjectInfo]:
        try:
            with os.scandir(where) as found:
                entries = [e for e in found if e.name.startswith(begin) and not _hidden(e.name)]
        except FileNotFoundError:
            return
        names = {e.name + "/" * e.is_dir(follow_symlinks=False): e for e in entries}
        for name in sorted(names):
            if name.endswith("/"):
                yield from self._list(names[name].path, prefix + name)
                continue
            try:
                status = os.stat(names[name].path, follow_symlinks=False)
            except FileNotFoundError:
                continue  # deleted since the folder was read
            yield _info(prefix + name, status)

    def delete(self, keys: Sequence[str]) -> None:
        folders: set[str] = set()
        for key in keys:
            path = self._path(key)
            with self._failures("delete", key), contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                folders.add(os.path.dirname(path))
        for folder in folders:
            with self._failures("delete", folder):
                _sync(folder)

    def probe(self) -> Capabilities:
        create_only, replace_if = race(self)
        return Capabilities("local folder", create_only=create_only, replace_if=replace_if)

    def remove_stale(self) -> None:
        """Remove temporary files that writers left behind more than a day ago."""
        oldest = time.time() - _STALE_SECONDS
        with self._failures("list", ""):
            for folder, _, names in os.walk(self._root):
                for name in names:
                    path = os.path.join(folder, name)
                    if name.startswith(TEMPORARY):
                        with contextlib.suppress(FileNotFoundError):
                            if os.stat(path).st_mtime < oldest:
                                os.unlink(path)

    def _path(self, key: str) -> str:
        return os.path.join(self._root, *check_key(key).split("/"))

    def _make_folder(self, folder: str) -> None:
        """Make `folder` and its parents, each durable in its parent."""
        missing: list[str] = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
            _sync(os.path.dirname(path))

    @contextlib.contextmanager
    def _failures(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _raise(error, operation, key, self._root)


def _raise(error: OSError, operation: str, key: str, root: str) -> NoReturn:
    what = f"{operation} of {key} in {root}: {error.strerror or error}"
    if error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR):
        raise KeyAbsentError(f"no object {key} in {root}", operation=operation, key=key) from error
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise StorageFullError(
            what, operation=operation, key=key, hint="free some room, then run the command again"
        ) from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise PermissionDeniedError(
            what, operation=operation, key=key, hint=f"check the permissions of {root}"
        ) from error
    raise BackendError(what, operation=operation, key=key) from error


def _hidden(name: str) -> bool:
    return name.startswith(TEMPORARY) or name == LOCK


def _version(status: os.stat_result) -> str:
    # Inodes are given out again; `_make_newer` keeps the times of one key strictly ascending.
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
    """Write a new read-only file and sync it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        buffers = [memoryview(buffer).cast("B") for buffer in data if len(buffer)]
        while buffers:
            written = os.writev(handle, buffers[:_MOST_BUFFERS])
            while buffers and written >= len(buffers[0]):
                written -= len(buffers.pop(0))
            if written:
                buffers[0] = buffers[0][written:]
        os.fsync(handle)  # a failed sync is never tried again: the kernel may have dropped the data
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
