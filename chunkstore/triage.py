"""What a collection finds before it changes anything: what is alive, and what can go.

Steps G2 and G3 of docs/design/consistency.md, as far as they only look: versions are marked, then
the index and the packs are held against what they need. Neighbours: `marking` walks, `planning`
counts, `gc` acts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from chunkstore.errors import IntegrityError, MissingObjectError
from chunkstore.events import ProgressCallback, Step
from chunkstore.format.gc import Counts, GcState
from chunkstore.format.pack import IdArray
from chunkstore.format.ref import DroppedVersion, Ref
from chunkstore.id_runs import IdRuns, MetIds, as_ids, id_list
from chunkstore.ids import ChunkId, ManifestId, PackId
from chunkstore.index_files import IndexFiles
from chunkstore.marking import Marker
from chunkstore.objects import Objects
from chunkstore.planning import Tally, choose, tally
from chunkstore.reader import Reader
from chunkstore.refs import Refs
from chunkstore.retention import NANO, Retention, not_kept
from chunkstore.values import GcPlan

_LOOKS: Final = 3
"""So often the index is looked at before a chunk that it lacks is called missing."""

_NAMED: Final = 5
"""Missing chunks that an error names."""


class Root(NamedTuple):
    """A version whose chunks are alive."""

    dataset: str
    number: int
    manifest_id: ManifestId

    def __str__(self) -> str:
        return f"{self.dataset}@{self.number}"


@dataclass(frozen=True, slots=True)
class Manifests:
    """The manifests that a LIST has shown: ids, ascending, and times by the storage's clock."""

    ids: IdArray
    modified: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Horizon:
    """What is alive at the moment of a collection.

    Attributes:
        born_before: the latest time of what is old enough to go; None where all is.
        now: the moment, in seconds since the epoch.
        keep: which versions are thinned out; None where none are.
    """

    born_before: float | None
    now: float
    keep: Retention | None

    def expired(self, dropped: DroppedVersion) -> bool:
        """Whether a version was dropped so long ago that it need not be brought back."""
        return self.born_before is None or dropped.dropped_ns <= self.born_before * NANO

    def leaving(self, ref: Ref) -> list[int]:
        """Return the numbers of the versions that are to be dropped."""
        return [] if self.keep is None else not_kept(ref, self.keep, self.now)

    def roots(self, ref: Ref) -> list[Root]:
        """Return the versions whose chunks are needed, those that can be brought back included."""
        leaving = set(self.leaving(ref)) if self.born_before is None else set()
        records = [record for record in ref.versions if record.number not in leaving]
        records += [each.record for each in ref.dropped if not self.expired(each)]
        return [Root(ref.dataset, record.number, record.manifest_id) for record in records]


def roots_of(ref: Ref) -> list[Root]:
    """Return all versions that a ref names."""
    return [Root(ref.dataset, record.number, record.manifest_id) for record in ref.promised]


def list_manifests(objects: Objects) -> Manifests:
    """LIST manifests/."""
    ids, modified = bytearray(), []
    for manifest, time in objects.list_manifests():
        ids += manifest
        modified.append(time)
    return Manifests(as_ids(bytes(ids)), np.array(modified, np.float64))


