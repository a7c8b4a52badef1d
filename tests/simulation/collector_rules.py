"""The rules of collectors, G1 to G9, each with its switch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Final

from chunkstore import gc, layout
from chunkstore.backends.base import Overwrite
from chunkstore.errors import ConflictError
from chunkstore.format.gc import encode_gc_state
from chunkstore.format.ref import Ref
from chunkstore.gc import Collector
from chunkstore.id_runs import MetIds, as_ids
from chunkstore.ids import SegmentId, content_hash
from chunkstore.objects import Objects
from chunkstore.triage import Root, roots_of
from tests.simulation.switches import Rule, bend, bend_all

_condemn = Collector._condemn


def _no_takeover(_: Any) -> Any:
    def run(self: Any) -> Any:
        for _ in range(5):
            self._state = self._objects.get_gc_state()
            with contextlib.suppress(gc._OvertakenError):
                return self._collect()
        raise ConflictError("overtaken")

    return run


def _not_copied(_: Any) -> Any:
    def chosen(self: Any, triage: Any, index: Any) -> list[int]:
        return [*triage.choice.sparse.tolist(), *triage.choice.dead.tolist()]

    return chosen


def _swap_before_list(condemn: Any) -> Any:
    def bent(self: Any, packs: Any, going: Any) -> Any:
        objects = self._objects
        held: list[Any] = []
        objects.put_condemned = lambda *list_: held.append(list_)
        condemned = condemn(self, packs, going)
        del objects.put_condemned
        objects.put_condemned(*held[0])
        return condemned

    return bent


def _unconditional_state(_: Any) -> Any:
    return lambda self, state, replaces: self.backend.put(
        layout.GC_CURRENT, [encode_gc_state(state)], Overwrite()
    )


def _seen(refs: Iterable[Ref], marked: MetIds) -> tuple[MetIds, list[Root]]:
    """Return what a fence finds in refs."""
    named, unmarked = MetIds(), list[Root]()
    for ref in refs:
        roots = roots_of(ref)
        ids = as_ids(b"".join(root.manifest_id for root in roots))
        named.add(ids)
        known = marked.has(ids).tolist()
        unmarked += [root for root, mark in zip(roots, known, strict=True) if not mark]
    return named, unmarked


def _not_fenced(_: Any) -> Any:
    def fence(self: Any, marked: Any) -> Any:
        found = [self._refs.get(name) for name in self._refs.names()]
        return _seen([stored.ref for stored in found if stored], marked)

    return fence


def _condemn_after_fence(self: Any, packs: Any, going: Any) -> Any:
    generation = self._state.state.generation + 1
    names = self._refs.names()
    self._early = [self._refs.swap(name, lambda ref: ref, lambda: generation) for name in names]
    return _condemn(self, packs, going)


def _fenced_before(self: Any, marked: Any) -> Any:
    return _seen(getattr(self, "_early", ()), marked)  # none where it takes over


def _late_not_walked(fence: Any) -> Any:
    return lambda self, marked: (fence(self, marked)[0], [])


def _old_segments_first(rewrite: Any) -> Any:
    def bent(objects: Any, index: Any, gone: Any) -> int:
        held: list[bytes] = []

        def later(data: bytes) -> SegmentId:
            held.append(data)
            return SegmentId(content_hash([data]))

        objects.put_segment = later
        count = int(rewrite(objects, index, gone))
        del objects.put_segment
        for data in held:
            objects.put_segment(data)
        return count

    return bent


RULES: Final[dict[str, Rule]] = {
    "G1: a list that was condemned is taken over": Rule(bend(Collector, "run", _no_takeover)),
    "G3: what lives in a pack is copied first": Rule(bend(Collector, "_copy_sparse", _not_copied)),
    "G4: the list is written before the swap": Rule(bend(Collector, "_condemn", _swap_before_list)),
    "G4: gc/current is swapped if unchanged": Rule(
        bend(Objects, "put_gc_state", _unconditional_state)
    ),
    "G4: packs are condemned before the fence": Rule(
        bend_all(
            (Collector, "_condemn", _condemn_after_fence), (Collector, "_fence", _fenced_before)
        )
    ),
    "G5: every ref is rewritten": Rule(bend(Collector, "_fence", _not_fenced)),
    "G5: versions found late are walked": Rule(bend(Collector, "_fence", _late_not_walked)),
    "G6: what they need is copied out": Rule(
        bend(Collector, "_copy_late", lambda _: lambda self, *_: None)
    ),
    "G7: new segments come before old ones go": Rule(bend(gc, "rewrite", _old_segments_first)),
}
