"""A version, or one path of it, as a tar archive: on stdout, in a file, or into a container.

Nothing is staged. An archive in a file has its name once it is whole. Neighbours: `commands.pull`,
`container`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Final, Literal, Protocol

from chunkstore.address import Address
from chunkstore.errors import FilesystemError, InvalidInputError
from chunkstore.events import Item, Progress, ProgressCallback
from chunkstore.filters import EVERYTHING, PathFilter
from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.stream import FileContent
from chunkstore.tar_writer import tar_blocks
from chunkstore.values import PullResult, PullStats
from chunkstore.walk import PART_PREFIX
from chunkstore_cli import output

if TYPE_CHECKING:
    from chunkstore.store import Store

_TOLD_EVERY: Final = 8 * 1024 * 1024
"""Bytes of one file after which its progress is told."""


class Archive:
    """The archive of one pull; paths in it are those that a pull into a folder gives."""

    def __init__(
        self, store: Store, where: Address, paths: PathFilter = EVERYTHING, target: str = ""
    ) -> None:
        """Find the version.

        Args:
            store: where it is.
            where: the version, or one path of it.
            paths: what of it takes part.
            target: a folder in the archive in which all lies; of a single file its own path,
                unless it ends with a slash.

        Raises:
            NotFoundError: no such dataset or version.
        """
        self._started = time.monotonic()
        self._store = store
        self._version = store.version(Address(where.dataset, where.version))
        self._where = Address(where.dataset, str(self._version.number), where.path)
        self._paths = paths
        self._whole = paths.takes_all and not where.path
        self._top = f"{target.strip('/')}/" if target.strip("/") else ""
        self._file = "" if target.endswith("/") else target.strip("/")
        self._lock = threading.Lock()
        self._files = self._size = self._fetched = self._told = 0

    def write(self, sink: Sink, progress: ProgressCallback) -> PullResult:
        """Write all of it, each byte verified before.

        Raises:
            NotFoundError: the version has nothing at the path.
            IntegrityError: bytes are damaged or gone; what was written is no whole archive.
            BackendError: the storage failed.
            FilesystemError, OutputClosedError: it cannot be written.
        """
        written = 0
        for block in tar_blocks(self._contents(progress)):
            sink.write(block)
            written += len(block)
            if written - self._told >= _TOLD_EVERY:
                self._told = written
                self._tell(progress, min(written, self._size))
        self._tell(progress, self._size)
        return PullResult(
            dataset=self._version.dataset,
            version=self._version.number,
            manifest_id=self._version.manifest_id,
            stats=PullStats(
                files=self._files,
                size=self._size,
                fetched_bytes=self._fetched,
                reused_bytes=0,
                written_bytes=self._size,
                deleted=0,
                seconds=time.monotonic() - self._started,
            ),
        )

    def _contents(self, progress: ProgressCallback) -> Iterator[tuple[Entry, FileContent | None]]:
        for entry, content in self._store.contents(self._where, on_fetched=self._count):
            if not self._paths.takes(entry.path):
                continue
            self._files += 1
            self._size += entry.size
            path = self._place(entry.path)
            if path:  # the folder that was asked for may itself be an empty one
                yield entry._replace(path=path), content
            progress(Item(action="restored", path=entry.path, size=entry.size))
        if self._top and not self._files:
            yield Entry(self._top, EntryKind.FOLDER), None

    def _place(self, path: str) -> str:
        """Return the path in the archive, "" for its root."""
        above = self._where.path
        if path == above:
            return self._file or self._top + path.rpartition("/")[2]
        return self._top + (path[len(above) + 1 :] if above else path)

    def _count(self, length: int) -> None:
        with self._lock:  # large files are read by several threads
            self._fetched += length

    def _tell(self, progress: ProgressCallback, done: int) -> None:
        progress(
            Progress(
                done_bytes=done,
                total_bytes=self._version.size if self._whole else None,
                moved_bytes=self._fetched,
                done_files=self._files,
                total_files=self._version.files if self._whole else None,
            )
        )


class Sink(Protocol):
    """Where an archive goes."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Write all of `data`."""


class _Stdout:
    def write(self, data: bytes | memoryview) -> None:
        output.binary(data)


class _FileSink:
    def __init__(self, path: str, file: IO[bytes]) -> None:
        self._path = path
        self._file = file

    def write(self, data: bytes | memoryview) -> None:
        with _failures(self._path):
            self._file.write(data)


@contextlib.contextmanager
def open_sink(path: str) -> Iterator[Sink]:
    """Give what takes the archive: stdout for "-", else a file that is there once it is whole.

    A pipe or device is written as it is.

    Raises:
        InvalidInputError: stdout is a terminal; a folder stands at `path`.
        FilesystemError: it cannot be written.
    """
    if path == "-":
        if sys.stdout is not None and sys.stdout.isatty():
            raise InvalidInputError(
                "an archive is not for a terminal", hint="pipe it on, or give --tar FILE"
            )
        yield _Stdout()
        return
    if os.path.isdir(path):
        raise InvalidInputError(f"{path!r} is a folder", hint="give the name of a file, or -")
    is_special = os.path.exists(path) and not os.path.isfile(path)
    target = os.path.realpath(path)  # a link to it stays a link
    temporary = os.path.join(os.path.dirname(target), PART_PREFIX + secrets.token_hex(8))
    with contextlib.ExitStack() as undo:
        file = _open(path, target, "wb") if is_special else _open(path, temporary, "xb")
        undo.callback(_remove, temporary)
        undo.callback(_close, path, file)
        yield _FileSink(path, file)
        _close(path, file)
        if not is_special:
            with _failures(path):
                os.replace(temporary, target)


def _open(path: str, place: str, mode: Literal["wb", "xb"]) -> IO[bytes]:
    with _failures(path):
        return open(place, mode)


def _close(path: str, file: IO[bytes]) -> None:
    with _failures(path):
        file.close()


def _remove(temporary: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has its name, or there was none
        os.unlink(temporary)


@contextlib.contextmanager
def _failures(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FilesystemError(
            f"cannot write {path!r}: {error.strerror}", hint="give a file that you may write, or -"
        ) from error


def pull_archive(
    store: Store,
    where: Address,
    path: str,
    *,
    include: Sequence[str],
    exclude: Sequence[str],
    progress: ProgressCallback,
) -> PullResult:
    """Write the version, or what of it `where` names, to `path`, "-" for stdout.

    Raises: as `open_sink`, `Archive` and `Archive.write`.
    """
    archive = Archive(store, where, PathFilter(include, exclude))
    with open_sink(path) as sink:
        return archive.write(sink, progress)
