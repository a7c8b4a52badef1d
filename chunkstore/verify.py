"""Every promise of a store held against its bytes: what is damaged, and which paths that costs.

First the packs are looked into (`survey`), then all versions are gone through, those included that
were dropped and can be brought back: each ref, manifest, page and list is read and checked, each
chunk must be in a pack that is there. What lacks is looked for a second time, in what was stored
meanwhile, before it is called damage; so writers and the collector may work all the time. A page or
list that several versions have is read once. Unlike `marking`, which ends at the first damage, this
goes on and says what it costs. Neighbours: `survey` and `damage` below; `repair` mends what is
found here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from chunkstore import layout
from chunkstore.address import LATEST, parse_address
from chunkstore.damage import DamageLog, Lost
from chunkstore.errors import (
    BackendError,
    ChunkstoreError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnsupportedFormatError,
)
from chunkstore.events import Progress, ProgressCallback
from chunkstore.findings import VerifyResult
from chunkstore.format.blob import Blob, make_blob
from chunkstore.format.manifest import Manifest, PackHint, PageRef
from chunkstore.format.ref import Ref, VersionRecord
from chunkstore.id_runs import MetIds, as_ids
from chunkstore.ids import ID_SIZE, ChunkKind, ManifestId, PackId, content_hash
from chunkstore.objects import Objects
from chunkstore.pack_check import PackCheck
from chunkstore.reader import Reader
from chunkstore.refs import Refs, resolve
from chunkstore.survey import Level, Survey, default_workers, may_pass

MOST_PARTS: Final = 10_000

_DAMAGED: Final = (IntegrityError, UnsupportedFormatError)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to verify.

    Attributes:
        addresses: datasets, or versions of them; none means the whole store.
        level: how closely packs are looked at.
        part: (N, M): look into the packs of the Nth of M parts only.
    """

    addresses: Sequence[str] = ()
    level: Level = "directories"
    part: tuple[int, int] = (1, 1)

    def has(self, pack: PackId) -> bool:
        """Whether the pack belongs to the part."""
        number, parts = self.part
        return int.from_bytes(pack[:4], "big") * parts >> 32 == number - 1


