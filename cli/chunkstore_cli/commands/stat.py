"""`chunkstore stat`: sizes, and what deduplication saves."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from chunkstore.address import parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import version_document
from chunkstore_cli.options import verb
from chunkstore_cli.output import count_text, size_text
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.store import Store


@verb(
    examples="""
    chunkstore stat
    chunkstore stat imagenet
    chunkstore stat imagenet@v2
    """
)
@click.argument("address", required=False, shell_complete=dataset_names)
def stat(session: Session, address: str | None) -> None:
    """Show the sizes of the whole store, of a dataset NAME, or of a version NAME@VERSION."""
    with session.open_store() as store:
        if address is None:
            _store(session, store)
        elif "@" in address or ":" in address:
            _version(session, store, address)
        else:
            _dataset(session, store, address)


def _store(session: Session, store: Store) -> None:
    found = store.stat()
    if session.common.json:
        numbers = {**asdict(found), "stored_bytes": found.stored_bytes}
        output.document({"url": store.url, "id": store.config.store_id.hex(), **numbers})
    elif session.common.quiet:
        output.line(store.config.store_id.hex())
    else:
        segments = count_text(found.index_segments, "segment")
        output.pairs(
            [
                ("store", store.url),
                ("datasets", f"{found.datasets:,}, {count_text(found.versions, 'version')}"),
                *_savings(found.total_size, found.unique_bytes, found.stored_bytes),
                ("  packs", f"{size_text(found.pack_bytes)} in {count_text(found.packs, 'pack')}"),
                ("  index", f"{size_text(found.index_bytes)} in {segments}"),
                ("  manifests and refs", size_text(found.metadata_bytes)),
                ("chunks", f"{found.chunks:,}"),
            ]
        )


def _dataset(session: Session, store: Store, name: str) -> None:
    found = store.dataset_stat(name)
    if session.common.json:
        output.document(asdict(found))
    elif session.common.quiet:
        output.line(found.name)
    else:
        latest = f"{size_text(found.size)} in {count_text(found.files, 'file')}"
        output.pairs(
            [
                ("dataset", found.name),
                ("versions", f"{found.versions:,}"),
                ("latest version", latest),
                *_savings(found.total_size, found.unique_bytes, found.stored_bytes),
            ]
        )


def _savings(total: int, unique: int, stored: int) -> list[tuple[str, str]]:
    """Return what all versions hold, what of it is different, and what that takes up."""
    ratio = f", {total / stored:.1f} times less" if stored and total > stored else ""
    return [
        ("all versions", size_text(total)),
        ("unique", size_text(unique)),
        ("stored", f"{size_text(stored)}{ratio}"),
    ]


def _version(session: Session, store: Store, address: str) -> None:
    where = parse_address(address)
    if where.path:
        raise InvalidInputError(
            f"a path has no sizes of its own: {address!r}", hint=f"try 'chunkstore ls -l {address}'"
        )
    version = store.version(where)
    if session.common.json:
        output.document(version_document(version))
    elif session.common.quiet:
        output.line(version.manifest_id.hex())
    else:
        output.pairs(
            [
                ("version", f"{version.dataset}@{version.number}"),
                ("manifest", version.manifest_id.hex()),
                ("created (UTC)", output.time_text(version.created_ns)),
                ("message", version.message or "-"),
                ("tags", " ".join(version.tags) or "-"),
                ("files", f"{size_text(version.size)} in {count_text(version.files, 'file')}"),
                ("new at commit", size_text(version.new_bytes)),
                ("stored at commit", size_text(version.stored_bytes)),
            ]
        )
