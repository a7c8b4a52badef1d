"""The collector: removes packs that no version needs while others write.

Condemn, fence, copy out: steps G1 to G10 of docs/design/consistency.md, each a method that names
its rule. A run may die or sleep for ever between any two requests; another one takes over what it
began. Nothing here depends on a clock but what is left for later: `now` says which packs are old
enough, `wait` gives readers time. Neighbours: `triage` looks, `copy_out` and `reindexing` write.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from chunkstore import layout
from chunkstore.copy_out import copy_out
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    ConflictError,
    IntegrityError,
    PermissionDeniedError,
    RefusedError,
    StorageFullError,
)
from chunkstore.events import Notice, ProgressCallback, Step
from chunkstore.format.config import SINGLE_WRITER, Config
from chunkstore.format.gc import Counts, GcState
from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import IdArray
from chunkstore.format.ref import Ref
from chunkstore.id_runs import IdRuns, Mask, MetIds, as_ids, id_list
from chunkstore.ids import ManifestId, PackId
from chunkstore.index_files import IndexFiles, StoredPacks
from chunkstore.objects import Objects, StoredGcState
from chunkstore.planning import copies_in
from chunkstore.reader import Reader
from chunkstore.refs import Refs, without_expired, without_versions
from chunkstore.reindexing import rewrite
from chunkstore.retention import NANO, Retention
from chunkstore.triage import Horizon, Root, Triage, roots_of
from chunkstore.values import GcPlan, GcResult

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 5
_BATCH: Final = 1000

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR

Confirm = Callable[[GcPlan], object]


def accept(_: GcPlan) -> None:
    """Let a collection do what it has planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcOptions:
    """What the caller of a collection may choose; see `Store.gc`."""

    apply: bool = False
    grace: float = DAY
    reader_grace: float = HOUR
    force: bool = False
    keep: Retention | None = None


Id = TypeVar("Id", PackId, ManifestId)


class _OvertakenError(Exception):
    """Another collection began or ended meanwhile: what this one knows is old."""


@dataclass(slots=True)
class _Done:
    """What a run has done so far."""

    finished: int = 0
    packs: int = 0
    bytes: int = 0
    copied: int = 0
    manifests: int = 0
    segments: int = 0


