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
from chunkstore_cli.kinds import kind_stats, times_less
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
    chunkstore stat --by-kind
    """
)
@click.argument("address", required=False, shell_complete=dataset_names)
@click.option(
    "--by-kind", is_flag=True, help="Of the whole store: go through all versions for the table."
)
def stat(session: Session, address: str | None, by_kind: bool) -> None:
    """Show the sizes of the whole store, of a dataset NAME, or of a version NAME@VERSION.

    What is UNIQUE are the different chunks, before compression; STORED is what these take up. The
    table has them by kind of file, for a dataset or a version. What several kinds or versions
    share counts for the first.
    """
    with session.open_store() as store:
        if address is None:
            _store(session, store, by_kind=by_kind)
        elif "@" in address or ":" in address:
            _version(session, store, address)
        else:
            _dataset(session, store, address)


def _store(session: Session, store: Store, *, by_kind: bool) -> None:
    found = store.stat(by_kind=by_kind)
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
        if found.kinds:
            kind_stats(found.kinds)


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
        kind_stats(found.kinds)


def _savings(
    total: int, unique: int, stored: int, of: str = "all versions"
) -> list[tuple[str, str]]:
    """Return what there is, what of it is different, and what that takes up."""
    return [
        (of, size_text(total)),
        ("unique", size_text(unique) + times_less(total, unique)),
        ("stored", size_text(stored) + times_less(total, stored)),
    ]


def _version(session: Session, store: Store, address: str) -> None:
    where = parse_address(address)
    if where.path:
        raise InvalidInputError(
            f"a path has no sizes of its own: {address!r}",
            hint=f"see it listed: {session.common.command('ls', '-l', address)}",
        )
    if session.common.quiet:
        output.line(store.version(where).manifest_id.hex())
        return
    found = store.version_stat(where)
    version = found.version
    if session.common.json:
        savings = asdict(found)
        del savings["version"]
        output.document({**version_document(version), "savings": savings})
        return
    output.pairs(
        [
            ("version", f"{version.dataset}@{version.number}"),
            ("manifest", version.manifest_id.hex()),
            ("created (UTC)", output.time_text(version.created_ns)),
            ("message", version.message or "-"),
            ("tags", " ".join(version.tags) or "-"),
            ("new at commit", size_text(version.new_bytes)),
            ("stored at commit", size_text(version.stored_bytes)),
            ("files", f"{version.files:,}"),
            *_savings(version.size, found.unique_bytes, found.stored_bytes, of="size"),
        ]
    )
    kind_stats(found.kinds)
