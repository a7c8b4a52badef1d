"""The part of the facade that looks after a store: its sizes, its health, its mending.

Neighbours: `opened` below; `store` above, which has what is done with data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from chunkstore import findings, inspection, layout, values
from chunkstore.address import Address, parse_address
from chunkstore.chunker import Chunker
from chunkstore.copy import Chosen, Copying, choose
from chunkstore.doctor import doctor
from chunkstore.errors import InvalidInputError
from chunkstore.events import ProgressCallback, ignore
from chunkstore.gc import DAY, HOUR, Collector, Confirm, GcOptions, accept
from chunkstore.opened import Opened
from chunkstore.refetch import Folder, OtherStore, Supply, unread
from chunkstore.repair import Consent, Repair, Sources
from chunkstore.retention import Retention
from chunkstore.survey import Level
from chunkstore.verify import MOST_PARTS, Verification, VerifyOptions


class Upkeep(Opened):
    """What looks at a whole store, or mends it."""

    def stat(self, *, by_kind: bool = False) -> values.StoreStat:
        """Return the sizes of the whole store; loads the whole index.

        With `by_kind` also by kind of file, which goes through the entries of all versions.
        """
        return inspection.store_stat(self._objects, self._refs, self._savings(), by_kind=by_kind)

    def dataset_stat(self, address: str | Address) -> values.DatasetStat:
        """Return the sizes of a dataset; goes through the entries of all its versions.

        Raises:
            NotFoundError: there is none.
        """
        ref = self._refs.require(parse_address(address).dataset).ref
        return inspection.dataset_stat(ref, self._objects, self._savings())

    def version_stat(self, address: str | Address) -> values.VersionStat:
        """Return the sizes of a version; goes through its entries and loads the whole index.

        Raises:
            NotFoundError: no such dataset or version.
        """
        return inspection.version_stat(
            *self._resolve(parse_address(address)), self._objects, self._savings()
        )

    def ping(self) -> None:
        """Return once the storage has answered."""
        self._objects.read_config()

    def doctor(self) -> list[values.DoctorCheck]:
        """Look at storage, rights, clock, chunker, index, collector and caches.

        Writes small objects below `probe/`, which race for the same key, and removes them.
        """
        return doctor(self._backend, self._objects, self._config, self._caches.folder)

    def verify(
        self,
        addresses: Sequence[str] = (),
        *,
        level: Level = "directories",
        part: tuple[int, int] = (1, 1),
        progress: ProgressCallback = ignore,
    ) -> findings.VerifyResult:
        """Hold the store, or some versions of it, against all that it promises; changes nothing.

        Others may push, drop and collect meanwhile. Memory does not grow with the store: about
        50 MB for each million chunks lie in files of the cache folder, of which the kernel keeps in
        memory what it likes.

        Args:
            addresses: datasets, or `name@version`; none means everything.
            level: "listing" believes the index, and reads refs, manifests, pages and lists;
                "directories" reads those of all packs too; "data" reads every byte, decompresses
                every frame and hashes every chunk.
            part: (N, M): look into the packs of the Nth of M parts only; after all M parts every
                pack that has been there all the time was looked into.
            progress: gets Progress in bytes and numbers of packs, a Notice for each damaged thing,
                and a LostPath for each path that cannot be read whole.

        Raises:
            NotFoundError: an address names what is not there.
            BackendError: the storage failed; nothing can be said then.
        """
        options = _verify_options(addresses, level, part)
        folder = self._caches.temporary_folder()
        with Verification(self._objects, self._reader(), options, progress, folder) as run:
            return run.run()

    def gc(
        self,
        *,
        apply: bool = False,
        grace: float = DAY,
        reader_grace: float = HOUR,
        force: bool = False,
        keep: Retention | None = None,
        confirm: Confirm = accept,
        progress: ProgressCallback = ignore,
    ) -> values.GcResult:
        """Find packs that no version needs, and with `apply` delete them.

        Others may read and write meanwhile; a run that died is brought to its end by the next one.
        Packs of which half or more is dead are packed again. Memory does not grow with the number
        of chunks: what is alive is kept in temporary files, about 32 bytes a chunk, and so is the
        index.

        Args:
            apply: do it; else it is only planned, and nothing is written.
            grace: seconds for which what nothing needs is left alone after it was written; what a
                running push has sent is so young.
            reader_grace: seconds to wait before the first deletion, so that pulls which found their
                packs before can end.
            force: do it though more than half of the store would go, or the storage shows less than
                after the last collection.
            keep: drop the versions of all datasets that this rule does not keep, before anything
                else. Without a grace their space is freed at once.
            confirm: is shown the plan before anything changes; what it raises ends the run.
            progress: gets Steps and Notices.

        Raises:
            RefusedError: the plan looks like a mistake, and `force` was not given.
            MissingObjectError, CorruptObjectError: a version needs what is gone or damaged; nothing
                was deleted.
            ConflictError: other collections came between, again and again.
        """
        return Collector(
            self._objects,
            self._config,
            self._reader,
            self._caches.temporary_folder(),
            GcOptions(apply=apply, grace=grace, reader_grace=reader_grace, force=force, keep=keep),
            confirm=confirm,
            progress=progress,
        ).run()

    def repair(
        self,
        addresses: Sequence[str] = (),
        *,
        level: Level = "directories",
        part: tuple[int, int] = (1, 1),
        source: Upkeep | None = None,
        files: Sequence[str | os.PathLike[str]] = (),
        dry_run: bool = False,
        consent: Consent = lambda _found, _steps: True,
        progress: ProgressCallback = ignore,
    ) -> findings.RepairResult:
        """Verify, and mend what can be mended; what cannot stays named by `verify`.

        The index is made right from the packs. Damaged and missing packs, chunks, manifests and
        refs are fetched from `source`, lost chunks of files also from `files`. What is good in a
        damaged pack is copied out. Nothing is filled up, and no pack or manifest is deleted.

        Args:
            addresses: datasets or versions, as for `verify`.
            level: how closely packs are looked at before, as for `verify`.
            part: which part of the packs is, as for `verify`.
            source: another store that has the same data, such as a copy.
            files: folders or files that have what was pushed; they are cut again.
            dry_run: only say what would be done.
            consent: is shown what was found and what would be done, before anything is; False
                leaves all as it is.
            progress: as for `verify`.

        Raises:
            NotFoundError: an address names what is not there.
            FilesystemError: one of `files` is not there.
            BackendError: a storage failed; what was mended stays mended.
        """
        supplies: list[Supply] = []
        other = None
        if source is not None:
            other = source._place()
            supplies.append(OtherStore(other.reader(), other.index()))
        for path in files:
            supplies.append(
                Folder(os.fspath(path), Chunker(self._config.chunker), unread(progress))
            )
        run = Repair(
            self._place(),
            _verify_options(addresses, level, part),
            Sources(other, supplies),
            consent,
            progress,
        )
        return run.run(dry_run=dry_run)

    def copy(
        self,
        target: Upkeep,
        addresses: Sequence[str] = (),
        *,
        dataset: str | None = None,
        dry_run: bool = False,
        progress: ProgressCallback = ignore,
    ) -> findings.CopyResult:
        """Copy versions, with their tags, to another store: only what it lacks, every byte checked.

        Versions keep their manifest ids where nothing was ever collected, and their numbers where
        those are free there. A copy that was broken off goes on, when it is called again, from what
        is stored. Versions that are
        damaged here are left out, and named in the result; all others are copied.

        Args:
            target: the other store.
            addresses: datasets, all versions of which are meant, or `name@version`; none means
                everything. Tags of a whole dataset are moved to where they lie here; those of a
                single version are set where they are free.
            dataset: its name there, where one dataset is copied and shall be called otherwise; its
                manifests get other ids then.
            dry_run: only say what would be sent.
            progress: gets Progress in bytes of files that the target lacks, and numbers of
                versions, and Notices.

        Raises:
            InvalidInputError: an address with a path; `dataset` for several.
            NotFoundError: an address names what is not there.
            ConflictError: others were first again and again.
            BackendError: one of the storages failed; what went over stays.
        """
        wanted: dict[str, list[str]] = {}
        for address in addresses or self._refs.names():
            wanted.setdefault(parse_address(address).dataset, []).append(address)
        if dataset is not None and (len(wanted) != 1 or not addresses):
            raise InvalidInputError("only one dataset can be copied under another name")
        chosen: list[Chosen] = []
        for name, own in wanted.items():
            if addresses or self._has_versions(name):
                ref = self._refs.require(name).ref
                chosen.append(choose(ref, own, layout.check_name(dataset or name, "dataset")))
        run = Copying(self._place(), target._place(), dry_run=dry_run, progress=progress)
        return run.run(chosen)

    def _has_versions(self, name: str) -> bool:
        stored = self._refs.get(name)
        return stored is not None and bool(stored.ref.versions)


def _verify_options(addresses: Sequence[str], level: Level, part: tuple[int, int]) -> VerifyOptions:
    number, parts = part
    if not 1 <= number <= parts <= MOST_PARTS:
        raise InvalidInputError(
            f"there is no part {number} of {parts}", hint="write for instance 3/28"
        )
    return VerifyOptions(addresses=addresses, level=level, part=part)
