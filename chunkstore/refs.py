"""Datasets, versions and tags: read them, and change them by compare-and-swap.

Implements steps W4, W5 and W7 of docs/design/consistency.md: the ref is read, the collector's
state is read after it, then the ref is replaced if it is still the one that was read. Every
write has a fresh nonce, so that a writer whose answer was lost finds its own success.
Stands on `objects`.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from chunkstore.address import LATEST
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
)
from chunkstore.format.ref import DroppedVersion, Ref, VersionRecord, empty_ref, fit_ref
from chunkstore.layout import check_name
from chunkstore.limits import MAX_COMMIT_NONCES
from chunkstore.objects import Objects, StoredRef

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 100
_LONGEST_PAUSE: Final = 2.0
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_MANIFEST_PREFIX: Final = re.compile(r"[0-9a-f]{6,64}")

Guard = Callable[[], int]
"""Called between reading a ref and replacing it (W5); returns the collector's generation."""


class Refs:
    """The refs of one store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def names(self) -> list[str]:
        """Return the names of all datasets, sorted, those without versions included."""
        return sorted(self._objects.list_datasets())

    def get(self, dataset: str) -> StoredRef | None:
        """Return the ref of a dataset, or None."""
        return self._objects.get_ref(dataset)

    def require(self, dataset: str) -> StoredRef:
        """Return the ref of a dataset that has versions.

        Raises:
            NotFoundError: there is none; the nearest names are offered.
        """
        stored = self._objects.get_ref(dataset)
        if stored is None:
            others = (name for name in self.names() if name != dataset)  # it may have lost its all
            hint = near(dataset, others) or "list the datasets with ls"
            raise NotFoundError(f"no dataset {dataset!r}", hint=hint)
        if not stored.ref.versions:
            hint = "bring back what was dropped with undo" if stored.ref.dropped else "push one"
            raise NotFoundError(f"dataset {dataset!r} has no versions", hint=hint)
        return stored

    def swap(
        self,
        dataset: str,
        edit: Callable[[Ref], Ref],
        guard: Guard | None = None,
        *,
        known: StoredRef | None = None,
        create: bool = False,
    ) -> Ref:
        """Replace the ref by what `edit` makes of it, and return it: the commit point.

        `edit` is called again with the newer ref whenever another writer was first, and may
        raise to give up; `guard` is called before it each time, by default what reads `gc/current`
        and looks at nothing else. With `create` a dataset that has
        no ref gets an empty one first; one that was looked for and not found is `known` None, and
        is not looked for again.
        When `swap` raises a BackendError the change may or may not have happened; running the
        whole command again finds out.

        Raises:
            NotFoundError: no such dataset, without `create`.
            ConflictError: a hundred times another writer was first.
        """
        stored = known
        tried: set[bytes] = set()
        for attempt in range(_ATTEMPTS):
            if stored is None and not (create and attempt == 0):
                stored = self._objects.get_ref(dataset)
            if stored is None:
                if not create:
                    self.require(dataset)
                stored = self.create_empty(dataset)
                if stored is None:
                    continue
            if not tried.isdisjoint(stored.ref.nonces):
                return stored.ref  # an earlier attempt had won, only its answer was lost
            # After the ref was read; what it finds may change the edit.
            generation = guard() if guard else self._objects.read_gc_state().generation
            ref = stamped(edit(stored.ref), stored.ref, generation)
            tried.add(ref.nonce)
            if self._replace(ref, stored.version):
                return ref
            log.info("another writer changed %s first; trying again", dataset)
            stored = None
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.01 * 2 ** min(attempt, 10))))  # noqa: S311  # jitter, no secret
        raise ConflictError(
            f"dataset {dataset!r} was changed by others {_ATTEMPTS} times in a row",
            hint="run the same command again",
        )

    def create_empty(self, dataset: str) -> StoredRef | None:
        """Create an empty ref; None where somebody else did, perhaps this very request.

        A manifest is stored only when its dataset has a ref: so one whose dataset has none tells
        that the ref was lost.
        """
        ref = empty_ref(dataset)
        try:
            return StoredRef(ref, self._objects.put_ref(ref, None))
        except ConditionFailedError:
            return None

    def _replace(self, ref: Ref, version: str) -> bool:
        """Replace the ref if it is still `version`; False where the ref must be read again.

        A refusal may be the echo of this very write, retried after its answer was lost, so the
        ref is read back and searched for the write's nonce. Any other failure leaves open
        whether the write took effect, and reading back settles that too.
        """
        try:
            self._objects.put_ref(ref, version)
        except (PermissionDeniedError, StorageFullError):
            raise
        except BackendError as error:
            current = self._objects.get_ref(ref.dataset)
            if current is not None and ref.nonce in current.ref.nonces:
                return True
            unchanged = current is not None and current.version == version
            if unchanged and not isinstance(error, ConditionFailedError):
                raise
            return False
        return True


def stamped(ref: Ref, before: Ref, generation: int) -> Ref:
    """Return `ref` as the write that follows `before`, with a nonce of its own."""
    nonce = secrets.token_bytes(16)
    stamped = dataclasses.replace(
        ref,
        sequence=before.sequence + 1,
        nonce=nonce,
        gc_generation=max(before.gc_generation, generation),
        nonces=(nonce, *before.nonces)[:MAX_COMMIT_NONCES],
    )
    return fit_ref(stamped)


def resolve(ref: Ref, version: str) -> VersionRecord:
    """Return the version that a number, tag, `latest`, `~N` or manifest id prefix names.

    Raises:
        NotFoundError: none is named so; what there is, is offered.
        InvalidInputError: a prefix that fits several manifests.
    """
    if version == LATEST or version.startswith("~"):
        back = 0 if version == LATEST else _steps_back(version)
        if back < len(ref.versions):
            return ref.versions[-1 - back]
        _not_found(ref, version)
    if _NUMBER.fullmatch(version):
        for record in ref.versions:
            if record.number == int(version):
                return record
    tagged = dict(ref.tags).get(version)
    if tagged is not None:
        return next(record for record in ref.versions if record.number == tagged)
    if _MANIFEST_PREFIX.fullmatch(version):
        found = [r for r in ref.versions if r.manifest_id.hex().startswith(version)]
        if len({record.manifest_id for record in found}) > 1:
            raise InvalidInputError(
                f"{version!r} begins the ids of {len(found)} manifests of {ref.dataset!r}",
                hint="give more digits",
            )
        if found:
            return found[0]
    _not_found(ref, version)


def _steps_back(version: str) -> int:
    digits = version[1:] or "1"
    if not digits.isdecimal():
        raise InvalidInputError(f"not a version: {version!r}", hint="~N is N before the latest")
    return int(digits)


def _not_found(ref: Ref, version: str) -> NoReturn:
    names = [name for name, _ in ref.tags]
    hint = near(version, names)
    if hint is None and ref.versions:
        first, last = ref.versions[0].number, ref.versions[-1].number
        tags = f"; tags: {', '.join(names[:10])}" if names else ""
        numbers = f"is version {first}" if first == last else f"are versions {first} to {last}"
        hint = f"there {numbers}{tags}"
    raise NotFoundError(f"no version {version!r} of dataset {ref.dataset!r}", hint=hint)


def near(wanted: str, names: Iterable[str]) -> str | None:
    """Return "did you mean ...?" with the names most like `wanted`, or None."""
    found = difflib.get_close_matches(wanted, list(names), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(repr(name) for name in found)}?" if found else None


def check_tag(name: str) -> None:
    """Raise InvalidInputError where `name` could be taken for a number, `latest` or a manifest."""
    check_name(name, "tag")
    if name == LATEST or _NUMBER.fullmatch(name) or _MANIFEST_PREFIX.fullmatch(name):
        raise InvalidInputError(
            f"a tag cannot be called {name!r}",
            hint="'latest', numbers and what looks like a manifest id always mean those",
        )


def with_tag(ref: Ref, name: str, number: int) -> Ref:
    """Return `ref` with the tag `name` on version `number`.

    Raises:
        InvalidInputError: not a name that a tag can have.
        NotFoundError: no such version; a ref with a tag on none could not be read again.
    """
    check_tag(name)
    if all(record.number != number for record in ref.versions):
        _not_found(ref, str(number))
    tags = {**dict(ref.tags), name: number}
    return dataclasses.replace(ref, tags=tuple(sorted(tags.items())))


def without_versions(ref: Ref, numbers: Iterable[int], dropped_ns: int) -> Ref:
    """Return `ref` without these versions and their tags, which it keeps as dropped."""
    leaving = set(numbers)
    tags: dict[int, list[str]] = {}
    for name, number in ref.tags:
        tags.setdefault(number, []).append(name)
    dropped = [
        DroppedVersion(record, dropped_ns, tuple(tags.get(record.number, ())))
        for record in ref.versions
        if record.number in leaving
    ]
    return dataclasses.replace(
        ref,
        versions=tuple(record for record in ref.versions if record.number not in leaving),
        tags=tuple(tag for tag in ref.tags if tag[1] not in leaving),
        dropped=tuple(sorted((*ref.dropped, *dropped))),
    )


def dropped_last(ref: Ref) -> list[int]:
    """Return the numbers of the versions that were dropped last, at the same time.

    Raises:
        NotFoundError: there are none that could be brought back.
    """
    if not ref.dropped:
        raise NotFoundError(
            f"dataset {ref.dataset!r} has no dropped versions",
            hint="a version can be brought back until gc has let it go",
        )
    last = max(each.dropped_ns for each in ref.dropped)
    return [each.record.number for each in ref.dropped if each.dropped_ns == last]


def with_dropped(ref: Ref, numbers: Iterable[int]) -> Ref:
    """Return `ref` with dropped versions brought back, and those of their tags that are free.

    Raises:
        NotFoundError: one of them was not dropped, or a collection has let it go.
    """
    wanted = set(numbers)
    back = [each for each in ref.dropped if each.record.number in wanted]
    for number in sorted(wanted - {each.record.number for each in back}):
        there = ", ".join(str(each.record.number) for each in ref.dropped[-20:]) or "none"
        raise NotFoundError(
            f"version {number} of dataset {ref.dataset!r} cannot be brought back",
            hint=f"dropped versions that can: {there}",
        )
    tags = {name: each.record.number for each in back for name in each.tags} | dict(ref.tags)
    return dataclasses.replace(
        ref,
        versions=tuple(sorted((*ref.versions, *(each.record for each in back)))),
        tags=tuple(sorted(tags.items())),
        dropped=tuple(each for each in ref.dropped if each.record.number not in wanted),
    )


def without_expired(ref: Ref, expired: Callable[[DroppedVersion], bool]) -> Ref:
    """Return `ref` without the dropped versions that can be brought back no more."""
    return dataclasses.replace(
        ref, dropped=tuple(each for each in ref.dropped if not expired(each))
    )


def check_expected(ref: Ref, expect: str) -> None:
    """Raise ConflictError unless `expect` names the latest version ("0": there is none)."""
    latest = ref.versions[-1] if ref.versions else None
    if expect == "0":
        matches = latest is None
    else:
        matches = latest is not None and resolve(ref, expect).number == latest.number
    if not matches:
        now = f"version {latest.number}" if latest else "without versions"
        raise ConflictError(
            f"dataset {ref.dataset!r} is {now}, not at {expect!r} as expected",
            hint="look at what changed with log, then push again",
        )
