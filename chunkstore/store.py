"""The facade: create or open a store, push, pull, read.

All else in the library stands below this module. `versions` has the methods that name, drop and
bring back versions, `upkeep` those that look after a store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import IO, TypeAlias

from chunkstore import inspection, layout, values
from chunkstore.address import LATEST, Address, parse_address
from chunkstore.backends.location import HttpOptions, S3Options, open_backend
from chunkstore.backends.retry import DEFAULT_DEADLINE
from chunkstore.chunk_index import DEFAULT_BUDGET
from chunkstore.chunker import Chunker
from chunkstore.creation import check_creatable, create_on, new_config
from chunkstore.entries import entries_below, entries_in
from chunkstore.events import ProgressCallback, ignore
from chunkstore.filters import PathFilter
from chunkstore.format.config import ChunkerSpec
from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.inspection import version_of
from chunkstore.objects import Objects
from chunkstore.profile import OFF, Profile
from chunkstore.restore import LinkPolicy, PullOptions, restore
from chunkstore.segment_cache import root_folder
from chunkstore.source import Source, open_source
from chunkstore.stream import FileContent, buffered, open_content
from chunkstore.target import check_apart
from chunkstore.upkeep import Upkeep
from chunkstore.versions import Versions
from chunkstore.writer import PushOptions, push

StrPath: TypeAlias = str | os.PathLike[str]


class Store(Versions, Upkeep):
    """A store that is open. Use it as a context manager, or call `close`. Thread-safe.

    Every method may raise BackendError where the storage fails, and IntegrityError where what is
    stored is damaged or gone; methods that change a dataset raise ConflictError after other writers
    were first a hundred times.
    """

    @classmethod
    def create(
        cls,
        url: str,
        *,
        chunker: ChunkerSpec | None = None,
        frame_size: int | None = None,
        pack_length: int | None = None,
        s3: S3Options | None = None,
        cache_folder: StrPath | None = None,
        deadline: float = DEFAULT_DEADLINE,
        index_budget: int = DEFAULT_BUDGET,
        progress: ProgressCallback = ignore,
    ) -> Store:
        """Create a store and open it.

        The storage is probed with racing writers. One that ignores conditional writes gets a
        store for one writer at a time; a Notice says so.

        Args:
            url: a folder, or `s3://bucket/prefix?endpoint=...`; not a server.
            chunker: how files are cut, for ever.
            frame_size: raw bytes that are compressed together, default 1 MiB.
            pack_length: stored bytes of a pack, default 32 MiB.
            s3: credentials and settings that do not stand in the URL.
            cache_folder: where local caches lie; default the user's cache folder.
            deadline: seconds for which a request is tried again that a server does not answer;
                at most 20 until the server has answered once.
            index_budget: bytes of the index that a push downloads at most; beyond it, it samples.
            progress: gets Notices.

        Raises:
            InvalidInputError: a bad address or size, no such chunker, no credentials for S3.
            AlreadyExistsError: there is a store.
            RefusedError: other things lie there.
            BackendError: the storage cannot be written.
        """
        config = new_config(chunker, frame_size, pack_length)  # before anything is written
        check_creatable(url)
        backend = open_backend(url, s3=s3, deadline=deadline)
        try:
            config = create_on(backend, config, progress)
            return cls(backend, config, root_folder(cache_folder), index_budget)
        except BaseException:
            backend.close()
            raise

    @classmethod
    def open(
        cls,
        url: str,
        *,
        s3: S3Options | None = None,
        http: HttpOptions | None = None,
        cache_folder: StrPath | None = None,
        deadline: float = DEFAULT_DEADLINE,
        index_budget: int = DEFAULT_BUDGET,
    ) -> Store:
        """Open a store; other arguments as for `create`.

        Args:
            url: a folder, `s3://bucket/prefix?endpoint=...`, or `https://host` of a server.
            s3: credentials and settings that do not stand in the URL.
            http: the token for a server, or the file that holds it.
            cache_folder: where local caches lie.
            deadline: seconds for which a request is tried again.
            index_budget: bytes of the index that a push downloads at most.

        Raises:
            InvalidInputError: not an address, no credentials for S3, a token that is none.
            NotFoundError: there is no store, or no file of a token.
            UnsupportedFormatError: it was written by another version of chunkstore.
            CorruptObjectError: its config is damaged.
            BackendError: the storage does not answer, or refuses.
        """
        backend = open_backend(url, s3=s3, http=http, deadline=deadline)
        try:
            return cls(
                backend, Objects(backend).read_config(), root_folder(cache_folder), index_budget
            )
        except BaseException:
            backend.close()
            raise

    # data

    def push(
        self,
        source: StrPath | IO[bytes],
        dataset: str,
        *,
        message: str = "",
        tags: Sequence[str] = (),
        name: str | None = None,
        tar: bool = False,
        unwrap: bool = False,
        expect: str | None = None,
        keep: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        dry_run: bool = False,
        skip_unreadable: bool = False,
        allow_same: bool = False,
        level: int = 3,
        progress: ProgressCallback = ignore,
        profile: Profile | None = None,
    ) -> values.PushResult:
        """Make the next version of `dataset` from a folder, a file or a stream.

        Sends only chunks that the store lacks. A push that was broken off goes on, when it is
        called again, from what is stored. When it returns, the version is durable; when it
        raises, there is no new version (but see `BackendError` below).

        Args:
            source: a folder, a file, or a stream of bytes.
            dataset: its name.
            message: what to say of the version.
            tags: names for the version.
            name: path of a file or stream in the version; a stream needs it.
            tar: the stream is a tar archive, and what it holds is the version.
            unwrap: the archive's one folder at its top is left out of the paths.
            expect: the version that must be the latest, "0" for none; else ConflictError.
            keep: put a single file or stream beside the other files of the latest version, also
                of one that comes meanwhile: many who do so lose nothing of each other.
            include: patterns, as in gitignore, of what of a folder takes part.
            exclude: patterns of what does not.
            dry_run: only say what would be done; files that cannot be read are left out.
            skip_unreadable: commit without files that cannot be read, naming them.
            allow_same: make a version even where nothing changed.
            level: of zstd, 1 to 19.
            progress: gets Progress, Item and Notice events.
            profile: takes the times of the stages.

        Raises:
            UnreadableFilesError: files could not be read; nothing was committed.
            ConflictError: `expect` did not hold.
            InvalidInputError: an argument that can never work.
            NotFoundError: there is no such source; `expect` names a version that is not there.
            FilesystemError: the source cannot be looked at.
            UnsupportedFormatError, IntegrityError: the store is newer, or damaged.
            BackendError: the storage failed. If it failed at the very commit, only looking tells
                whether that took place: push again; what is there makes no second version.
        """
        options = PushOptions(
            message=message,
            tags=tuple(tags),
            expect=expect,
            keep=keep,
            paths=PathFilter(include, exclude),
            dry_run=dry_run,
            skip_unreadable=skip_unreadable,
            allow_same=allow_same,
            level=level,
            clock=profile or OFF,
        )
        what = open_source(source, name, archive=tar, unwrap=unwrap)
        return self._push(what, dataset, options, progress)

    def pull(
        self,
        address: str | Address,
        target: StrPath,
        *,
        delete: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        links: LinkPolicy = "inside",
        dry_run: bool = False,
        progress: ProgressCallback = ignore,
        profile: Profile | None = None,
    ) -> values.PullResult:
        """Restore a version, or one path of it, into the folder `target`.

        Fetches only what the target lacks: identical files are left alone, files that differ
        give up their matching chunks, files that were broken off go on. Every byte is verified.
        Files of the target that the version does not have stay, unless `delete` is given.

        Args:
            address: `name[@version][:path]`.
            target: a folder, made if it is missing. A single file goes into a folder that
                exists, else it gets the target's name.
            delete: remove what the version does not have; ignored files stay.
            include: patterns, as in gitignore, of what takes part.
            exclude: patterns of what does not.
            links: which symbolic links are made: "none", those that stay "inside", or "all".
            dry_run: only say what would be done.
            progress: gets Progress and Item events.
            profile: takes the times of the stages.

        Raises:
            InvalidInputError, NotFoundError: an argument is none, or names what is not there.
            RefusedError: the target is in the store, or `delete` and the store in the target.
            FilesystemError: the target cannot be written; nothing half done stays.
            IntegrityError: bytes of the store are damaged or gone; no wrong byte is written.
            BackendError: the storage failed; the same pull goes on from what is in place.
        """
        where = parse_address(address)
        _, record = self._resolve(where)
        paths, clock = PathFilter(include, exclude), profile or OFF
        options = PullOptions(
            path=where.path, paths=paths, delete=delete, links=links, dry_run=dry_run, clock=clock
        )
        check_apart(self.url, os.fspath(target), options.paths, delete=delete)
        identifier, cutter = record.manifest_id, Chunker(self._config.chunker)
        stats, left_out = restore(
            self._reader, identifier, cutter, os.fspath(target), options, progress
        )
        return values.PullResult(
            dataset=where.dataset,
            version=record.number,
            manifest_id=identifier,
            stats=stats,
            left_out=left_out,
        )

    def status(
        self,
        folder: StrPath,
        address: str | Address,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        progress: ProgressCallback = ignore,
    ) -> values.StatusResult:
        """Hold a folder against a version: what differs, and what a push would send.

        A dataset that is not there counts as one without files, unless one of its versions is
        named. Arguments are as for `push`; a path in the address plays no part.

        Raises:
            NotFoundError: there is no such folder or version; and what `push` raises.
        """
        where = parse_address(address)
        if where.version != LATEST:
            self._resolve(where)
        paths = PathFilter(include, exclude)
        options = PushOptions(paths=paths, dry_run=True, against=where.version)
        watch = inspection.StatusWatch(progress)
        result = self._push(open_source(folder, None), where.dataset, options, watch)
        return watch.result(self._refs.get(where.dataset), where.version, result)

    def open_file(self, address: str | Address) -> IO[bytes]:
        """Open one file of a version: seekable, buffered, every byte verified.

        Raises:
            NotFoundError: no such dataset, version or file; a folder or link stands there.
        """
        where = parse_address(address)
        return buffered(self.file_content(where), str(where))

    def file_content(self, address: str | Address) -> FileContent:
        """Return one file of a version for reading by ranges, in blocks, reading ahead.

        Raises:
            NotFoundError: no such dataset, version or file; a folder or link stands there.
        """
        where = parse_address(address)
        _, record = self._resolve(where)
        reader = self._reader()
        return open_content(reader, reader.manifest(record.manifest_id), where)

    def contents(
        self,
        address: str | Address,
        *,
        start: str = "",
        on_fetched: inspection.Counter = lambda _: None,
    ) -> Iterator[tuple[Entry, FileContent | None]]:
        """Yield the entries of a version, or of one path of it, by path; files with their bytes.

        `on_fetched` is told of stored bytes, by any thread. Nothing is raised before the first is
        taken. `start` and what it raises: as `entries`.
        """
        where = parse_address(address)
        reader, (_, record) = self._reader(on_fetched), self._resolve(where)
        manifest = reader.manifest(record.manifest_id)
        for entry, hints in entries_below(reader, manifest, where.path, start=start):
            content = FileContent(reader, entry, hints)
            yield entry, content if entry.kind == EntryKind.FILE else None

    # names

    def datasets(self, prefix: str = "") -> list[str]:
        """Return the names of all datasets that begin with `prefix`, sorted, empty ones too."""
        return [name for name in self._refs.names() if name.startswith(prefix)]

    def dataset(self, name: str) -> values.Dataset:
        """Return a dataset and its versions.

        Raises:
            InvalidInputError: not a dataset's name.
            NotFoundError: there is none, or it has no versions; the nearest names are offered.
        """
        ref = self._refs.require(layout.check_name(name, "dataset")).ref
        return values.Dataset(name=name, versions=tuple(version_of(ref, r) for r in ref.versions))

    def version(self, address: str | Address) -> values.Version:
        """Return one version.

        Raises:
            NotFoundError: no such dataset or version.
        """
        ref, record = self._resolve(parse_address(address))
        return version_of(ref, record)

    def entries(self, address: str | Address, *, start: str = "") -> Iterator[Entry]:
        """Yield the entries of a version, or those at and below one path of it, by path.

        Nothing is raised before the first is taken.

        Args:
            address: `name[@version][:path]`.
            start: leave out the paths that stand before it, without reading them.

        Raises:
            NotFoundError: no such dataset, version or path.
        """
        for entry, _ in self.contents(address, start=start):
            yield entry

    def folder(self, address: str | Address, *, start: str = "") -> Iterator[Entry]:
        """Yield what stands in one folder of a version, one level of it, by path.

        Each folder in it is an entry of that kind, empty or not, with a slash at the end of its
        path; what lies below is passed over, mostly unread. A file or link yields itself. `start`
        and what it raises: as `entries`.
        """
        where = parse_address(address)
        reader, (_, record) = self._reader(), self._resolve(where)
        manifest = reader.manifest(record.manifest_id)
        yield from entries_in(reader, manifest, where.path, start=start)

    def diff(
        self, before: str | Address, after: str | Address, *, start: str = ""
    ) -> Iterator[values.Change]:
        """Yield what differs between two versions, by path; costs in proportion to that.

        Paths in the addresses play no part. Nothing is raised before the first change is taken.
        Paths that stand before `start` are left out, without being read.

        Raises:
            NotFoundError: no such dataset or version.
        """
        reader = self._reader()
        found = [self._resolve(parse_address(address))[1] for address in (before, after)]
        manifests = [reader.manifest(record.manifest_id) for record in found]
        yield from inspection.diff(reader, *manifests, start=start)

    def _push(
        self, source: Source, dataset: str, options: PushOptions, progress: ProgressCallback
    ) -> values.PushResult:
        return push(self._objects, self._config, self._caches, source, dataset, options, progress)
