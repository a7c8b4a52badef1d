"""`chunkstore verify`: is everything there, and as it was written?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from chunkstore.events import Event, Notice
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import damage_document, verify_summary
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.options import closeness, level_of, verb
from chunkstore_cli.progress import LINE_SECONDS, VERIFY, Watch, watching
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.findings import Damage, VerifyResult

_SHOWN = 5
_LEVELS = {
    "listing": "packs taken from the index, --read-data reads every byte",
    "directories": "their directories read, --read-data reads every byte",
    "data": "every byte read",
}


@verb(
    examples="""
    chunkstore verify
    chunkstore verify --read-data --part 3/28
    chunkstore verify imagenet@v2 --read-data
    """
)
@click.argument("addresses", nargs=-1, metavar="[NAME[@VERSION]]...", shell_complete=dataset_names)
@closeness
def verify(
    session: Session,
    addresses: tuple[str, ...],
    quick: bool,
    read_data: bool,
    part: tuple[int, int],
) -> Status | None:
    """Check the store, or the versions named, and say what is damaged and which paths that costs.

    Every ref, manifest, page and list is read, each chunk must lie in a pack that is there, and the
    length and directory of each pack must be as the index says. With --read-data every byte is
    read, decompressed and hashed. With --part 3/28 only every 28th pack is looked into, so that 28
    nights cover all; a run that was broken off goes on in the same way, with the parts that lack.

    Nothing is changed, and others may use the store meanwhile. Ends with status 7 if anything is
    damaged, and says which command mends it.
    """
    with session.open_store() as store, watching(session.common, VERIFY) as watch:
        result = store.verify(
            addresses, level=level_of(quick, read_data), part=part, progress=Patient(watch)
        )
    if session.common.json:
        for damage in result.damage:
            output.json_line(damage_document(damage, session.common.command(*damage.mend.split())))
        output.json_line(verify_summary(result))
    elif session.common.quiet:
        for damage in result.damage:
            output.line(damage.key)
    else:
        for damage in result.damage:
            tell(damage)
        output.line(_told(result))
    if not (result.well or session.common.json or session.common.quiet):
        for mend in dict.fromkeys(damage.mend for damage in result.damage):
            output.hint(session.common.command(*mend.split()))
    return None if result.well else Status.DAMAGE


class Patient:
    """Passes events on; notices of damage only where it will be long before all is listed."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, event: Event) -> None:
        """Take one event."""
        late = time.monotonic() - self._watch.started > LINE_SECONDS
        if late or not isinstance(event, Notice):
            self._watch(event)


def tell(damage: Damage) -> None:
    """Print one damaged thing and what it touches."""
    output.line(f"damaged: {damage.problem}")
    if not damage.versions:
        output.line("  no version needs what is damaged")
    for dataset, number, paths in damage.versions[:_SHOWN]:
        output.line(f"  {dataset}@{number} lost {output.count_text(paths, 'path')}")
    if len(damage.versions) > _SHOWN:
        output.line(f"  and {len(damage.versions) - _SHOWN} more versions")
    for path in damage.paths[:_SHOWN]:
        output.line(f"    {path}")
    more = sum(paths for _, _, paths in damage.versions) - min(len(damage.paths), _SHOWN)
    if more > 0:
        output.line(f"    and {more} more")


def _told(result: VerifyResult) -> str:
    """Return the last line."""
    part = "" if result.part == (1, 1) else f" (part {result.part[0]}/{result.part[1]})"
    looked = (
        f"{output.count_text(result.versions, 'version')}, "
        f"{output.count_text(result.files, 'file')}, "
        f"{output.count_text(result.packs, 'pack')}{part}: {_LEVELS[result.level]}"
    )
    if result.well:
        return f"all is well: {looked}"
    things = output.count_text(len(result.damage), "damaged thing")
    return f"{things}, {output.count_text(result.lost_paths, 'path')} lost; {looked}"