class Collector:
    """One run; call `run` once."""

    def __init__(
        self,
        objects: Objects,
        config: Config,
        new_reader: Callable[[], Reader],
        folder: str | None,
        options: GcOptions,
        *,
        confirm: Confirm,
        progress: ProgressCallback,
        now: Callable[[], float] = time.time,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Prepare a run.

        Args:
            objects: of the store.
            config: of the store.
            new_reader: makes a reader that knows nothing from before.
            folder: where temporary files lie; None for the system's folder for them.
            options: what was chosen.
            confirm: is shown the plan before anything changes; what it raises ends the run.
            progress: gets Steps and Notices.
            now: seconds since the epoch.
            wait: returns after so many seconds.
        """
        config.check_collectable()
        self._objects = objects
        self._config = config
        self._new_reader = new_reader
        self._folder = folder
        self._options = options
        self._confirm = confirm
        self._progress = progress
        self._wait = wait
        self._started = now()
        self._now = now
        self._refs = Refs(objects)
        self._state = StoredGcState(GcState(0, ""), None)
        self._refs_fenced = 0
        self._done = _Done()

    def run(self) -> GcResult:
        """Collect; see `Store.gc`."""
        if SINGLE_WRITER in self._config.write_features and self._options.apply:
            self._progress(
                Notice(
                    message="this storage ignores conditional writes: one writer at a time",
                    hint="make sure that nobody pushes, tags or removes meanwhile",
                )
            )
        for attempt in range(_ATTEMPTS):
            self._state = self._objects.get_gc_state()  # G1
            try:
                if self._options.apply and self._state.state.condemned:
                    self._take_over()
                    continue
                return self._collect()
            except _OvertakenError:
                log.info("another collection came between; beginning again")
            except IntegrityError:
                if self._is_alone() or (attempt == _ATTEMPTS - 1 and self._stands()):
                    raise
                log.info("another collection removed what this one was reading; beginning again")
        raise ConflictError(
            f"other collections came between {_ATTEMPTS} times in a row",
            hint="run the same command again; one collection at a time is enough",
        )

    def _is_alone(self) -> bool:
        """Whether no other collection can have removed what is missing, so that it is damage.

        While packs are condemned two may be at it, and one deletes what both have copied out.
        """
        return not self._state.state.condemned and self._stands()

    def _stands(self) -> bool:
        """Whether the state is still what this collection knows."""
        return self._objects.read_gc_state() == self._state.state

    # one collection

    def _take_over(self) -> None:
        """G1: somebody died, or is slow; go on at G5 with the list that was condemned."""
        condemned = self._objects.read_condemned(self._state.state)
        self._progress(Notice(message="a collection that was broken off is brought to its end"))
        with self._files() as (live, index):
            self._finish(condemned, MetIds(), as_ids(b""), live, index)
        self._done.finished += len(condemned)

    def _collect(self) -> GcResult:
        with self._files() as (live, index):
            triage = Triage(self._objects, self._new_reader(), live, index, self._progress)
            plan = triage.look(self._state.state, self._horizon)
            if not self._options.apply:
                return self._result(plan)
            if plan.nothing:
                self._done.segments += rewrite(self._objects, index, ())
            else:
                self._check_refusal(plan)
                self._confirm(plan)
                self._thin(triage.leaving)
                going = self._copy_sparse(triage, index)
                length = int(index.packs.lengths[going].sum())
                condemned = self._condemn(index.packs, going)
                with IdRuns(self._folder) as late:
                    self._finish(condemned, triage.marked, triage.doomed, late, index)
                self._done.packs, self._done.bytes = len(condemned), length
            self._delete_keys(self._old_lists())
            self._delete_keys(self._old_notes())
        return self._result(plan)

    def _check_refusal(self, plan: GcPlan) -> None:
        """G3: what looks like a mistake must be meant."""
        if plan.refusal and not self._options.force:
            raise RefusedError(
                f"nothing was deleted: {plan.refusal}", hint="add --force if that is right"
            )

    def _thin(self, leaving: Sequence[tuple[str, int]]) -> None:
        """Drop the versions that the rule does not keep, as it judges each dataset by now."""
        now_ns = int(self._started * NANO)

        def edit(ref: Ref) -> Ref:
            return without_versions(ref, self._horizon.leaving(ref), now_ns)

        for name in dict.fromkeys(name for name, _ in leaving):
            self._refs.swap(name, edit)

    def _copy_sparse(self, triage: Triage, index: IndexFiles) -> list[int]:
        """G3: copy what is alive out of mostly dead packs; return the packs that may go now."""
        packs, sparse = index.packs, triage.choice.sparse
        chosen = np.zeros(len(packs), bool)
        chosen[sparse] = True
        numbers = {packs.id(number): number for number in sparse.tolist()}

        def stays(pack: PackHint, error: IntegrityError) -> None:
            if not self._is_alone():
                raise _OvertakenError from error
            chosen[numbers[pack.pack_id]] = False
            message = f"pack {pack.pack_id.hex()} is mostly dead, and stays: {error.message}"
            self._progress(Notice(message=message, hint=error.hint))

        self._copy(triage.live, index, chosen.copy(), stays)
        chosen[triage.choice.dead] = True
        return [int(number) for number in np.flatnonzero(chosen)]

    def _condemn(self, packs: StoredPacks, going: Sequence[int]) -> frozenset[PackId]:
        """G4: write the list, then swap `gc/current` from what G1 read to condemned."""
        condemned = frozenset(packs.id(number) for number in going)
        before = self._state.state
        generation = before.generation + 1
        key = layout.condemned_key(generation, secrets.token_hex(16))
        self._objects.put_condemned(key, condemned)
        self._swap_state(GcState(generation, key, before.left))
        return condemned

    def _finish(
        self,
        condemned: frozenset[PackId],
        marked: MetIds,
        doomed: IdArray,
        late: IdRuns,
        index: IndexFiles,
    ) -> None:
        """G5 to G10, with `gc/current` saying that these packs are condemned.

        Args:
            condemned: the packs. They are so for ever: none is ever pardoned.
            marked: manifests of versions whose chunks are known to be in other packs.
            doomed: manifests that were there before G4 and that no ref named.
            late: empty; gets what the versions need that are not marked.
            index: loaded before G4, or empty.
        """
        named, unmarked = self._fence(marked)
        triage = Triage(self._objects, self._new_reader(), late, index, self._progress)
        triage.mark(unmarked)
        index.load(condemned)
        self._copy_late(triage, condemned, unmarked)
        self._progress(Step(name="reindex", done=0, total=len(index.segments)))
        self._done.segments += rewrite(self._objects, index, condemned)  # G7
        if condemned or len(doomed):
            self._progress(Step(name="wait", done=0, total=round(self._options.reader_grace)))
            self._wait(self._options.reader_grace)  # G8
        self._delete(sorted(condemned), self._objects.delete_packs)
        unnamed = id_list(doomed[~named.has(doomed)])
        self._delete([ManifestId(m) for m in unnamed], self._objects.delete_manifests)
        self._done.manifests += len(unnamed)
        self._rest(named, index)

    def _fence(self, marked: MetIds) -> tuple[MetIds, list[Root]]:
        """G5: list refs/ again and rewrite each one with a new nonce.

        A writer that read its ref before is refused from now on; one that reads it from now on
        finds the new generation in W5. Dropped versions that were not marked because their time is
        over can be brought back no more; one that was brought back since counts as found late.
        Returns the manifests that the refs name, and the versions that are not marked.
        """
        generation = self._state.state.generation
        named, unmarked = MetIds(), list[Root]()
        names = self._refs.names()
        for number, name in enumerate(names):
            ref = self._refs.swap(name, self._without_expired, lambda: generation)
            roots = roots_of(ref)
            ids = as_ids(b"".join(root.manifest_id for root in roots))
            named.add(ids)
            known = marked.has(ids).tolist()
            unmarked += [root for root, mark in zip(roots, known, strict=True) if not mark]
            self._progress(Step(name="fence", done=number + 1, total=len(names)))
        self._refs_fenced = len(names)
        return named, unmarked

    def _without_expired(self, ref: Ref) -> Ref:
        return without_expired(ref, self._horizon.expired)

    def _copy_late(
        self, triage: Triage, condemned: frozenset[PackId], roots: Sequence[Root]
    ) -> None:
        """G6: copy out what versions found late need and what only condemned packs have."""
        if not roots:
            return
        live, index = triage.live, triage.index
        counted = triage.count(condemned, roots)
        if counted.live_chunks[index.packs.condemned].any():
            self._copy(live, index, index.packs.condemned, _refuse)

    def _copy(
        self,
        live: IdRuns,
        index: IndexFiles,
        chosen: Mask,
        spoiled: Callable[[PackHint, IntegrityError], object],
    ) -> None:
        """Copy the live chunks that are kept in the `chosen` packs (P,) into new ones."""
        done = 0

        def tell(chunks: int) -> None:
            nonlocal done
            done += chunks
            self._progress(Step(name="copy", done=done, total=None))

        reader = self._new_reader()
        for copies in copies_in(index, live, chosen):
            self._done.copied += copy_out(
                self._objects,
                self._config,
                reader,
                index.packs,
                copies,
                on_copied=tell,
                spoiled=spoiled,
            )

    def _delete(self, what: Sequence[Id], delete: Callable[[Sequence[Id]], object]) -> None:
        """G9: read `gc/current` again, then delete, a thousand at a time."""
        for start in range(0, len(what), _BATCH):
            self._progress(Step(name="delete", done=start, total=len(what)))
            self._check_own()
            delete(what[start : start + _BATCH])

    def _check_own(self) -> None:
        if self._objects.read_gc_state() != self._state.state:
            raise ConflictError(
                "another collection has taken this one over and brought it to its end",
                hint="nothing is lost; gc without --apply shows what is left",
            )

    def _rest(self, named: MetIds, index: IndexFiles) -> None:
        """G10: swap `gc/current` to idle, with how much is left at least."""
        packs = len(index.packs) - int(index.packs.condemned.sum())
        left = Counts(self._refs_fenced, packs, len(named))
        with contextlib.suppress(_OvertakenError):  # another collection has done the same
            self._swap_state(GcState(self._state.state.generation, "", left))

    def _old_lists(self) -> list[str]:
        """Return the keys of condemned lists that `gc/current` can never name again.

        One of a generation that has not begun may be about to be named; one of an older one,
        which is not named, belongs to a collection that is over or lost its swap.
        """
        state = self._objects.read_gc_state()
        return [
            key
            for key, generation in self._objects.list_condemned()
            if generation <= state.generation and key != state.condemned
        ]

    def _old_notes(self) -> list[str]:
        """Return the keys of a server's notes for uploads that nobody goes on with.

        Without one an upload that was broken off is sent again.
        """
        latest = self._horizon.born_before
        return [
            key
            for key, modified in self._objects.list_notes()
            if latest is None or modified <= latest
        ]

    def _delete_keys(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _BATCH):
            self._objects.backend.delete(keys[start : start + _BATCH])

    def _swap_state(self, state: GcState) -> None:
        """Replace what `gc/current` says, if it is still what was read.

        Raises:
            _OvertakenError: it is not.
            BackendError: it failed, and whether it took place is open: the next run finds out.
        """
        try:
            version = self._objects.put_gc_state(state, self._state.version)
        except (PermissionDeniedError, StorageFullError):
            raise
        except BackendError as error:
            found = self._objects.get_gc_state()
            if found.state != state:
                if isinstance(error, ConditionFailedError) or found.version != self._state.version:
                    raise _OvertakenError from error
                raise
            self._state = found  # it had taken place, only the answer was lost
        else:
            self._state = StoredGcState(state, version)

    # helpers

    @contextlib.contextmanager
    def _files(self) -> Iterator[tuple[IdRuns, IndexFiles]]:
        with IdRuns(self._folder) as runs, IndexFiles(self._objects, self._folder) as index:
            yield runs, index

    @property
    def _horizon(self) -> Horizon:
        """What is old enough; without any grace, everything is."""
        grace, now = self._options.grace, self._started
        return Horizon(now - grace if grace > 0 else None, now, self._options.keep)

    def _result(self, plan: GcPlan) -> GcResult:
        done = self._done
        return GcResult(
            plan=plan,
            applied=self._options.apply,
            finished=done.finished,
            deleted_packs=done.packs,
            deleted_bytes=done.bytes,
            copied_bytes=done.copied,
            deleted_manifests=done.manifests,
            segments=done.segments,
            seconds=self._now() - self._started,
        )


def _refuse(_: PackHint, error: IntegrityError) -> None:
    """G6: what cannot be copied out must not be deleted."""
    raise error
