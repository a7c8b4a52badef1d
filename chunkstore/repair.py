"""What can be mended is mended: from good packs, another store, files that are still there.

First all is verified; what is found is planned, and with consent done, in an order that never
makes a store worse: new packs are durable before the index leads there, the index leads elsewhere
before a segment goes. A pack that is damaged is replaced by the same pack of another store, or what
is good in it is copied out and the index no longer names it; its object is never deleted, nor are
any other bytes of users. What cannot be mended stays lost, and `verify` goes on to name it.
Neighbours: `verify` finds, `refetch` brings, `intake` takes in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from chunkstore import layout
from chunkstore.backends.base import CreateOnly, ReplaceIf
from chunkstore.chunk_index import ChunkIndex
from chunkstore.errors import IntegrityError, KeyAbsentError, UnsupportedFormatError
from chunkstore.events import Notice, ProgressCallback
from chunkstore.findings import Mended, RepairResult, VerifyResult
from chunkstore.format.gc import IDLE, GcState, encode_gc_state
from chunkstore.format.index import IndexedPack, encode_segment, merge_segments
from chunkstore.format.pack import PackDirectory
from chunkstore.format.ref import Ref, encode_ref
from chunkstore.id_runs import id_list
from chunkstore.ids import ChunkId, ChunkKind, ManifestId, PackId, SegmentId
from chunkstore.intake import Intake
from chunkstore.mapped_segment import MappedSegment
from chunkstore.objects import Objects
from chunkstore.pack_check import PackCheck, chunks_of, read_directory
from chunkstore.place import Place
from chunkstore.refetch import Supply
from chunkstore.refs import Refs, stamped
from chunkstore.verify import Verification, VerifyOptions

_PACKS_A_SEGMENT: Final = 64
_DAMAGED: Final = (IntegrityError, UnsupportedFormatError)

Consent = Callable[[VerifyResult, Sequence[Mended]], bool]
"""Is shown what was found and what would be done, before anything is; says whether to do it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where what is lost may be had.

    Attributes:
        other: another store, for whole packs, manifests and refs.
        supplies: that store, and folders, for chunks.
    """

    other: Place | None
    supplies: Sequence[Supply]


@dataclass(slots=True)
class _Plan:
    """What is to be done after one verification."""

    state: bool  # whether the collector's state is to be written anew
    refs: list[str]
    manifests: list[ManifestId]
    whole: list[tuple[PackId, int]]  # packs that the other store has
    broken: list[PackId]  # damaged packs that it has not
    chunks: dict[ChunkKind, list[bytes]]  # lost chunks that a source seems to have
    segments: list[MappedSegment]  # that list broken packs, or say what is not so
    torn: list[SegmentId]  # segments that cannot be read
    unlisted: list[PackId]  # good packs that no good segment lists


class Repair:
    """One run of `repair`."""

    def __init__(
        self,
        place: Place,
        options: VerifyOptions,
        sources: Sources,
        consent: Consent,
        progress: ProgressCallback,
    ) -> None:
        self._place = place
        self._objects = place.objects
        self._refs = Refs(place.objects)
        self._options = options
        self._sources = sources
        self._consent = consent
        self._progress = progress
        self._known: dict[PackId, PackCheck] = {}  # damaged packs, as they were read whole
        self._tried: set[PackId] = set()  # whether the other store has them
        self._copied_out: set[PackId] = set()
        self._done: list[Mended] = []
        self._sent = self._chunks = self._packs = 0

    def run(self, *, dry_run: bool) -> RepairResult:
        """Verify, plan, and with consent mend, until nothing more can be mended.

        Raises:
            BackendError: a storage failed; what was mended stays mended.
        """
        started = time.monotonic()
        self._place.config.check_writable()
        options, before = self._options, None
        last: list[Mended] = []
        while True:
            with self._verification(options) as check:
                found = check.run()
                if self._look_closer(check):
                    continue
                plan = self._plan(check, found)
                steps = list(_steps(plan))
                if before is None:
                    before = found
                    if dry_run:
                        self._done = steps
                    if dry_run or not steps or not self._consent(found, steps):
                        break
                elif not steps or steps == last:
                    break
                self._carry_out(check, plan)
            self._done += steps
            last, options = steps, _cheaper(options)
        return RepairResult(
            before=before,
            after=found,
            mended=tuple(self._done),
            packs=self._packs,
            chunks=self._chunks,
            sent_bytes=self._sent,
            seconds=time.monotonic() - started,
        )

    def _verification(self, options: VerifyOptions) -> Verification:
        place = self._place
        return Verification(
            place.objects,
            place.reader(),
            options,
            self._progress,
            place.folder,
            known=self._known,
        )

    def _look_closer(self, check: Verification) -> bool:
        """Read packs in which a reader met damage whole; return whether it was found there."""
        survey = check.survey
        met = (check.blamed & survey.packs.keys()) - survey.failed.keys()
        closer = {pack: survey.look_closer(pack) for pack in met}
        bad = {pack: found for pack, found in closer.items() if found.problems}
        self._known |= survey.failed | bad
        return bool(bad)

    # the plan

    def _plan(self, check: Verification, found: VerifyResult) -> _Plan:
        survey = check.survey
        kinds = {damage.kind for damage in found.damage}
        needy = {damage.key for damage in found.damage if damage.versions}
        damaged = {
            pack for pack in survey.failed if survey.listed(pack) or layout.pack_key(pack) in needy
        }
        gone = check.blamed - survey.packs.keys()
        if "gc state" in kinds or self._objects.read_gc_state() != IDLE:
            gone = set()  # a name that a collector may have deleted must not come back
        whole = {
            pack: there
            for pack in sorted((damaged | gone) - self._tried)
            if (there := self._elsewhere(pack)) is not None
        }
        coming = {one for there in whole.values() for one in id_list(there.directory.ids)}
        broken = {
            pack
            for pack in damaged - whole.keys()
            if survey.listed(pack) or pack not in self._copied_out
        }
        wrong = [part for part in survey.segments if part.identifier in survey.bad_segments]
        listing = [part for part in survey.segments if not broken.isdisjoint(part.packs)]
        whole_segments = {part.identifier for part in survey.segments}
        return _Plan(
            state=bool(kinds & {"gc state", "condemned list"}),
            refs=[name for name in sorted(check.lost_refs) if self._other_ref(name)],
            manifests=[m for m in sorted(check.lost_manifests) if self._other_manifest(m)],
            whole=[(pack, there.length) for pack, there in whole.items()],
            broken=sorted(broken),
            chunks={
                kind: self._to_be_had(kind, [x for x in check.lost.of(kind) if x not in coming])
                for kind in ChunkKind
            },
            segments=[*wrong, *(part for part in listing if part not in wrong)],
            torn=sorted(survey.bad_segments - whole_segments),
            unlisted=survey.unlisted() if kinds & {"index", "index segment"} else [],
        )

    def _elsewhere(self, pack: PackId) -> IndexedPack | None:
        """Return a pack as the other store has it, None where it has none that could be read."""
        if self._sources.other is None:
            return None
        objects = self._sources.other.objects
        length = objects.pack_length(pack)
        return None if length is None else _indexed(objects, pack, length)

    def _other_ref(self, dataset: str) -> Ref | None:
        if self._sources.other is None:
            return None
        try:
            stored = self._sources.other.objects.get_ref(dataset)
        except _DAMAGED:
            return None
        return stored.ref if stored else None

    def _other_manifest(self, manifest: ManifestId) -> bool:
        if self._sources.other is None:
            return False
        try:
            self._sources.other.objects.get_manifest(manifest)
        except _DAMAGED:
            return False
        return True

    def _to_be_had(self, kind: ChunkKind, ids: list[bytes]) -> list[bytes]:
        """Return those of the lost chunks that a source seems to have."""
        had: set[bytes] = set()
        for supply in self._sources.supplies:
            left = [one for one in ids if one not in had]
            had |= supply.has(kind, left) if left else set()
        return sorted(had)

    # carried out

    def _carry_out(self, check: Verification, plan: _Plan) -> None:
        if plan.state:
            self._renew_state()
        for dataset in plan.refs:
            self._renew_ref(dataset)
        for manifest in plan.manifests:
            assert self._sources.other is not None
            source = self._sources.other.objects
            self._sent += self._objects.copy_manifest(manifest, source, replace=True)
        index = ChunkIndex(self._objects, self._place.cache)
        index.start(IDLE)  # what it takes in is not compared with anything
        with Intake(self._objects, self._place.config, index) as intake:
            if plan.whole:
                assert self._sources.other is not None
                source = self._sources.other.objects
                for pack, indexed in intake.take_packs(source, iter(plan.whole), "replace"):
                    self._tried.add(pack)
                    if indexed is not None:
                        self._known.pop(pack, None)
            for pack in plan.broken:
                self._copy_out(check, pack, intake)
            for kind, ids in plan.chunks.items():
                self._fetch(kind, ids, intake)
            intake.finish()
            self._packs += intake.packs
            self._chunks += intake.chunks
            self._sent += intake.sent_bytes
        self._renew_index(check, plan)

    def _copy_out(self, check: Verification, pack: PackId, intake: Intake) -> None:
        """Pack again what is good in a damaged pack and in no other one that stays.

        What is spoiled in it is taken from packs that a collector has condemned.
        """
        survey = check.survey
        self._copied_out.add(pack)
        directory = survey.failed[pack].directory or survey.directory_of(pack)
        if directory is None:
            return
        good = survey.packs.keys() - survey.failed.keys() - survey.condemned
        others = survey.packs_of(directory.ids.tobytes())
        left = {
            identifier: packs
            for identifier, packs in zip(id_list(directory.ids), others, strict=True)
            if packs.isdisjoint(good)
        }
        self._copy_from(pack, directory, left, intake)
        doomed = set[PackId]().union(*left.values()) & survey.condemned & survey.packs.keys()
        for other in sorted(doomed):
            indexed = _indexed(self._objects, other, survey.packs[other])
            if indexed is not None:
                self._copy_from(other, indexed.directory, left, intake)

    def _copy_from(
        self, pack: PackId, directory: PackDirectory, left: dict[bytes, set[PackId]], intake: Intake
    ) -> None:
        """Pack again what a pack gives of the chunks that are left, and take those off."""
        wanted = np.array([identifier in left for identifier in id_list(directory.ids)], bool)
        read = functools.partial(self._objects.read_pack, pack)
        for kind, identifier, data in chunks_of(read, directory, wanted, layout.pack_key(pack)):
            if left.pop(identifier, None) is not None:
                intake.take_chunk(kind, identifier, data)

    def _fetch(self, kind: ChunkKind, ids: list[bytes], intake: Intake) -> None:
        left = set(ids)
        for supply in self._sources.supplies:
            for identifier, data in supply.fetch(kind, sorted(left)):
                if identifier in left:
                    left.discard(identifier)
                    intake.take_chunk(kind, ChunkId(identifier), data)

    # the index

    def _renew_index(self, check: Verification, plan: _Plan) -> None:
        """List what no segment lists, then put segments without damage in place of others."""
        for start in range(0, len(plan.unlisted), _PACKS_A_SEGMENT):
            batch = plan.unlisted[start : start + _PACKS_A_SEGMENT]
            lengths = check.survey.packs
            read = [_indexed(self._objects, pack, lengths[pack]) for pack in batch]
            packs = [pack for pack in read if pack is not None]  # gone meanwhile
            if packs:
                self._put_segment(encode_segment(packs))
        for part in plan.segments:
            if part.identifier not in check.survey.bad_segments:
                without = frozenset(plan.broken)
                self._put_segment(merge_segments([part.segment], without=without))
        self._objects.delete_segments([part.identifier for part in plan.segments])
        self._objects.delete_segments(plan.torn)

    def _put_segment(self, data: bytes) -> None:
        self._sent += len(data)
        self._objects.put_segment(data)

    # small objects

    def _renew_state(self) -> None:
        """Write the collector's state anew: idle, a generation after all that refs know of."""
        generations = [0]
        for dataset in self._refs.names():
            try:
                stored = self._refs.get(dataset)
            except _DAMAGED:
                continue
            generations.append(stored.ref.gc_generation if stored else 0)
        with contextlib.suppress(*_DAMAGED):
            generations.append(self._objects.read_gc_state().generation)
        state = GcState(max(generations) + 1, "")
        version = self._objects.backend.head(layout.GC_CURRENT).version
        self._objects.backend.put(layout.GC_CURRENT, [encode_gc_state(state)], ReplaceIf(version))

    def _renew_ref(self, dataset: str) -> None:
        """Put the other store's ref in place of one that is damaged or gone."""
        ref = self._other_ref(dataset)
        assert ref is not None
        key = layout.ref_key(dataset)
        ref = stamped(ref, ref, self._objects.read_gc_state().generation)
        try:
            version = self._objects.backend.head(key).version
        except KeyAbsentError:
            self._objects.backend.put(key, [encode_ref(ref)], CreateOnly())
        else:
            self._objects.backend.put(key, [encode_ref(ref)], ReplaceIf(version))
        self._progress(
            Notice(
                message=f"the versions of {dataset!r} are those that the other store knows of",
                hint="what was pushed after the last copy to it is not among them",
            )
        )


