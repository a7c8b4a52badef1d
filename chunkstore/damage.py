"""What is damaged, and which versions and paths that costs, while it is being found out.

Neighbour: `verify`, which finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from chunkstore.events import LostPath, Notice, ProgressCallback
from chunkstore.findings import Damage
from chunkstore.ids import ChunkKind

_PATHS: Final = 100
_NAMED_CHUNKS: Final = 1000
"""Lost chunks that are named one by one; beyond that many the first few are enough to go on."""


@dataclass(slots=True)
class _Thing:
    """A damaged thing while it is found out what it touches."""

    kind: str
    problem: str
    versions: dict[tuple[str, int], int] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)


class Lost:
    """Chunks that no version can get any more, as joined ids of each kind."""

    def __init__(self) -> None:
        self._seen: dict[ChunkKind, set[bytes]] = {kind: set() for kind in ChunkKind}

    def add(self, kind: ChunkKind, identifiers: Collection[bytes]) -> None:
        """Add ids of one kind."""
        self._seen[kind].update(identifiers)

    def of(self, kind: ChunkKind) -> list[bytes]:
        """Return the ids of one kind, sorted."""
        return sorted(self._seen[kind])


class DamageLog:
    """Damaged things in the order in which they are found. Its methods are called by one thread.

    Attributes:
        lost_paths: how many paths, of all versions together, cannot be read whole.
    """

    def __init__(self, progress: ProgressCallback) -> None:
        """`progress` gets a Notice of each thing, and a LostPath of each path."""
        self._progress = progress
        self._things: dict[str, _Thing] = {}
        self._chunks = 0
        self.lost_paths = 0

    def report(self, kind: str, key: str, problem: str) -> None:
        """Take note of a damaged thing; what is known of it already stays."""
        if key not in self._things:
            self._things[key] = _Thing(kind, problem)
            self._progress(Notice(message=problem))

    def report_chunk(self, identifier: bytes) -> str:
        """Take note of a chunk that no pack is known to have had; return what stands for it."""
        key = identifier.hex()
        if key not in self._things and self._chunks >= _NAMED_CHUNKS:
            key = "more chunks"
        self._chunks += key not in self._things
        self.report("chunk", key, f"missing chunk {key}: no pack of the store has it")
        return key

    def touch(self, where: tuple[str, int], path: str, entries: int, keys: Sequence[str]) -> None:
        """Take note of a path of a version, or of so many from it on, that is lost with things."""
        dataset, number = where
        self.lost_paths += entries
        told = LostPath(
            dataset=dataset, version=number, path=path, entries=entries, keys=tuple(keys)
        )
        self._progress(told)
        for key in keys:
            thing = self._things[key]
            thing.versions[where] = thing.versions.get(where, 0) + entries
            if len(thing.paths) < _PATHS:
                thing.paths.append(f"{dataset}@{number}:{path}")

    def touched(self, key: str) -> bool:
        """Whether a version lost anything with that thing."""
        return bool(self._things[key].versions)

    def damage(self, *, without: Collection[str], closely: bool) -> tuple[Damage, ...]:
        """Return all things but some; `closely`, whether they are only seen with --read-data."""
        return tuple(
            Damage(
                kind=thing.kind,
                key=key,
                problem=thing.problem,
                versions=tuple((*at, paths) for at, paths in sorted(thing.versions.items())),
                paths=tuple(thing.paths),
                mend=_mend(thing, closely=closely),
            )
            for key, thing in self._things.items()
            if key not in without
        )


def _mend(thing: _Thing, *, closely: bool) -> str:
    """Return the verb and options that mend a thing."""
    command = "repair --read-data" if closely else "repair"
    from_store = bool(thing.versions) or thing.kind in ("ref", "manifest")
    return f"{command} --from STORE" if from_store else command
