"""`chunkstore repair`: mend what can be mended."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from chunkstore.errors import RefusedError
from chunkstore_cli import output
from chunkstore_cli.commands.verify import Patient, tell
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import damage_document, mended_document, repair_summary
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.options import closeness, dry_run, level_of, verb, yes
from chunkstore_cli.progress import VERIFY, watching
from chunkstore_cli.questions import confirm
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.findings import Mended, RepairResult, VerifyResult

_SHOWN = 20


@verb(
    examples="""
    chunkstore repair --dry-run
    chunkstore repair --read-data --from lab2
    chunkstore repair --read-data --from-files ./data --from-files /mnt/old/data
    """
)
@click.argument("addresses", nargs=-1, metavar="[NAME[@VERSION]]...", shell_complete=dataset_names)
@click.option("--from", "source", metavar="STORE", help="Another store that has the same data.")
@click.option(
    "--from-files",
    "files",
    multiple=True,
    type=click.Path(exists=True),
    metavar="FOLDER",
    help="A folder or file with what was pushed; it is cut again. May be repeated.",
)
@closeness
@dry_run
@yes
def repair(
    session: Session,
    addresses: tuple[str, ...],
    source: str | None,
    files: tuple[str, ...],
    quick: bool,
    read_data: bool,
    part: tuple[int, int],
    dry_run: bool,
    yes: bool,
) -> Status | None:
    """Verify the store, or the versions named, and mend what can be mended.

    The index is made right from the packs. What is damaged or missing is fetched from the STORE of
    --from, chunks of files also from the folders of --from-files; what is good in a damaged pack is
    copied out. Says what it would do and asks on a terminal; elsewhere --yes is needed. Nothing is
    filled up, and no pack and no manifest is deleted.

    Without --read-data damage inside of packs is not seen. Ends with status 7 if anything is still
    damaged then, and names the versions and paths. Run again, it goes on.
    """
    common = session.common
    asked = _Asking(quiet=common.json or common.quiet, yes=yes)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(session.open_store())
        other = stack.enter_context(session.open_other(source)) if source else None
        watch = stack.enter_context(watching(common, VERIFY))
        result = store.repair(
            addresses,
            level=level_of(quick, read_data),
            part=part,
            source=other,
            files=files,
            dry_run=dry_run,
            consent=asked,
            progress=Patient(watch),
        )
    if common.json:
        for step in result.mended:
            output.json_line(mended_document(step))
        for damage in result.after.damage:
            output.json_line(damage_document(damage, session.common.command(*damage.mend.split())))
        output.json_line(repair_summary(result, dry_run=dry_run))
    elif common.quiet:
        for damage in result.after.damage:
            output.line(damage.key)
    else:
        _tell(result, dry_run=dry_run, listed=asked.asked)
    return None if result.after.well else Status.DAMAGE


class _Asking:
    """Shows what would be done, and asks whether to do it."""

    def __init__(self, *, quiet: bool, yes: bool) -> None:
        self._quiet = quiet
        self._yes = yes
        self.asked = False

    def __call__(self, found: VerifyResult, steps: Sequence[Mended]) -> bool:
        """Ask.

        Raises:
            RefusedError: the answer is no.
        """
        self.asked = True
        if not self._quiet:
            for damage in found.damage:
                tell(damage)
            _list("to do", steps)
        count = output.count_text(len(steps), "step")
        try:
            confirm(f"mend in {count}?", yes=self._yes, refusal=f"repair would take {count}")
        except RefusedError as refusal:
            refusal.hint = refusal.hint or "look first: the same command with --dry-run"
            raise
        return True


def _list(word: str, steps: Sequence[Mended]) -> None:
    for step in steps[:_SHOWN]:
        output.line(f"{word}: {step.kind} {step.key}: {step.how}")
    if len(steps) > _SHOWN:
        output.line(f"and {len(steps) - _SHOWN} more")


def _tell(result: RepairResult, *, dry_run: bool, listed: bool) -> None:
    if dry_run or not listed:
        for damage in result.before.damage:
            tell(damage)
    if dry_run:
        _list("would do", result.mended)
        left = "nothing is damaged" if result.before.well else _amount(result.before)
        output.line(f"{left}; {output.count_text(len(result.mended), 'step')} would be taken")
        return
    if listed and not result.after.well:
        output.line("still damaged:")
        for damage in result.after.damage:
            tell(damage)
    if result.after.well:
        done = "nothing was damaged" if result.before.well else "all is mended"
    else:
        done = f"not all can be mended: {_amount(result.after)}"
    output.line(
        f"{done}; {output.count_text(result.packs, 'pack')} fetched, "
        f"{output.count_text(result.chunks, 'chunk')} packed again, "
        f"{output.size_text(result.sent_bytes)} written in {result.seconds:.1f} s"
    )
    if not result.after.well:
        output.hint("give another store with --from, or the files with --from-files")


def _amount(found: VerifyResult) -> str:
    things = output.count_text(len(found.damage), "damaged thing")
    return f"{things}, {output.count_text(found.lost_paths, 'path')} lost"
