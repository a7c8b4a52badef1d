"""Which versions of a dataset are kept when old ones are thinned out. Pure.

Neighbours: `store` drops what is not kept, `gc` does so for every dataset.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from chunkstore.errors import InvalidInputError
from chunkstore.format.ref import Ref, VersionRecord

NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A rule which versions are kept: those that any of its parts keeps.

    The latest version is always kept, and so are versions with a tag, unless `tags` says which
    tags count.

    Attributes:
        last: keep so many of the newest versions.
        within: keep what was committed in the last so many seconds, by the writers' clocks.
        tags: patterns of the shell; keep versions with a tag that one of them matches. None: with
            any tag.
    """

    last: int | None = None
    within: float | None = None
    tags: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.last is None and self.within is None and self.tags is None:
            raise InvalidInputError("nothing says which versions to keep")
        if self.last is not None and self.last < 1:
            raise InvalidInputError("the latest version is always kept", hint="keep 1 or more")
        if self.within is not None and self.within < 0:
            raise InvalidInputError("a time to keep versions for cannot be negative")


class Judged(NamedTuple):
    """What a rule says of a version: whether it is kept, and why; "" where nothing keeps it."""

    record: VersionRecord
    kept: bool
    reason: str


def judge(ref: Ref, rule: Retention, now: float) -> list[Judged]:
    """Say of every version, oldest first, whether the rule keeps it, and why.

    `now` is in seconds since the epoch.
    """
    tags: dict[int, list[str]] = {}
    for name, number in ref.tags:
        tags.setdefault(number, []).append(name)
    newest = len(ref.versions)
    found = []
    for place, record in enumerate(ref.versions):
        reason = ""
        counting = [name for name in tags.get(record.number, ()) if _counts(name, rule)]
        if place == newest - 1:
            reason = "latest"
        elif counting:
            reason = f"tagged {' '.join(counting)}"
        elif rule.last is not None and newest - place <= rule.last:
            reason = f"one of the last {rule.last}"
        elif rule.within is not None and record.created_ns > (now - rule.within) * NANO:
            reason = "young enough"
        found.append(Judged(record, bool(reason), reason))
    return found


def _counts(tag: str, rule: Retention) -> bool:
    return rule.tags is None or any(fnmatch.fnmatchcase(tag, pattern) for pattern in rule.tags)


def not_kept(ref: Ref, rule: Retention, now: float) -> list[int]:
    """Return the numbers of the versions that nothing keeps."""
    return [judged.record.number for judged in judge(ref, rule, now) if not judged.kept]
