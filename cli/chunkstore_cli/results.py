"""What a push and a pull say at their end, in lines for people.

Neighbours: the verbs `push`, `pull` and `run`; `documents` says the same to programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chunkstore_cli import output

if TYPE_CHECKING:
    from chunkstore.values import PullResult, PushResult

_DID: Final = ("fetched", "reused", "wrote", "removed")
_WOULD: Final = ("would fetch", "reuse", "write", "remove")


def pull_lines(result: PullResult, place: str, *, dry_run: bool = False) -> tuple[str, ...]:
    """Return the lines of a pull; `place` is where the files are, such as "in ./data"."""
    stats = result.stats
    verb = "would be" if dry_run else "is"
    fetch, reuse, write, remove = _WOULD if dry_run else _DID
    deleted = f", {remove} {output.count_text(stats.deleted, 'file')}" if stats.deleted else ""
    seconds = "" if dry_run else f" in {stats.seconds:.1f} s"
    name = f"{result.dataset}@{result.version} {output.short_id(result.manifest_id)}"
    return (
        f"{name} {verb} {place}: "
        f"{output.count_text(stats.files, 'file')}, {output.size_text(stats.size)}",
        f"{fetch} {output.size_text(stats.fetched_bytes)}, "
        f"{reuse} {output.size_text(stats.reused_bytes)}, "
        f"{write} {output.size_text(stats.written_bytes)}{deleted}{seconds}",
    )


def push_lines(result: PushResult, *, dry_run: bool = False) -> tuple[str, ...]:
    """Return the lines of a push."""
    stats = result.stats
    content = f"{output.count_text(stats.files, 'file')}, {output.size_text(stats.size)}"
    changed = output.count_text(stats.new_files, "changed file")
    new = f"{changed}, {output.size_text(stats.new_bytes)}"
    if stats.again_bytes:
        new += f", and {output.size_text(stats.again_bytes)} again that lay scattered"
    if result.unchanged:
        return (f"{result.dataset}@{result.version} is unchanged: {content}",)
    if dry_run or result.manifest_id is None:
        return (
            f"{result.dataset} would get a version: {content}; "
            f"new: {new}; about {output.size_text(stats.stored_bytes)} would be stored",
        )
    return (
        f"{result.dataset}@{result.version} {output.short_id(result.manifest_id)}: {content}",
        f"new: {new}; stored {output.size_text(stats.stored_bytes)}, "
        f"sent {output.size_text(stats.sent_bytes)} in {stats.seconds:.1f} s",
    )
