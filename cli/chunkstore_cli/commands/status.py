"""`chunkstore status`: a folder against a version, before any transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chunkstore.address import parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import status_summary
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.options import path_filters, verb
from chunkstore_cli.progress import SIGNS, STATUS, watching
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.values import StatusResult


@verb(
    examples="""
    chunkstore status ./data imagenet
    chunkstore status ./data imagenet@v2 --exit-code --quiet
    """
)
@click.argument("folder", type=click.Path())
@click.argument("address", shell_complete=dataset_names)
@path_filters
@click.option("--exit-code", is_flag=True, help="End with status 9 if anything differs.")
def status(
    session: Session,
    folder: str,
    address: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    exit_code: bool,
) -> Status | None:
    """Compare FOLDER with ADDRESS, which is NAME[@VERSION], and say what a push would send.

    Marks: + added, ~ modified, - removed, as seen from the version. Nothing is transferred.
    """
    where = parse_address(address)
    if where.path:
        raise InvalidInputError(
            f"a folder is compared with a whole version, not with {address!r}",
            hint=f"leave out the path: {where.dataset}@{where.version}",
        )
    with session.open_store() as store, watching(session.common, STATUS) as watch:
        result = store.status(folder, where, include=include, exclude=exclude, progress=watch)
    if session.common.json:
        output.json_line(status_summary(where.dataset, result))
    elif session.common.quiet:
        for _, path, _ in result.changes:
            output.line(path)
    else:
        _tell(where.dataset, result)
    return Status.DIFFERENT if exit_code and result.changes else None


def _tell(dataset: str, result: StatusResult) -> None:
    for kind, path, size in result.changes:
        output.line(f"{SIGNS[kind]} {output.size_text(size):>10}  {path}")
    name = (
        f"{dataset}@{result.version.number}"
        if result.version
        else f"{dataset}, which has no version yet"
    )
    if not result.changes:
        output.line(f"nothing differs from {name}")
        return
    stats = result.stats
    output.line(
        f"{output.count_text(len(result.changes), 'difference')} from {name}; a push would send "
        f"{output.size_text(stats.new_bytes)} of {output.size_text(stats.size)} before compression"
    )
