"""`chunkstore undo`: bring dropped versions back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chunkstore.address import parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import version_name
from chunkstore_cli.options import verb
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.store import Store
    from chunkstore.values import Version


@verb(
    examples="""
    chunkstore undo imagenet
    chunkstore undo imagenet@1
    chunkstore undo imagenet --list
    """
)
@click.argument("address", metavar="NAME[@NUMBER]", shell_complete=dataset_names)
@click.option("--list", "listing", is_flag=True, help="List what can be brought back.")
def undo(session: Session, address: str, listing: bool) -> None:
    """Bring back versions that 'rm' has dropped: those that were dropped last, or version NUMBER.

    They get their numbers again, and those of their tags that no other version has by now. That
    works until 'chunkstore gc' has let them go, a day after they were dropped at the earliest
    unless it is told otherwise.
    """
    with session.open_store() as store:
        if listing:
            _list(session, store, address)
        else:
            _tell(session, _undo(session, store, address))


def _undo(session: Session, store: Store, address: str) -> list[Version]:
    where = parse_address(address)
    if where.path:
        raise InvalidInputError(
            f"only whole versions are brought back, not {address!r}", hint="leave out the path"
        )
    if "@" not in address:
        return store.undo(where.dataset)
    if not where.version.isdecimal():
        raise InvalidInputError(
            f"a dropped version has only its number, not {where.version!r}",
            hint=f"list them: {session.common.command('undo', where.dataset, '--list')}",
        )
    return store.undo(where.dataset, [int(where.version)])


def _tell(session: Session, versions: list[Version]) -> None:
    if session.common.json:
        output.document({"versions": [version_name(version) for version in versions]})
        return
    for version in versions:
        if session.common.quiet:
            output.line(version.manifest_id.hex())
        else:
            tags = [tag for tag in version.tags if tag != "latest"]
            output.line(
                f"{version.dataset}@{version.number} {output.short_id(version.manifest_id)} is back"
                + (f", tagged {' '.join(tags)}" if tags else "")
            )


def _list(session: Session, store: Store, address: str) -> None:
    if "@" in address or ":" in address:
        raise InvalidInputError(
            f"--list is for a dataset, not for {address!r}", hint="leave out the version"
        )
    versions = store.dropped(address)
    if session.common.json:
        found = [{**version_name(v), "tags": list(v.tags)} for v in versions]
        output.document({"dataset": address, "versions": found})
    elif session.common.quiet:
        for version in versions:
            output.line(version.manifest_id.hex())
    else:
        output.table(
            ("VERSION", "MANIFEST", "CREATED (UTC)", "FILES", "SIZE", "TAGS", "MESSAGE"),
            [
                (
                    str(version.number),
                    output.short_id(version.manifest_id),
                    output.time_text(version.created_ns),
                    f"{version.files:,}",
                    output.size_text(version.size),
                    " ".join(version.tags),
                    version.message.partition("\n")[0],
                )
                for version in versions
            ],
            right=(0, 3, 4),
        )
