"""`chunkstore rm`: drop versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chunkstore.address import parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import version_name
from chunkstore_cli.options import dry_run, verb, yes
from chunkstore_cli.questions import confirm
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.store import Store
    from chunkstore.values import Version

_SPACE = "the space is freed by 'chunkstore gc'"


@verb(
    examples="""
    chunkstore rm imagenet@1 imagenet@2
    chunkstore rm imagenet --all --dry-run
    """
)
@click.argument(
    "addresses", nargs=-1, required=True, metavar="NAME@VERSION...", shell_complete=dataset_names
)
@click.option("--all", "everything", is_flag=True, help="Drop all versions of the datasets named.")
@dry_run
@yes
def rm(
    session: Session, addresses: tuple[str, ...], everything: bool, dry_run: bool, yes: bool
) -> None:
    """Drop versions, with their tags. Asks on a terminal; elsewhere --yes is needed.

    Versions of one dataset are dropped together or not at all. The numbers are never used again.
    What other versions need stays. 'chunkstore gc' frees the space.
    """
    with session.open_store() as store:
        doomed = _doomed(store, addresses, everything=everything)
        if not dry_run:
            names = ", ".join(f"{v.dataset}@{v.number}" for v in doomed)
            count = output.count_text(len(doomed), "version")
            confirm(f"drop {count}: {names}?", yes=yes, refusal=f"rm would drop {count}: {names}")
            doomed = _drop(store, doomed)
    _tell(session, doomed, dry_run=dry_run)


def _doomed(store: Store, addresses: tuple[str, ...], *, everything: bool) -> list[Version]:
    """Return the versions that are meant, each once.

    Raises:
        NotFoundError: one is not there.
        InvalidInputError: an address that does not say clearly what to drop.
    """
    found: dict[tuple[str, int], Version] = {}
    for address in addresses:
        where = parse_address(address)
        if where.path:
            raise InvalidInputError(
                f"only whole versions are dropped, not {address!r}",
                hint="push again without the file, then drop the older versions",
            )
        if everything == ("@" in address):
            raise InvalidInputError(
                f"--all drops all versions, {address!r} names one"
                if everything
                else f"{address!r} names no version to drop",
                hint=f"write {where.dataset}@1 for one version, or {where.dataset} --all for all",
            )
        versions = store.dataset(where.dataset).versions if everything else [store.version(where)]
        found.update({(version.dataset, version.number): version for version in versions})
    return list(found.values())


def _drop(store: Store, doomed: list[Version]) -> list[Version]:
    dropped: list[Version] = []
    for dataset in dict.fromkeys(version.dataset for version in doomed):
        numbers = [version.number for version in doomed if version.dataset == dataset]
        dropped += store.remove(dataset, numbers)
    return dropped


def _tell(session: Session, versions: list[Version], *, dry_run: bool) -> None:
    if session.common.json:
        output.document({"dry_run": dry_run, "versions": [version_name(v) for v in versions]})
        return
    for version in versions:
        identifier = output.short_id(version.manifest_id)
        if session.common.quiet:
            output.line(version.manifest_id.hex())
        else:
            verb = "would drop" if dry_run else "dropped"
            output.line(
                f"{verb} {version.dataset}@{version.number} {identifier}: "
                f"{output.count_text(version.files, 'file')}, {output.size_text(version.size)}"
            )
    if not dry_run and not session.common.quiet:
        output.note(_SPACE)
