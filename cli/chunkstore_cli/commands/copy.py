"""`chunkstore copy`: versions of one store become versions of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chunkstore.address import parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.common import Common
from chunkstore_cli.documents import copied_document, copy_summary
from chunkstore_cli.environment import split_place
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.options import dry_run, verb
from chunkstore_cli.progress import COPY, watching
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.findings import CopyResult


@verb(
    examples="""
    chunkstore copy lab:imagenet@v2 prod:imagenet
    chunkstore copy imagenet /mnt/backup/store:
    chunkstore copy lab: s3://mirror/cs:
    """
)
@click.argument("source", metavar="[STORE:][NAME[@VERSION]]")
@click.argument("target", metavar="STORE:[NAME]")
@dry_run
def copy(session: Session, source: str, target: str, dry_run: bool) -> Status | None:
    """Copy a version, a dataset or everything to another store.

    STORE is an address or the name of a remote; where SOURCE has none, the store that is meant
    elsewhere too. NAME means all versions of the dataset with their tags; without it everything is
    copied. Without NAME in TARGET datasets keep their names.

    Only what the other store lacks is sent, and every chunk is verified. A copy that was broken off
    goes on from what is stored when the same command is run again. Versions that are damaged are
    left out and named, and the status is then 7.
    """
    from_store, address = split_place(source)
    to_store, name = split_place(target)
    if not to_store:
        raise InvalidInputError(
            f"{target!r} names no store", hint="write STORE:NAME, or STORE: to keep the name"
        )
    if name and not address:
        raise InvalidInputError(
            f"everything cannot be copied to one dataset, {name!r}",
            hint=f"write {to_store}: as the target",
        )
    if name:
        named = parse_address(name)
        if "@" in name or named.path:
            raise InvalidInputError(
                f"{name!r} is no dataset", hint="a version gets its number; name the dataset only"
            )
    with (
        session.open_other(from_store) as store,
        session.open_other(to_store) as other,
        watching(session.common, COPY) as watch,
    ):
        result = store.copy(
            other,
            [address] if address else [],
            dataset=name or None,
            dry_run=dry_run,
            progress=watch,
        )
    _tell(session, result, dry_run=dry_run)
    if result.failed and not (session.common.json or session.common.quiet):
        read = Common(store=from_store) if from_store else session.common
        output.hint(f"look what is damaged: {read.command('verify')}")
    return Status.DAMAGE if result.failed else None


def _tell(session: Session, result: CopyResult, *, dry_run: bool) -> None:
    if session.common.json:
        for version in result.versions:
            output.json_line(copied_document(version))
        output.json_line(copy_summary(result, dry_run=dry_run))
        return
    for version in result.versions:
        if session.common.quiet:
            output.line(version.manifest_id.hex())
        elif version.new:
            there = f"@{version.version}" if version.version is not None else ""
            is_ = "would be" if dry_run else "is"
            output.line(
                f"{version.source_dataset}@{version.source_version} {is_} {version.dataset}{there} "
                f"{output.short_id(version.manifest_id)}"
            )
    if not session.common.quiet:
        new = sum(version.new for version in result.versions)
        known = len(result.versions) - new
        send = "would send" if dry_run else "sent"
        amount = result.new_bytes if dry_run else result.sent_bytes
        seconds = " before compression" if dry_run else f" in {result.seconds:.1f} s"
        output.line(
            f"{output.count_text(new, 'new version')}, {known} there already; "
            f"{send} {output.size_text(amount)}{seconds}"
        )
