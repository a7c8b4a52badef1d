"""The rules of writers, W0 to W7, each with its switch."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Final

from chunkstore import layout, refs, writer
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.copy import Copying
from chunkstore.format import index, pack
from chunkstore.format.ref import decode_ref, empty_ref, encode_ref
from chunkstore.objects import Objects, StoredRef
from chunkstore.pack_table import PackTable
from chunkstore.refs import Refs
from tests.simulation.scheduler import Weather
from tests.simulation.switches import Rule, Switch, bend, bend_all

_Push = writer._Push


def _state_after_view(load: Any) -> Any:
    def load_view(self: Any) -> None:
        load(self)
        self._state = self._objects.read_gc_state()

    return load_view


def _all_alive(add: Any) -> Any:
    return lambda self, *columns, alive: add(self, *columns, alive=True)


def _nothing_condemned(forget: Any) -> Any:
    return lambda self, _: forget(self, frozenset())


def _guard_first(swap: Any) -> Any:
    def bent(self: Any, dataset: str, edit: Any, guard: Any = None, **options: Any) -> Any:
        generation = guard() if guard else self._objects.read_gc_state().generation
        options["known"] = self.get(dataset)
        return swap(self, dataset, edit, lambda: generation, **options)

    return bent


def _no_empty_ref(_: Any) -> Any:
    return lambda self, dataset: StoredRef(empty_ref(dataset), None)


def _no_second_look(_: Any) -> Any:
    return lambda self, *_: self._objects.read_gc_state().generation


def _stale_view(_: Any) -> Any:
    """Take the packs off the view that are condemned now, and believe the rest of it."""

    def guard(self: Any, manifest: Any, renew: Any) -> int:
        while (state := self._objects.read_gc_state()) != self._state:
            self._state = state
            renew()
            condemned = self._objects.read_condemned(state)
            known = self._view.index
            for ids in self._reader.every_id(manifest):
                numbers = known.find(ids).tolist()
                if any(n == ABSENT or known.pack(n).pack_id in condemned for n in numbers):
                    raise writer._OvertakenError
        return state.generation

    return guard


def _manifest_kept(guard: Any) -> Any:
    return lambda self, manifest, _: guard(self, manifest, lambda: None)


def _copied_name(_: Any) -> Any:
    def put(self: Any, manifest: Any) -> Any:
        return self._target.objects.put_manifest(manifest)[0]

    return put


def _copied_without_a_look(_: Any) -> Any:
    return lambda self, *_: self._target.objects.read_gc_state().generation


def _unconditional(put_ref: Any) -> Any:
    def put(self: Any, ref: Any, replaces: str | None) -> str:
        if replaces is None:
            return str(put_ref(self, ref, replaces))
        return str(self.backend.put(layout.ref_key(ref.dataset), [encode_ref(ref)], Overwrite()))

    return put


def _not_read_back(_: Any) -> Any:
    """Believe a refusal, and begin again as somebody else: neither nonce nor manifest is known."""

    def commit(self: Any, manifest: Any, identifier: Any, stored: int) -> Any:
        for _ in range(5):
            try:
                return _commit(self, manifest, self._renewed(manifest), stored)
            except _RefusedError:
                self._stored = self._refs.get(self._dataset)
        raise AssertionError("refused five times")

    return commit


class _RefusedError(Exception):
    """A write of a ref was refused or not answered."""


def _replace_believing(self: Any, ref: Any, version: str) -> bool:
    try:
        self._objects.put_ref(ref, version)
    except refs.BackendError as error:
        raise _RefusedError from error
    return True


_commit = _Push._commit


def _zeros(module: object) -> Switch:
    return bend_all((module, "secrets", types.SimpleNamespace(token_bytes=bytes)))


def _version_by_content(put: Any) -> Any:
    """Let a storage call refs of equal versions and tags the same, as if none had a nonce."""

    def bent(self: Any, key: str, data: Any, mode: Any) -> str:
        version = str(put(self, key, data, mode))
        if key.startswith(layout.REFS):
            content, info = self._objects[key]
            fields = decode_ref(content, key)
            version = str(hash((fields.versions, fields.tags)))
            self._objects[key] = (content, dataclasses.replace(info, version=version))
        return version

    return bent


RULES: Final[dict[str, Rule]] = {
    "W0: gc/current is read before the view": Rule(bend(_Push, "_load_view", _state_after_view)),
    "W0: a pack counts only if it exists": Rule(bend(PackTable, "add", _all_alive)),
    "W1: condemned packs are not in the view": Rule(
        bend(ChunkIndex, "_forget", _nothing_condemned)
    ),
    "W4: the ref is read before gc/current": Rule(bend(Refs, "swap", _guard_first)),
    "W4: an absent ref is made empty first": Rule(bend(Refs, "create_empty", _no_empty_ref)),
    "W5: gc/current is read again": Rule(bend(_Push, "_guard", _no_second_look)),
    "W6: the view is read anew": Rule(bend(_Push, "_guard", _stale_view)),
    "W6: the manifest gets another name": Rule(bend(_Push, "_guard", _manifest_kept)),
    "copy, W3: a manifest gets another name": Rule(bend(Copying, "_put_manifest", _copied_name)),
    "copy, W5: gc/current is read again": Rule(bend(Copying, "_guard", _copied_without_a_look)),
    "W7: the ref is replaced only if unchanged": Rule(bend(Objects, "put_ref", _unconditional)),
    "W7: a ref is read back after a refusal": Rule(
        bend_all(
            (Refs, "_replace", _replace_believing), (_Push, "_commit", _not_read_back(_commit))
        ),
        writers=3,
        collectors=0,
        weather=Weather(lose=0.05),
    ),
    "no version of a ref comes again": Rule(bend(MemoryBackend, "put", _version_by_content)),
    "no name of a pack comes again": Rule(_zeros(pack)),
    "no name of a segment comes again": Rule(_zeros(index), weather=Weather(0.5, 0.01, 0, 0, 0.3)),
}
