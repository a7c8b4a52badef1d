"""`chunkstore log`: list the versions of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import version_document
from chunkstore_cli.options import verb
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.values import Version


@verb(examples="chunkstore log imagenet -n 10")
@click.argument("dataset", shell_complete=dataset_names)
@click.option(
    "-n", "--number", type=click.IntRange(min=1), metavar="N", help="List the newest N only."
)
def log(session: Session, dataset: str, number: int | None) -> None:
    """List the versions of DATASET, the newest first."""
    with session.open_store() as store:
        versions = store.dataset(dataset).versions[::-1][:number]
    if session.common.json:
        documents = [version_document(version) for version in versions]
        output.document({"dataset": dataset, "versions": documents})
    elif session.common.quiet:
        for version in versions:
            output.line(version.manifest_id.hex())
    else:
        output.table(
            ("VERSION", "MANIFEST", "CREATED (UTC)", "FILES", "SIZE", "STORED", "TAGS", "MESSAGE"),
            [_row(version) for version in versions],
            right=(0, 3, 4, 5),
        )


def _row(version: Version) -> tuple[str, ...]:
    return (
        str(version.number),
        output.short_id(version.manifest_id),
        output.time_text(version.created_ns),
        f"{version.files:,}",
        output.size_text(version.size),
        f"+{output.size_text(version.stored_bytes)}",
        " ".join(version.tags),
        version.message.partition("\n")[0],
    )
