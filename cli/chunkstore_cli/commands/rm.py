"""`chunkstore rm`: drop versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from chunkstore.address import parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import version_name
from chunkstore_cli.options import dry_run, retention, retention_of, verb, yes
from chunkstore_cli.questions import confirm
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.retention import Retention
    from chunkstore.store import Store
    from chunkstore.values import Version

_NAMED = 20
"""Versions that a question names one by one."""


@verb(
    examples="""
    chunkstore rm imagenet@1 imagenet@2
    chunkstore rm imagenet --all --dry-run
    chunkstore rm imagenet --keep-last 10 --keep-within 30d
    """
)
@click.argument(
    "addresses", nargs=-1, required=True, metavar="NAME@VERSION...", shell_complete=dataset_names
)
@click.option("--all", "everything", is_flag=True, help="Drop all versions of the datasets named.")
@retention
@dry_run
@yes
def rm(
    session: Session,
    addresses: tuple[str, ...],
    everything: bool,
    keep_last: int | None,
    keep_within: int | None,
    keep_tags: tuple[str, ...],
    dry_run: bool,
    yes: bool,
) -> None:
    """Drop versions, with their tags. Asks on a terminal; elsewhere --yes is needed.

    Versions of one dataset are dropped together or not at all. The numbers are never used again.
    What other versions need stays. 'chunkstore undo' brings versions back until 'chunkstore gc' has
    freed their space.

    With --keep-last, --keep-within or --keep-tag old versions of the datasets NAME are thinned out.
    What any of these keeps stays; so does the latest version, and what has a tag.
    """
    rule = retention_of(keep_last, keep_within, keep_tags)
    with session.open_store() as store:
        reasons: list[tuple[Version, str]] = []
        if rule is None:
            doomed = _doomed(store, addresses, everything=everything)
        else:
            doomed, reasons = _thinned(store, _datasets(addresses, everything=everything), rule)
        if doomed and not dry_run:
            count = output.count_text(len(doomed), "version")
            named = f"{count}: {_names(doomed)}"
            confirm(f"drop {named}?", yes=yes, refusal=f"rm would drop {named}")
            if rule is None:
                doomed = _drop(store, doomed)
            else:
                names = dict.fromkeys(version.dataset for version in doomed)
                doomed = [v for name in names for v in store.thin(name, rule).dropped]
    _tell(session, doomed, reasons, dry_run=dry_run)


def _names(versions: Sequence[Version]) -> str:
    names = [f"{version.dataset}@{version.number}" for version in versions[:_NAMED]]
    more = [f"{len(versions) - _NAMED} more"] if len(versions) > _NAMED else []
    return ", ".join(names + more)


def _datasets(addresses: tuple[str, ...], *, everything: bool) -> list[str]:
    """Return the datasets that are to be thinned out."""
    if everything:
        raise InvalidInputError(
            "--all keeps nothing", hint="leave out --all, or the --keep options"
        )
    for address in addresses:
        if "@" in address or ":" in address:
            raise InvalidInputError(
                f"versions of a whole dataset are thinned out, not {address!r}",
                hint="leave out the version, or the --keep options",
            )
    return list(dict.fromkeys(addresses))


def _thinned(
    store: Store, names: list[str], rule: Retention
) -> tuple[list[Version], list[tuple[Version, str]]]:
    found = [store.thin(name, rule, dry_run=True) for name in names]
    return [v for each in found for v in each.dropped], [k for each in found for k in each.kept]


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
                hint=f"write {where.dataset}@1 for one version, {where.dataset} --all for all, or "
                f"{where.dataset} --keep-last 10 for all but the last ten",
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


def _tell(
    session: Session,
    versions: list[Version],
    kept: list[tuple[Version, str]],
    *,
    dry_run: bool,
) -> None:
    if session.common.json:
        document = {"dry_run": dry_run, "versions": [version_name(v) for v in versions]}
        reasons = [{**version_name(version), "reason": reason} for version, reason in kept]
        output.document({**document, "kept": reasons} if kept else document)
        return
    for version, reason in [] if session.common.quiet else kept:
        output.line(f"kept {version.dataset}@{version.number}: {reason}")
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
    if kept and not versions:
        output.note("there is nothing to drop")
    elif not dry_run and not session.common.quiet:
        them = "it" if len(versions) == 1 else "them"
        for name in list(dict.fromkeys(version.dataset for version in versions))[:_NAMED]:
            output.note(f"to bring {them} back: {session.common.command('undo', name)}")
        command = session.common.command("gc")
        output.note(f"to free the space, after a day at the earliest: {command}")