def _indexed(objects: Objects, pack: PackId, length: int) -> IndexedPack | None:
    """Return how an index lists a pack, None where it is gone or damaged."""
    read = functools.partial(objects.read_pack, pack)
    try:
        offset, directory = read_directory(read, length, layout.pack_key(pack))
    except _DAMAGED:
        return None
    return IndexedPack(pack, length, offset, directory)


def _cheaper(options: VerifyOptions) -> VerifyOptions:
    """Return what is verified after mending: packs that were read whole are not read again."""
    return dataclasses.replace(options, level="directories")


def _steps(plan: _Plan) -> Iterator[Mended]:
    """Yield what a plan does, in words."""
    if plan.state:
        yield Mended(kind="gc state", key=layout.GC_CURRENT, how="written anew, as idle")
    for dataset in plan.refs:
        key = layout.ref_key(dataset)
        yield Mended(kind="ref", key=key, how="taken from the other store")
    for manifest in plan.manifests:
        key = layout.manifest_key(manifest)
        yield Mended(kind="manifest", key=key, how="fetched from the other store")
    for pack, _ in plan.whole:
        key = layout.pack_key(pack)
        yield Mended(kind="pack", key=key, how="fetched from the other store")
    for pack in plan.broken:
        how = "what is good in it is copied out, and the index no longer names it"
        yield Mended(kind="pack", key=layout.pack_key(pack), how=how)
    for kind, ids in plan.chunks.items():
        if ids:
            chunks = f"{len(ids)} chunk{'s' if len(ids) > 1 else ''}"
            yield Mended(kind="chunk", key=kind.name.lower(), how=f"{chunks} fetched")
    for segment in plan.segments:
        key = layout.segment_key(segment.identifier)
        yield Mended(kind="index segment", key=key, how="replaced by one that is right")
    for torn in plan.torn:
        yield Mended(
            kind="index segment", key=layout.segment_key(torn), how="replaced by one that is right"
        )
    if plan.unlisted:
        packs = f"{len(plan.unlisted)} pack{'s' if len(plan.unlisted) > 1 else ''}"
        yield Mended(kind="index", key=layout.INDEX, how=f"{packs} listed again")
