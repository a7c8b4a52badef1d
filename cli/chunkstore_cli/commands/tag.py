"""`chunkstore tag`: name a version, list such names, delete one."""

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


@verb(
    examples="""
    chunkstore tag imagenet@3 prod
    chunkstore tag imagenet
    chunkstore tag --delete imagenet prod
    """
)
@click.argument("address", shell_complete=dataset_names)
@click.argument("name", required=False)
@click.option("--delete", is_flag=True, help="Delete the tag NAME of the dataset.")
def tag(session: Session, address: str, name: str | None, delete: bool) -> None:
    """Name the version ADDRESS, which is DATASET[@VERSION]; the name moves there from elsewhere.

    Without NAME the tags of the dataset are listed. The tag 'latest' is always there and cannot be
    set. Numbers, and what looks like a manifest id, cannot be tags.
    """
    if name is None and delete:
        raise InvalidInputError(
            "no tag to delete is named", hint=f"add it: tag --delete {address} NAME"
        )
    with session.open_store() as store:
        if name is None:
            _list(session, store, address)
        elif delete:
            _delete(session, store, address, name)
        else:
            _set(session, store, address, name)


def _set(session: Session, store: Store, address: str, name: str) -> None:
    where = parse_address(address)
    if where.path:
        raise InvalidInputError(f"a tag names a whole version, not {address!r}")
    version = store.tag(where, name)
    if session.common.json:
        output.document({**version_name(version), "tag": name})
    elif session.common.quiet:
        output.line(version.manifest_id.hex())
    else:
        output.line(f"{version.dataset}@{name} is version {version.number}")


def _delete(session: Session, store: Store, dataset: str, name: str) -> None:
    if "@" in dataset or ":" in dataset:
        raise InvalidInputError(
            f"a tag is deleted from a dataset, not from {dataset!r}", hint="leave out the version"
        )
    store.untag(dataset, name)
    if session.common.json:
        output.document({"dataset": dataset, "tag": name, "deleted": True})
    elif session.common.quiet:
        output.line(name)
    else:
        output.line(f"{dataset} has no tag {name} any more; the version stays")


def _list(session: Session, store: Store, dataset: str) -> None:
    if "@" in dataset or ":" in dataset:
        raise InvalidInputError(
            f"no tag is named for {dataset!r}",
            hint=f"write: {session.common.command('tag', dataset, 'NAME')}",
        )
    tagged = [(tag, version) for version in store.dataset(dataset).versions for tag in version.tags]
    tagged.sort(key=lambda pair: pair[0])
    if session.common.json:
        tags = [
            {"tag": tag, "version": version.number, "manifest": version.manifest_id.hex()}
            for tag, version in tagged
        ]
        output.document({"dataset": dataset, "tags": tags})
    elif session.common.quiet:
        for tag, _ in tagged:
            output.line(tag)
    else:
        output.table(
            ("TAG", "VERSION", "MANIFEST", "CREATED (UTC)"),
            [
                (
                    tag,
                    str(version.number),
                    output.short_id(version.manifest_id),
                    output.time_text(version.created_ns),
                )
                for tag, version in tagged
            ],
            right=(1,),
        )
