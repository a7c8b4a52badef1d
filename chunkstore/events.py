"""What a running operation tells its caller: plain values given to one callback.

The library never prints. A caller passes `progress=callback`; the callback gets the events
below, from one thread at a time, and should return quickly. What it raises ends the operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the operation is; all sizes in bytes, all counts since it began.

    Attributes:
        done_bytes: bytes of the user's files that are dealt with (read by a push, in place
            after a pull).
        total_bytes: bytes of the user's files in all, None while that is not known.
        moved_bytes: stored bytes sent to the backend by a push, fetched from it by a pull.
        done_files: entries dealt with: files, links and empty folders.
        total_files: entries in all, None while that is not known.
    """

    done_bytes: int
    total_bytes: int | None
    moved_bytes: int
    done_files: int
    total_files: int | None


Action: TypeAlias = Literal["added", "modified", "removed", "restored", "reused", "left out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One path was dealt with.

    Attributes:
        action: what became of it: a push says added, modified or removed (against the version
            before); a pull says restored, reused (some or all of it was there) or removed;
            both say "left out" of what they had to pass over, with a reason.
        path: its path in the version; of what a pull removed, in the target.
        size: bytes of the file; 0 of a link or folder.
        reason: why it was left out, else "".
    """

    action: Action
    path: str
    size: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something the user should know although the operation goes on.

    Attributes:
        message: what it is.
        hint: what to do about it, or None.
    """

    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LostPath:
    """A path of a version cannot be read whole any more, or could not before it was mended.

    Attributes:
        dataset: the dataset.
        version: the version's number.
        path: the path; where a page of the version is lost, the first path of it.
        entries: how many paths that stands for: 1, or those of the page.
        keys: the damaged objects that are to blame; ids of chunks where none is known.
    """

    dataset: str
    version: int
    path: str
    entries: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far one step of an operation is that consists of several.

    Attributes:
        name: the step. Those of a collection: "mark" goes through versions, "plan" through the
            entries of the index; "copy" copies chunks; "fence" goes through datasets; "reindex"
            replaces index segments; "wait" gives readers time; "delete" deletes objects.
        done: how many of those are dealt with; of a wait 0.
        total: how many there are, in a wait seconds; None while that is not known.
    """

    name: str
    done: int
    total: int | None


Event: TypeAlias = Progress | Item | Notice | LostPath | Step
ProgressCallback: TypeAlias = Callable[[Event], object]


def ignore(event: Event) -> None:
    """Take an event and do nothing: the callback of callers who want none."""
    del event