class Verification:
    """One run of `verify`. Use it as a context manager; `repair` goes on with what it found.

    Attributes:
        survey: what was found of packs and index.
        lost: chunks that versions need and that no pack gives.
        lost_manifests: manifests that refs name and that cannot be read.
        lost_refs: datasets whose ref cannot be read.
        blamed: packs, there or gone, that are to blame for what is lost.
    """

    def __init__(
        self,
        objects: Objects,
        reader: Reader,
        options: VerifyOptions,
        progress: ProgressCallback,
        folder: str | None,
        *,
        known: Mapping[PackId, PackCheck] | None = None,
    ) -> None:
        """Temporary files lie in `folder`, None for the system's folder for them.

        `known` has packs that were read whole before, as they were found.
        """
        self._objects = objects
        self._refs = Refs(objects)
        self._reader = reader
        self._options = options
        self._progress = progress
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._read_bytes = self._done_bytes = self._total_bytes = 0
        self._done_packs = 0
        self._expected: set[PackId] = set()
        self._suspects: set[PackId] = set()
        self._log = DamageLog(progress)
        self._pages: dict[bytes, bool] = {}  # whether something lacks of it
        self._whole_lists = MetIds()  # of which nothing lacks
        self._named: set[ManifestId] = set()
        self._told = False  # what lacks was looked for twice, so it is told
        self._lacks = self._loose_needed = False
        self._versions = self._files = 0
        self.survey = Survey(
            objects,
            self._log.report,
            folder,
            workers=default_workers(),
            known=known,
            on_bytes=self._count_bytes,
            on_pack=self._count_pack,
        )
        self.lost = Lost()
        self.lost_manifests: set[ManifestId] = set()
        self.lost_refs: set[str] = set()
        self.blamed: set[PackId] = set()

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, *_: object) -> None:
        self.survey.close()

    def run(self) -> VerifyResult:
        """Verify.

        Raises:
            InvalidInputError: an address with a path.
            NotFoundError: an address names what is not there.
            BackendError: the storage failed in a way that may pass; nothing can be said then.
        """
        options, survey = self._options, self.survey
        survey.load()
        chosen = self._chosen_packs()
        looked_into = [pack for pack in chosen if options.has(pack)]
        self._expect(looked_into)
        survey.settle(looked_into, options.level)
        survey.settle(chosen, "listing")
        if self._walk():
            survey.load()  # what came meanwhile
            self._loose_needed = False
            more = [pack for pack in sorted(self._suspects) if options.has(pack)]
            self._expect(more)
            survey.settle(more, options.level)
            survey.settle(sorted(survey.packs), "listing")
            self._told = True
            self._walk()
        if not options.addresses:
            self._look_for_refs()
        return self._result()

    # packs

    def _chosen_packs(self) -> list[PackId]:
        """Return the packs that are looked into: all, or those that the versions name."""
        if not self._options.addresses:
            return sorted(self.survey.packs)
        named: set[PackId] = set()
        for _, _, manifest in self._manifests():
            named.update(hint.pack_id for hint in manifest.packs)
        return sorted(named & self.survey.packs.keys())

    def _expect(self, packs: Collection[PackId]) -> None:
        self._expected.update(packs)
        self._total_bytes = sum(self.survey.packs.get(pack, 0) for pack in self._expected)

    def _count_bytes(self, count: int) -> None:
        with self._lock:
            self._read_bytes += count

    def _count_pack(self, pack: PackId) -> None:
        if pack in self._expected:
            self._done_packs += 1
            self._done_bytes += self.survey.packs[pack]
            self._tell()

    def _tell(self) -> None:
        self._progress(
            Progress(
                done_bytes=min(self._done_bytes, self._total_bytes),
                total_bytes=self._total_bytes,
                moved_bytes=self._read_bytes if self._options.level == "data" else 0,
                done_files=self._done_packs,
                total_files=len(self._expected),
            )
        )

    # versions

    def _records(self) -> Iterator[tuple[Ref, VersionRecord]]:
        """Yield the versions that are meant."""
        if self._options.addresses:
            yield from self._named_records()
            return
        for dataset in self._refs.names():
            try:
                stored = self._refs.get(dataset)
            except _DAMAGED as error:
                self._lacks = True
                if self._told:
                    self.lost_refs.add(dataset)
                    self._log.report("ref", layout.ref_key(dataset), error.message)
                continue
            if stored is not None:
                for record in stored.ref.promised:
                    yield stored.ref, record

    def _named_records(self) -> Iterator[tuple[Ref, VersionRecord]]:
        found: dict[tuple[str, int], tuple[Ref, VersionRecord]] = {}
        for address in self._options.addresses:
            where = parse_address(address)
            if where.path:
                raise InvalidInputError(
                    f"only whole versions are verified, not {address!r}",
                    hint=f"leave {where.path!r} out",
                )
            one = where.version != LATEST or "@" in address
            try:
                stored = self._refs.get(where.dataset)
                if one or stored is None or not stored.ref.promised:
                    stored = self._refs.require(where.dataset)
                ref = stored.ref
                records = [resolve(ref, where.version)] if one else ref.promised
            except NotFoundError:
                if self._told:
                    continue  # dropped meanwhile
                raise
            found.update({(ref.dataset, record.number): (ref, record) for record in records})
        yield from found.values()

    def _manifests(self) -> Iterator[tuple[Ref, VersionRecord, Manifest]]:
        for ref, record in self._records():
            self._named.add(record.manifest_id)
            try:
                manifest = self._objects.get_manifest(record.manifest_id)
            except (*_DAMAGED, BackendError) as error:
                if isinstance(error, BackendError) and may_pass(error):
                    raise
                self._lacks = True
                if self._told and self._promised(ref.dataset, record.number):
                    key = layout.manifest_key(record.manifest_id)
                    self.lost_manifests.add(record.manifest_id)
                    self._log.report("manifest", key, error.message)
                    self._log.touch((ref.dataset, record.number), "", record.files, [key])
            else:
                yield ref, record, manifest

    def _promised(self, dataset: str, number: int) -> bool:
        """Whether a version may still be asked for, now that something of it was not found.

        A collection that lets a dropped one go does so before it deletes what only that one needs.
        """
        try:
            stored = self._refs.get(dataset)
        except _DAMAGED:
            return True
        return stored is None or any(number == each.number for each in stored.ref.promised)

    def _walk(self) -> bool:
        """Go through all versions; return whether something lacks, and say what once `_told`."""
        self._lacks = False
        self._versions = self._files = 0
        for ref, record, manifest in self._manifests():
            self._versions += 1
            self._files += manifest.files
            for number in range(len(manifest.pages)):
                key = _page_key(manifest, number)
                touched = self._pages.get(key)
                if touched is None or (self._told and touched):
                    touched = self._page(manifest, number, (ref.dataset, record.number))
                    self._pages[key] = touched
                self._lacks |= touched
        return self._lacks

    def _page(self, manifest: Manifest, number: int, where: tuple[str, int]) -> bool:
        """Check a page and all that it needs; return whether something lacks, or is in no index."""
        page, before = manifest.pages[number], self._loose_needed
        self._loose_needed = False
        lacks = self._lacks_of(manifest, page, number, where)
        lacks |= self._loose_needed
        self._loose_needed |= before
        return lacks

    def _lacks_of(
        self, manifest: Manifest, page: PageRef, number: int, where: tuple[str, int]
    ) -> bool:
        hints = [manifest.packs[pack] for pack in page.packs]
        try:
            entries = self._reader.page(manifest, number)
        except _DAMAGED as error:
            if self._told and self._promised(*where):
                keys = self._blame(ChunkKind.PAGE, [page.page_id], hints, error)
                self._log.touch(where, page.first_path, page.entries, keys)
            return True
        if page.inline is None:
            self._lacking(page.page_id)
        ids = b"".join(entry.blob.ids for entry in entries)
        flat = all(entry.blob.depth == 0 for entry in entries)
        if flat and not self._lacking(ids).any():
            return False
        touched = False
        for entry in entries:
            keys = []
            for kind, lost, reason in self._lost_in(entry.blob, hints):
                touched = True
                if self._told and (reason is None or self._promised(*where)):
                    keys += self._blame(kind, lost, hints, reason)
            if keys:
                self._log.touch(where, entry.path, 1, list(dict.fromkeys(keys)))
        return touched

    def _lost_in(
        self, blob: Blob, hints: Sequence[PackHint]
    ) -> Iterator[tuple[ChunkKind, list[bytes], ChunkstoreError | None]]:
        """Yield what lacks of a blob: kind, ids, and why where that is known."""
        kind = ChunkKind.LIST if blob.depth else ChunkKind.DATA
        lacking = self._lacking(blob.ids)
        each = [blob.ids[at : at + ID_SIZE] for at in range(0, len(blob.ids), ID_SIZE)]
        if lacking.any():
            yield kind, [each[row] for row in np.flatnonzero(lacking).tolist()], None
        if blob.depth:
            sizes = blob.size_array().tolist()
            for row in np.flatnonzero(~lacking).tolist():
                one = make_blob(blob.depth, each[row], [sizes[row]])
                yield from self._lost_below(one, hints)

    def _lost_below(
        self, one: Blob, hints: Sequence[PackHint]
    ) -> Iterator[tuple[ChunkKind, list[bytes], ChunkstoreError | None]]:
        """Yield what lacks of a blob of one list; a list with all it needs is read once."""
        said = as_ids(content_hash([one.ids, b"%d %d" % (one.depth, one.size)]))
        if self._whole_lists.has(said).all():
            return
        before, self._loose_needed = self._loose_needed, False
        lacks = False
        try:
            (below,) = self._reader.children(one, hints)
        except _DAMAGED as error:
            lacks = True
            yield ChunkKind.LIST, [one.ids], error
        else:
            for lost in self._lost_in(below, hints):
                lacks = True
                yield lost
        if not lacks and not self._loose_needed:
            self._whole_lists.add(said)
        self._loose_needed |= before

    def _lacking(self, ids: bytes) -> npt.NDArray[np.bool_]:
        """Return for each of n joined ids whether no pack of the store gives it, (n,)."""
        survey = self.survey
        lacking = ~survey.held.contains(ids)
        for others in (survey.doomed, survey.loose):
            if not lacking.any():
                return lacking
            rows = np.flatnonzero(lacking)
            found = others.contains(_rows(ids, rows))
            self._loose_needed |= others is survey.loose and bool(found.any())
            lacking[rows[found]] = False
        if self._options.addresses and not self._told and lacking.any():
            for packs in survey.packs_of(_rows(ids, np.flatnonzero(lacking))):
                self._suspects.update(packs)
        return lacking

    def _look_for_refs(self) -> None:
        """Report datasets that manifests name and that have no ref: a ref is never deleted."""
        there: dict[str, bool] = {}
        for info in self._objects.backend.list(layout.MANIFESTS):
            identifier = layout.manifest_of(info.key)
            if identifier is None or identifier in self._named:
                continue
            try:
                dataset = self._objects.get_manifest(identifier).dataset
                if dataset not in there:
                    there[dataset] = self._refs.get(dataset) is not None
            except _DAMAGED:
                continue  # no version needs it, or its ref was reported
            if not there[dataset]:
                self.lost_refs.add(dataset)
                key = layout.ref_key(dataset)
                self._log.report("ref", key, f"missing object {key}, though versions were stored")

    # what is found

    def _blame(
        self,
        kind: ChunkKind,
        ids: Sequence[bytes],
        hints: Sequence[PackHint],
        error: ChunkstoreError | None,
    ) -> list[str]:
        """Remember chunks as lost; return the keys of what is to blame, each reported."""
        survey, keys = self.survey, list[str]()
        self.lost.add(kind, ids)
        seen = pack_in(error)
        if seen is not None:
            self.blamed.add(seen)
            key = layout.pack_key(seen)
            self._log.report("pack", key, str(error))
            return [key]
        hinted = {hint.pack_id for hint in hints}
        for identifier, packs in zip(ids, survey.packs_of(b"".join(ids)), strict=True):
            bad = {p for p in packs or hinted if p in survey.failed or p not in survey.packs}
            bad = bad or {p for p in hinted if p in survey.failed or p not in survey.packs}
            self.blamed |= bad
            for pack in sorted(bad):
                key = layout.pack_key(pack)
                self._log.report("pack", key, f"missing object {key}")
                keys.append(key)
            if not bad:
                keys.append(self._log.report_chunk(identifier))
        return list(dict.fromkeys(keys))

    def _result(self) -> VerifyResult:
        survey = self.survey
        if self._loose_needed:
            problem = "packs that versions need are in no index segment"
            self._log.report("index", layout.INDEX, problem)
        unused = {
            layout.pack_key(pack)
            for pack in survey.failed
            if not survey.listed(pack) and not self._log.touched(layout.pack_key(pack))
        }
        return VerifyResult(
            level=self._options.level,
            part=self._options.part,
            versions=self._versions,
            files=self._files,
            packs=self._done_packs,
            read_bytes=self._read_bytes,
            damage=self._log.damage(without=unused, closely=self._options.level == "data"),
            lost_paths=self._log.lost_paths,
            waiting_packs=len(survey.condemned & survey.packs.keys()),
            unused_packs=len(unused),
            seconds=time.monotonic() - self._started,
        )


def pack_in(error: ChunkstoreError | None) -> PackId | None:
    """Return the pack in which an error was seen, None where it names none."""
    key = getattr(error, "key", None)
    return layout.pack_of(key.partition(" ")[0]) if isinstance(key, str) else None


def _page_key(manifest: Manifest, number: int) -> bytes:
    """Return what stands for a page and all that its manifest says of it."""
    page, following = manifest.pages[number], manifest.pages[number + 1 : number + 2]
    after = following[0].first_path if following else ""
    said = f"{page.entries}\0{page.first_path}\0{after}".encode()
    return content_hash([page.page_id, said])[:16]


def _rows(ids: bytes, rows: npt.NDArray[np.int64]) -> bytes:
    """Return the joined ids in those rows."""
    return np.frombuffer(ids, f"S{ID_SIZE}")[rows].tobytes()
