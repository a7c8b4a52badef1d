"""`chunkstore diff`: list what differs between two versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from chunkstore.address import Address, parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import version_name
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.options import verb
from chunkstore_cli.progress import SIGNS
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.store import Store
    from chunkstore.values import Change


class _Count:
    """Counts changes as they pass."""

    def __init__(self, changes: Iterator[Change]) -> None:
        self._changes = changes
        self.paths = {"added": 0, "modified": 0, "removed": 0}
        self.sizes = {"added": 0, "modified": 0, "removed": 0}

    def __iter__(self) -> Iterator[Change]:
        for change in self._changes:
            self.paths[change.kind] += 1
            self.sizes[change.kind] += _size(change)
            yield change


@verb(
    examples="""
    chunkstore diff imagenet@1 imagenet@2 --stat
    chunkstore diff imagenet@~1
    """
)
@click.argument("before", shell_complete=dataset_names)
@click.argument("after", required=False, shell_complete=dataset_names)
@click.option("--stat", is_flag=True, help="Print how much was added, modified and removed only.")
@click.option("--exit-code", is_flag=True, help="End with status 9 if anything differs.")
def diff(
    session: Session, before: str, after: str | None, stat: bool, exit_code: bool
) -> Status | None:
    """List what differs between the versions BEFORE and AFTER, each NAME[@VERSION].

    Without AFTER the latest version of the same dataset is meant. Marks: + added, ~ modified,
    - removed; the sizes are those after, of removed files those before.
    """
    old = _whole(before)
    new = _whole(after) if after else Address(old.dataset)
    with session.open_store() as store:
        changes = _Count(store.diff(old, new))
        if session.common.json:
            _document(store, old, new, changes, stat=stat)
        else:
            _print(changes, stat=stat, quiet=session.common.quiet)
            if not (stat or session.common.quiet or any(changes.paths.values())):
                output.note(f"nothing differs between {old} and {new}")
    return Status.DIFFERENT if exit_code and any(changes.paths.values()) else None


def _whole(text: str) -> Address:
    address = parse_address(text)
    if address.path:
        raise InvalidInputError(
            f"only whole versions are compared, not {text!r}",
            hint=f"leave out the path: {address.dataset}@{address.version}",
        )
    return address


def _document(store: Store, old: Address, new: Address, changes: _Count, *, stat: bool) -> None:
    head = {
        "before": version_name(store.version(old)),
        "after": version_name(store.version(new)),
    }
    if stat:
        for _ in changes:
            pass
        output.document({**head, **changes.paths, "sizes": changes.sizes})
    else:
        output.long_document(head, "changes", map(_change_document, changes))


def _change_document(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "path": change.path,
        "size_before": change.before.size if change.before else None,
        "size_after": change.after.size if change.after else None,
    }


def _print(changes: _Count, *, stat: bool, quiet: bool) -> None:
    for change in changes:
        if quiet:
            output.line(change.path)
        elif not stat:
            size = output.size_text(_size(change))
            output.line(f"{SIGNS[change.kind]} {size:>10}  {change.path}")
    if stat and not quiet:
        for kind, count in changes.paths.items():
            size = output.size_text(changes.sizes[kind])
            output.line(f"{SIGNS[kind]} {kind:8}  {count:>9,}  {size:>10}")


def _size(change: Change) -> int:
    entry = change.after or change.before
    return entry.size if entry else 0