class Triage:
    """One look at a store.

    Attributes:
        live: ids of the chunks that the versions need which were walked.
        index: the index and the packs.
        marked: the manifests of those versions.
        counted: what of each pack is alive.
        choice: what becomes of the packs.
        manifests: all manifests that there were.
        doomed: those of them that no ref names and that are old enough.
        leaving: versions that are to be dropped.
    """

    def __init__(
        self,
        objects: Objects,
        reader: Reader,
        live: IdRuns,
        index: IndexFiles,
        progress: ProgressCallback,
    ) -> None:
        """`live` and `index` are empty, and stay with the caller."""
        self._objects = objects
        self._refs = Refs(objects)
        self._reader = reader
        self._progress = progress
        self.index = index
        self.live = live
        self.marked = MetIds()
        self.versions = self._expired = self._restorable = 0
        self._names: frozenset[str] = frozenset()
        self.leaving: list[tuple[str, int]] = []

    def look(self, state: GcState, horizon: Horizon) -> GcPlan:
        """G2, G3: mark, then load the index, then LIST packs/; return what follows.

        Raises:
            MissingObjectError: versions need chunks that no pack has, or a manifest is gone.
            CorruptObjectError: a manifest, page, list or segment is damaged.
        """
        self.manifests = list_manifests(self._objects)
        self.mark(self._roots(horizon))
        condemned = self._objects.read_condemned(state)
        self.index.load(condemned)
        self.counted = self.count(condemned, self._roots(horizon), self._tell_plan)
        self.choice = choose(self.index.packs, self.counted, horizon.born_before)
        latest = np.inf if horizon.born_before is None else horizon.born_before
        old = self.manifests.modified <= latest
        self.doomed = self.manifests.ids[old & ~self.marked.has(self.manifests.ids)]
        return self._plan(state)

    def _tell_plan(self, done: int) -> None:
        self._progress(Step(name="plan", done=done, total=self.index.entries))

    def _orphaned(self) -> str:
        """Return a dataset of which there are manifests but no ref, "" where there is none.

        A ref is made before a manifest and never deleted, so one that is not there was lost, and
        what it named can still be found by these manifests.
        """
        for manifest in id_list(self.doomed):
            try:
                dataset = self._objects.get_manifest(ManifestId(manifest)).dataset
            except IntegrityError:  # whatever it was, nothing leads there
                continue
            if dataset not in self._names:
                return dataset
        return ""

    def mark(self, roots: Iterable[Root]) -> None:
        """G2: walk versions; `live` gets what they need."""
        marker = Marker(self._reader, self.live.add)
        for root in roots:
            self.marked.add(as_ids(root.manifest_id))
            self.versions += 1
            self._progress(Step(name="mark", done=self.versions, total=None))
            walk(self._objects, marker, root)

    def count(
        self,
        condemned: Collection[PackId],
        roots: Iterable[Root],
        tell: Callable[[int], object] = lambda _: None,
    ) -> Tally:
        """Count by the index, which is loaded, what is alive in each pack.

        A LIST of several pages may show neither a segment that others replaced meanwhile nor the
        one in its place. So where live chunks are in no pack, the index is loaded anew.

        Raises:
            MissingObjectError: they still are; it names who needs them.
        """
        for look in range(_LOOKS):
            if look:
                self.index.load(condemned)
            counted = tally(self.index, self.live, tell)
            if not counted.missing_count:
                return counted
        needers = self._needers(counted.missing[:_NAMED], roots)
        _raise_missing(counted.missing_count, needers)

    def _needers(
        self, missing: Sequence[ChunkId], roots: Iterable[Root]
    ) -> list[tuple[ChunkId, Root]]:
        """Return for each missing chunk a version that needs it, as far as one is found."""
        wanted, found = as_ids(b"".join(sorted(missing))), dict[ChunkId, Root]()
        current: list[Root] = []

        def take(ids: bytes) -> None:
            column = as_ids(ids)
            for row in np.flatnonzero(np.isin(column, wanted)).tolist():
                found.setdefault(ChunkId(ids[row * 32 : row * 32 + 32]), current[-1])

        marker = Marker(self._reader, take)
        for root in roots:
            current[:] = [root]
            walk(self._objects, marker, root)
            if len(found) == len(missing):
                break
        return list(found.items())

    def _roots(self, horizon: Horizon) -> Iterator[Root]:
        names = self._refs.names()
        self._names, self.leaving = frozenset(names), []
        self._expired = self._restorable = 0
        for name in names:
            stored = self._refs.get(name)
            if stored is not None:
                ref = stored.ref
                expired = sum(map(horizon.expired, ref.dropped))
                self._expired += expired
                self._restorable += len(ref.dropped) - expired
                self.leaving += [(name, number) for number in horizon.leaving(ref)]
                yield from horizon.roots(ref)

    @property
    def counts(self) -> Counts:
        """How many objects there are."""
        return Counts(len(self._names), len(self.index.packs), len(self.manifests.ids))

    def _plan(self, state: GcState) -> GcPlan:
        packs, chosen, counted = self.index.packs, self.choice, self.counted
        lengths, here = packs.lengths, ~packs.condemned
        sparse = chosen.sparse
        share = counted.live_sizes[sparse] / np.maximum(counted.sizes[sparse], 1)
        plan = GcPlan(
            versions=self.versions,
            restorable=self._restorable,
            dropped=tuple(self.leaving),
            expired=self._expired,
            live_chunks=int(counted.live_chunks.sum()),
            packs=int(here.sum()),
            pack_bytes=int(lengths[here].sum()),
            dead_packs=len(chosen.dead),
            dead_bytes=int(lengths[chosen.dead].sum()),
            sparse_packs=len(sparse),
            sparse_bytes=int(lengths[sparse].sum()),
            copied_bytes=int((share * lengths[sparse]).sum()),
            young_packs=len(chosen.young),
            young_bytes=int(lengths[chosen.young].sum()),
            left_packs=len(chosen.left),
            manifests=len(self.doomed),
            condemned_packs=int((~here).sum()),
            refusal="",
        )
        return _with_refusal(plan, state.left, self.counts, self._orphaned())


def walk(objects: Objects, marker: Marker, root: Root) -> None:
    """Walk one version.

    Raises:
        MissingObjectError, CorruptObjectError: what it needs is gone or damaged; it is named.
    """
    try:
        marker.walk(objects.get_manifest(root.manifest_id))
    except IntegrityError as error:
        raise type(error)(
            f"version {root}: {error.message}",
            key=error.key,
            hint="nothing was deleted; if the version is lost, "
            "rm drops it and gc lets it go once its --grace is over",
        ) from error


def _raise_missing(count: int, needers: Sequence[tuple[ChunkId, Root]]) -> NoReturn:
    named = "; ".join(f"{chunk.hex()} of {root}" for chunk, root in needers)
    noun = "chunk that versions need is" if count == 1 else "chunks that versions need are"
    raise MissingObjectError(
        f"{count} {noun} in no pack: {named}{'; ...' if count > len(needers) else ''}",
        key=needers[0][0].hex() if needers else None,
        hint="nothing was deleted; bring back what is missing, or drop these versions with "
        "rm: gc lets them go once their --grace is over",
    )


def _with_refusal(plan: GcPlan, before: Counts | None, now: Counts, orphaned: str) -> GcPlan:
    """G3: note what makes this look like a mistake or a storage that does not show everything."""
    reasons = []
    if orphaned:
        reasons.append(f"there are manifests of dataset {orphaned!r}, but its ref is gone")
    if before is not None:
        for name in ("refs", "packs", "manifests"):
            had, has = getattr(before, name), getattr(now, name)
            if has < had:
                reasons.append(f"the storage shows {has} {name}, after the last collection {had}")
    if 2 * plan.freed_bytes > plan.pack_bytes:
        reasons.append("more than half of the store's bytes would go")
    return dataclasses.replace(plan, refusal="; ".join(reasons))
