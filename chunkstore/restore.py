"""Pull: a version, or part of it, becomes files of a folder; only what is missing is fetched.

Goes through the entries in order, looks at what the target has, and has what is missing fetched. A
file is written under a part name and renamed when it is complete. Neighbours: `gather` finds what
is missing of a file, `fetcher` fetches and writes, `target` knows the folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from chunkstore.chunker import Chunker
from chunkstore.entries import entries_below
from chunkstore.errors import FilesystemError, InvalidInputError, RefusedError
from chunkstore.events import Action, Item, Progress, ProgressCallback
from chunkstore.fetcher import Fetcher
from chunkstore.filters import EVERYTHING, PathFilter
from chunkstore.format.manifest import Entry, EntryKind, Manifest, PackHint
from chunkstore.gather import Gatherer
from chunkstore.ids import ManifestId
from chunkstore.profile import OFF, Clock
from chunkstore.reader import Reader
from chunkstore.restored_file import RestoredFile
from chunkstore.seeds import SeedFile, open_seed
from chunkstore.small_file import SmallFile
from chunkstore.target import (
    AbsentError,
    Folder,
    ObstacleError,
    Target,
    link_leads_out,
    part_name,
    superfluous,
)
from chunkstore.values import PullStats
from chunkstore.walk import part_problem

LinkPolicy: TypeAlias = Literal["none", "inside", "all"]

_Compared: TypeAlias = tuple[RestoredFile, Sequence[PackHint], SeedFile, Future[bool]]

_PROGRESS_SECONDS: Final = 0.1

_BESIDE: Final = 128 * 1024
"""Bytes of a file from which on another thread compares it with what stands in its place; for a
smaller one, handing it over costs more than hashing it."""

_COMPARED: Final = 32
"""Files that are compared at a time, or wait for it, with open descriptors."""

_SEED_WORTH: Final = 64 * 1024
"""Bytes of a file of one chunk from which on an older one in its place is searched for that chunk:
cutting it up costs more than the little that could be saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """What the caller of a pull may choose; see `Store.pull`."""

    path: str = ""
    paths: PathFilter = EVERYTHING
    delete: bool = False
    links: LinkPolicy = "inside"
    dry_run: bool = False
    clock: Clock = OFF

    def __post_init__(self) -> None:
        if self.links not in get_args(LinkPolicy):
            raise InvalidInputError(
                f"unknown links policy {self.links!r}", hint="'none', 'inside' or 'all'"
            )


def restore(
    open_reader: Callable[[Callable[[int], None], Clock], Reader],
    manifest_id: ManifestId,
    chunker: Chunker,
    root: str,
    options: PullOptions,
    progress: ProgressCallback,
) -> tuple[PullStats, tuple[tuple[str, str], ...]]:
    """Pull a version into the folder `root`; see `Store.pull`.

    Returns what was done, and (path, reason) of what was left out. `open_reader` is given what
    counts the stored bytes that are fetched.
    """
    counted: list[Restore] = []
    clock = options.clock
    reader = open_reader(lambda length: counted[0].fetched(length) if counted else None, clock)
    pull = Restore(reader, reader.manifest(manifest_id), chunker, root, options, progress)
    counted.append(pull)
    return clock.timed("target", pull.run)(), tuple(pull.left_out)


