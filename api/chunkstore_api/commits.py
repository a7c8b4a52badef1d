"""Refs that clients send: a commit is let through only where it is one.

The server takes steps W4 to W7 of docs/design/consistency.md once more, by what it reads itself.
Neighbours: `guarded` asks, `chunkstore.version_check` goes through a version.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chunkstore import layout
from chunkstore.backends.base import CreateOnly, PutMode, ReplaceIf
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.compaction import is_due
from chunkstore.errors import (
    ChunkstoreError,
    ConditionFailedError,
    IntegrityError,
    InvalidInputError,
    MissingObjectError,
)
from chunkstore.format.gc import GcState
from chunkstore.format.manifest import Manifest
from chunkstore.format.ref import Ref, VersionRecord, decode_ref, fit_ref
from chunkstore.ids import ManifestId
from chunkstore.limits import MAX_COMMIT_NONCES
from chunkstore.objects import StoredRef
from chunkstore.opened import Opened
from chunkstore.recent import Recent
from chunkstore.refs import check_tag
from chunkstore.version_check import check_version
from chunkstore_api.callers import Caller, less
from chunkstore_api.narrow import Narrow
from chunkstore_api.problems import RequestError
from chunkstore_api.refusals import judged, refused
from chunkstore_api.tokens import Right
from chunkstore_api.views import Views

log = logging.getLogger(__name__)

_CHECKED: Final = 1000
"""How many versions are known to be right, for who is told that another writer was first."""

_AHEAD: Final = 1_000_000
"""So many numbers may be passed over: a copy keeps those of its source, which dropped some."""

_PUSH_AGAIN: Final = "push again: what was sent is found"


class Commits:
    """Checks and swaps refs of one store."""

    def __init__(self, store: Opened, views: Views, narrow: Narrow) -> None:
        self._objects = store.objects
        self._segments = store.caches.segments
        self._views = views
        self._narrow = narrow
        self._checked: Recent[tuple[ManifestId, GcState], bool] = Recent(_CHECKED)

    def put(self, caller: Caller, key: str, mode: PutMode, data: bytes) -> str:
        """Put a ref that says nothing but what is so and what the caller may say.

        Returns the version of the object.

        Raises:
            ConditionFailedError: another ref is there, or a collection began meanwhile.
            RequestError: 422, it is no such ref; 403, the caller may not say that.
        """
        with judged(key):
            ref = decode_ref(data, key)
        if ref.dataset != layout.dataset_of(key):
            refused(key, f"it is the ref of {ref.dataset!r}")
        if isinstance(mode, CreateOnly):
            if ref.sequence != 1 or ref.next_number != 1 or ref.gc_generation or ref.tags:
                refused(key, "a dataset begins with an empty ref")
            if len(ref.nonces) != 1 or ref.versions or ref.dropped:
                refused(key, "a dataset begins with an empty ref")
            return self._objects.put_ref(ref, None)
        assert isinstance(mode, ReplaceIf)
        stored = self._stored(ref.dataset, mode.version)
        _check_history(key, stored.ref, ref)
        _check_rights(caller, stored.ref, ref)
        state = self._objects.read_gc_state()  # W5, and W0 of the view: before it is loaded
        if ref.gc_generation != max(stored.ref.gc_generation, state.generation):
            raise _overtaken(key)
        known = {*stored.ref.versions, *(each.record for each in stored.ref.dropped)}
        added = [record for record in ref.versions if record not in known]
        for record in added:
            self._check_version(caller, key, stored.ref, record, state)
        if self._objects.read_gc_state() != state:
            raise _overtaken(key)
        version = self._objects.put_ref(ref, mode.version)
        if added and not (caller.wide and caller.right == Right.ADMIN):
            self._look_after(caller, ref)
        return version

    def _check_version(
        self, caller: Caller, key: str, before: Ref, record: VersionRecord, state: GcState
    ) -> None:
        """Check all of a version that a ref is to name.

        Raises:
            RequestError: 422, it is not what it says; 409, something of it is not there.
        """

        def stored(of_files: bool, ids: bytes) -> npt.NDArray[np.int64]:
            sizes = self._views.sizes(state, ids)
            if of_files:
                sizes[~self._views.are_of_files(state, ids)] = ABSENT
            return sizes

        def sizes_of(ids: bytes, of_files: bool) -> npt.NDArray[np.int64]:
            sizes = functools.partial(stored, of_files)
            if caller.wide:
                return sizes(ids)
            return self._narrow.sizes((before.dataset, *caller.named), ids, sizes)

        with judged(key):
            try:
                manifest = self._objects.get_manifest(record.manifest_id)
                _compare(key, record, manifest)
                if caller.wide and self._checked.get((record.manifest_id, state)):
                    return
                reader, base = self._views.reader(state), self._base(before, manifest)
                check_version(reader, manifest, base, sizes_of)
            except MissingObjectError as error:
                raise RequestError(409, error.code, error.message, hint=_PUSH_AGAIN) from error
        self._checked.put((record.manifest_id, state), True, 1)

    def _look_after(self, caller: Caller, ref: Ref) -> None:
        """Do after a commit what its writer may not: remove useless notes, merge segments.

        A failure fails no commit.
        """
        try:
            if not caller.wide:
                self._narrow.tidy(ref)
            if is_due(blake3(ref.dataset.encode()).digest()[0], ref.next_number - 1):
                ChunkIndex(self._objects, self._segments).compact(relist=True)
        except ChunkstoreError as error:
            log.warning("after a commit of %r: %s", ref.dataset, error)

    def _base(self, before: Ref, manifest: Manifest) -> Manifest | None:
        """Return the version whose pages need not be looked at again; None where that is none."""
        named = [r.manifest_id for r in before.versions]
        if not named:
            return None
        parent = manifest.parent if manifest.parent in named else named[-1]
        try:
            return self._objects.get_manifest(parent)
        except IntegrityError:
            return None

    def _stored(self, dataset: str, version: str) -> StoredRef:
        stored = self._objects.get_ref(dataset)
        if stored is None or stored.version != version:
            key = layout.ref_key(dataset)
            raise ConditionFailedError(f"{key} has changed", operation="put", key=key)
        return stored


def _check_history(key: str, before: Ref, ref: Ref) -> None:
    """Raise where a ref is not one that follows another."""
    if ref.sequence != before.sequence + 1:
        refused(key, f"it is write {ref.sequence}, not {before.sequence + 1}")
    if ref.nonce in before.nonces or ref.nonces[1:] != before.nonces[: MAX_COMMIT_NONCES - 1]:
        refused(key, "its nonces do not follow those of the ref that is there")
    there = [*before.versions, *(each.record for each in before.dropped)]
    kept = {record.number for record in before.versions}
    back = {each.record.number for each in before.dropped if each.record in ref.versions}
    added = [r.number for r in ref.versions if r.number not in kept | back]
    if added and not before.next_number <= added[0] <= added[-1] < before.next_number + _AHEAD:
        refused(key, "the numbers of its new versions are not the next ones")
    if ref.next_number != (added[-1] + 1 if added else before.next_number):
        refused(key, "its next number does not follow")
    if any(each.record not in there for each in ref.dropped):
        refused(key, "it lists as dropped what was no version")
    for name, _ in ref.tags:
        if name not in dict(before.tags):
            try:
                check_tag(name)
            except InvalidInputError as error:
                refused(key, error.message)


def _check_rights(caller: Caller, before: Ref, ref: Ref) -> None:
    """Raise where a ref drops or changes versions, and the caller may only add."""
    kept = ref.versions[: len(before.versions)] == before.versions
    unchanged = dataclasses.replace(ref, dropped=before.dropped)
    kept &= ref.dropped == fit_ref(unchanged).dropped
    if not kept and not caller.right.includes(Right.ADMIN):
        raise less("to drop or change versions takes a token that may admin", Right.ADMIN)


def _compare(key: str, record: VersionRecord, manifest: Manifest) -> None:
    """Hold a record of a ref against the manifest that it names."""
    said = record.created_ns, record.message, record.files, record.size, record.new_bytes
    if manifest.dataset != layout.dataset_of(key):
        refused(key, f"version {record.number} is one of dataset {manifest.dataset!r}")
    if said != (
        manifest.created_ns,
        manifest.message,
        manifest.files,
        manifest.size,
        manifest.new_bytes,
    ):
        refused(key, f"what it says of version {record.number} is not what its manifest says")


def _overtaken(key: str) -> ConditionFailedError:
    return ConditionFailedError(
        f"{key}: a collection began or ended meanwhile", operation="put", key=key
    )