class Restore:
    """One pull."""

    def __init__(
        self,
        reader: Reader,
        manifest: Manifest,
        chunker: Chunker,
        root: str,
        options: PullOptions,
        progress: ProgressCallback,
    ) -> None:
        self._reader = reader
        self._manifest = manifest
        self._chunker = chunker
        self._options = options
        self._progress = progress
        self._root = root
        self._rename: str | None = None  # the single file's name in the target
        self._target: Target | None = None
        self._links: list[Entry] = []
        self._finished: deque[Item] = deque()
        self._pool = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "chunkstore-compare")
        self._compared: deque[_Compared] = deque()
        self._lock = threading.Lock()
        self._is_same = options.clock.timed("compare", SeedFile.is_same, _size)
        self._told_at = 0.0
        self._files = self._size = self._deleted = 0
        self._done_files = 0
        self._reused = self._fetched = 0
        self.left_out: list[tuple[str, str]] = []

    def fetched(self, length: int) -> None:
        """Count stored bytes that the reader fetched."""
        with self._lock:
            self._fetched += length

    def run(self) -> PullStats:
        """Restore everything that was asked for.

        Raises:
            FilesystemError: the target cannot be written; parts of files are removed.
            IntegrityError, BackendError: the store failed; parts of files stay for the next pull.
        """
        started = time.monotonic()
        entries = self._entries()
        first = next(entries, None)
        self._aim(first[0] if first else None)
        exists = os.path.isdir(self._root)
        self._fetcher = Fetcher(
            self._reader,
            self._manifest.packs,
            dry_run=self._options.dry_run,
            on_progress=self._tell,
            clock=self._options.clock,
        )
        self._gatherer = Gatherer(self._reader, self._fetcher)
        try:
            if exists or not self._options.dry_run:
                self._target = Target(
                    self._root,
                    create=not self._options.dry_run,
                    clear=self._paths if self._options.delete else None,
                )
            if first:
                self._restore(*first)
                for entry, hints in entries:
                    self._restore(entry, hints)
            while self._compared:
                self._compare(*self._compared.popleft())
            self._fetcher.finish()
            self._make_links()
            if self._options.delete:
                self._delete()
        except FilesystemError:
            self._fetcher.drop_parts(remove=True)
            raise
        except BaseException:
            self._fetcher.drop_parts(remove=False)
            raise
        finally:
            for _, _, seed, _ in self._compared:  # after a failure
                seed.stop()
            self._pool.shutdown(wait=True, cancel_futures=True)
            for file, _, seed, _ in self._compared:
                seed.close()
                file.release()
            self._fetcher.close()
            if self._target:
                self._target.close()
        self._tell(force=True)
        return PullStats(
            files=self._files,
            size=self._size,
            fetched_bytes=self._fetched + self._fetcher.planned,
            reused_bytes=self._reused + self._gatherer.reused,
            written_bytes=self._fetcher.written,
            deleted=self._deleted,
            seconds=time.monotonic() - started,
        )

    @property
    def _paths(self) -> PathFilter:
        """The filter for paths as they are in the target."""
        prefix = self._options.path
        return self._options.paths.below(f"{prefix}/") if prefix else self._options.paths

    def _entries(self) -> Iterator[tuple[Entry, list[PackHint]]]:
        paths = self._options.paths
        for entry, hints in entries_below(self._reader, self._manifest, self._options.path):
            if paths.takes_all or paths.takes(entry.path):
                yield entry, hints

    def _aim(self, first: Entry | None) -> None:
        """Find the target folder: for a single file that was asked for, the file's own folder.

        As with `cp`, a single file goes into a target that is a folder, else it gets the
        target's name.

        Raises:
            RefusedError: the target is neither file nor folder, and would be replaced.
        """
        path = self._options.path
        if first is None or first.path != path or not path:
            return
        if os.path.isdir(self._root):
            self._rename = path.rpartition("/")[2]
        else:
            if os.path.exists(self._root) and not os.path.isfile(self._root):  # such as /dev/stdout
                raise RefusedError(
                    f"{self._root!r} is a pipe, socket or device, not a file",
                    hint="cat writes a file of a version there",
                )
            self._root, self._rename = os.path.split(os.path.abspath(self._root))

    def _place(self, entry: Entry) -> str:
        """Return where in the target an entry goes."""
        if self._rename is not None:
            return self._rename
        prefix = self._options.path
        return entry.path[len(prefix) + 1 :] if prefix else entry.path

    # one entry

    def _restore(self, entry: Entry, hints: Sequence[PackHint]) -> None:
        self._files += 1
        self._size += entry.size
        problem = self._name_problem(self._place(entry))
        if problem:
            self._leave_out(entry, problem)
            return
        if entry.kind == EntryKind.LINK:
            self._links.append(entry)
            return
        try:
            if entry.kind == EntryKind.FOLDER:
                if self._target:
                    place = self._place(entry).rstrip("/")
                    with contextlib.suppress(AbsentError):
                        self._target.folder(place, create=not self._options.dry_run)
                self._done(entry, "restored")
            else:
                self._file(entry, hints)
        except ObstacleError as error:
            self._leave_out(entry, str(error))
        self._tell()

    def _name_problem(self, place: str) -> str | None:
        """Return why nothing can be restored at `place`, whatever stands there."""
        if problem := part_problem(place):
            return problem
        other = self._target.clash(place) if self._target else None
        if other is not None:
            return f"this file system cannot tell it from {other!r} beside it"
        return None

    def _file(self, entry: Entry, hints: Sequence[PackHint]) -> None:
        place = self._place(entry)
        above, _, name = place.rpartition("/")
        folder: Folder | None = None
        seed: SeedFile | None = None
        if self._target:
            with contextlib.suppress(AbsentError):  # in a dry run
                folder = self._target.folder(above, create=not self._options.dry_run)
                if folder.fresh and self._whole(entry, name, folder, hints):
                    return
                status = self._target.status(folder, name)
                self._target.make_way(folder, place, status)
                if status and stat.S_ISREG(status.st_mode):
                    with self._target.failures(entry.path):
                        seed = open_seed(folder.handle, name, self._chunker, entry)
        file = RestoredFile(entry, name, self._target, dry_run=self._options.dry_run)
        file.folder = folder.hold() if folder else None
        if seed is None or entry.size < _BESIDE:
            self._compare(file, hints, seed, None)
            return
        comparison = self._pool.submit(self._is_same, seed)
        self._compared.append((file, hints, seed, comparison))
        if len(self._compared) > _COMPARED:
            self._compare(*self._compared.popleft())

    def _compare(
        self,
        file: RestoredFile,
        hints: Sequence[PackHint],
        seed: SeedFile | None,
        comparison: Future[bool] | None,
    ) -> None:
        """Have what is missing of a file fetched: nothing, if what stands there is the same."""
        entry, folder = file.entry, file.folder
        try:
            if seed is None:
                same = False
            elif comparison is None:
                same = self._is_same(seed)
            else:
                same = self._options.clock.wait(comparison)
            if same and seed is not None and file.refresh(seed.handle):
                self._reused += entry.size
                self._fetcher.looked_through(entry.size)
                self._done(entry, "reused")
                file.release()
            elif not same and folder and self._whole(entry, file.name, folder, hints):
                file.release()
            else:
                file.on_complete = self._complete
                self._gatherer.gather(file, hints, seed if entry.size else None)
        except OSError as error:
            raise FilesystemError(
                f"cannot read {entry.path!r} in the target: {error.strerror}",
                hint="move it away, then run the same command again",
            ) from error
        finally:
            if seed is not None:
                seed.close()

    def _whole(self, entry: Entry, name: str, folder: Folder, hints: Sequence[PackHint]) -> bool:
        """Have a file of at most one chunk written in one go, unless what is there may serve."""
        blob, target = entry.blob, self._target
        if blob.depth or blob.count > 1 or blob.size != entry.size:
            return False
        if self._options.dry_run or target is None:
            return False
        if not folder.fresh and (
            entry.size > _SEED_WORTH or target.status(folder, part_name(name)) is not None
        ):
            return False
        file = SmallFile(entry, name, folder, target, self._complete)
        if blob.count:
            self._fetcher.want_small(file, hints)
        else:
            file.write(b"", 0)
        return True

    def _complete(self, file: RestoredFile | SmallFile) -> None:
        """Take note of a finished file; called in any thread."""
        if isinstance(file, RestoredFile):
            self._fetcher.completed(file)
        action: Action = "reused" if file.resumed else "restored"
        self._finished.append(Item(action=action, path=file.entry.path, size=file.entry.size))

    # links and deletions

    def _make_links(self) -> None:
        for entry in self._links:
            place = self._place(entry)
            if self._options.links == "none":
                self._leave_out(entry, "links are left out by --links none")
            elif self._options.links == "inside" and link_leads_out(place, entry.target):
                self._leave_out(entry, f"the link leads out, to {entry.target!r}")
            elif self._options.dry_run or self._target is None:
                self._done(entry, "restored")
            else:
                self._link(self._target, entry, place)

    def _link(self, target: Target, entry: Entry, place: str) -> None:
        above, _, name = place.rpartition("/")
        try:
            folder = target.folder(above)
            status = target.status(folder, name)
            if status and stat.S_ISLNK(status.st_mode):
                with target.failures(place):
                    if os.readlink(name, dir_fd=folder.handle) == entry.target:
                        self._done(entry, "reused")
                        return
            target.make_way(folder, place, status)
            target.link(folder, name, entry.target)
            self._done(entry, "restored")
        except ObstacleError as error:
            self._leave_out(entry, str(error))

    def _delete(self) -> None:
        """Remove what the version has not, as far as the filter takes it."""
        if self._target is None or self._rename is not None:
            return
        for path in self._target.cleared:
            self._deleted += 1
            self._progress(Item(action="removed", path=path, size=0))
        wanted = (self._place(entry) for entry, _ in self._entries())
        for gone in superfluous(self._target, wanted, self._paths):
            if not self._options.dry_run:
                self._target.remove(gone)
            self._deleted += 1
            self._progress(Item(action="removed", path=gone.path, size=gone.size))

    # events

    def _done(self, entry: Entry, action: Action) -> None:
        self._finished.append(Item(action=action, path=entry.path, size=entry.size))

    def _leave_out(self, entry: Entry, reason: str) -> None:
        self.left_out.append((entry.path, reason))
        self._progress(Item(action="left out", path=entry.path, size=entry.size, reason=reason))

    def _tell(self, *, force: bool = False) -> None:
        while self._finished:
            item = self._finished.popleft()
            self._done_files += 1
            self._progress(item)
        now = time.monotonic()
        if force or now - self._told_at >= _PROGRESS_SECONDS:
            self._told_at = now
            whole = not self._options.path and self._options.paths.takes_all
            self._progress(
                Progress(
                    done_bytes=self._reused + self._gatherer.reused + self._fetcher.written,
                    total_bytes=self._manifest.size if whole else None,
                    moved_bytes=self._fetched + self._fetcher.planned,
                    done_files=self._done_files,
                    total_files=self._manifest.files if whole else None,
                )
            )


def _size(_: bool, seed: SeedFile) -> int:
    return seed.size
