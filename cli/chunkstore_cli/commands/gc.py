"""`chunkstore gc`: delete what no version needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from chunkstore_cli import output
from chunkstore_cli.options import duration_option, retention, retention_of, verb, yes
from chunkstore_cli.output import count_text, size_text
from chunkstore_cli.progress import COLLECTION, watching
from chunkstore_cli.questions import confirm
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.values import GcPlan, GcResult


@verb(
    examples="""
    chunkstore gc
    chunkstore gc --apply
    chunkstore gc --apply --yes --grace 2d --reader-grace 10m
    """
)
@click.option("--apply", is_flag=True, help="Do it; without this the plan is printed.")
@duration_option(
    "--grace",
    default="1d",
    show_default=True,
    help="Leave alone what is younger, such as what a running push has sent.",
)
@duration_option(
    "--reader-grace",
    default="1h",
    show_default=True,
    help="Wait so long before the first deletion, so that running pulls can end.",
)
@retention
@click.option("--force", is_flag=True, help="Do it even where the plan looks like a mistake.")
@yes
def gc(
    session: Session,
    apply: bool,
    grace: int,
    reader_grace: int,
    keep_last: int | None,
    keep_within: int | None,
    keep_tags: tuple[str, ...],
    force: bool,
    yes: bool,
) -> None:
    """Find what no version needs and print what deleting it would free; --apply deletes it.

    Others may push and pull meanwhile. Packs of which half or more is not needed any more are
    packed again. On a terminal --apply asks; elsewhere --yes is needed.

    With --keep-last, --keep-within or --keep-tag old versions of all datasets are dropped first,
    but never the latest, nor what has a tag unless --keep-tag says which tags count. They can be
    brought back like those that 'rm' drops, so that a later run frees their space, or this one
    with --grace 0s.

    A run that was broken off is brought to its end by the next one: run the same command again.
    """
    with session.open_store() as store, watching(session.common, COLLECTION) as watch:

        def ask(plan: GcPlan) -> None:
            watch.close()
            if not (yes or session.common.json or session.common.quiet):
                output.notes("\n".join(_plan_lines(plan, grace)))
            freed = f"free {size_text(plan.freed_bytes)}"
            if plan.dropped:
                freed = f"drop {count_text(len(plan.dropped), 'version')} and {freed}"
            confirm(f"{freed}?", yes=yes, refusal=f"gc would {freed}")

        result = store.gc(
            apply=apply,
            grace=grace,
            reader_grace=reader_grace,
            force=force,
            keep=retention_of(keep_last, keep_within, keep_tags),
            confirm=ask,
            progress=watch,
        )
    _tell(session, result, grace)


def _tell(session: Session, result: GcResult, grace: int) -> None:
    if session.common.json:
        output.json_line(_summary(result))
    elif session.common.quiet:
        freed = result.deleted_bytes - result.copied_bytes
        output.line(str(freed if result.applied else result.plan.freed_bytes))
    elif result.applied:
        for text in _done_lines(result):
            output.line(text)
    else:
        for text in _plan_lines(result.plan, grace):
            output.line(text)
        if result.plan.refusal:
            output.note(f"note: --apply will refuse: {result.plan.refusal}")
            output.hint("if that is right: the same command with --apply --force")
        elif result.plan.nothing and not result.plan.condemned_packs:
            output.note("there is nothing to delete")
            if grace and (result.plan.restorable or result.plan.young_packs):
                output.hint("--grace 0s spares nothing, however young")
        else:
            output.note("nothing was deleted: the same command with --apply does it")


def _plan_lines(plan: GcPlan, grace: int) -> Iterator[str]:
    """Yield what a collection found and would do, a line for each kind of thing."""
    need = "needs" if plan.versions == 1 else "need"
    yield (
        f"{count_text(plan.versions, 'version')} {need} {count_text(plan.live_chunks, 'chunk')}; "
        f"there are {size_text(plan.pack_bytes)} in {count_text(plan.packs, 'pack')}"
    )
    if plan.restorable:
        count = count_text(plan.restorable, "version")
        yield f"keep {count} dropped within {_time_text(grace)}, which can be brought back"
    if plan.dropped:
        names = [f"{name}@{number}" for name, number in plan.dropped[:20]]
        more = [f"{len(plan.dropped) - 20} more"] if len(plan.dropped) > 20 else []
        yield f"drop {count_text(len(plan.dropped), 'version')}: {', '.join(names + more)}"
    if plan.expired:
        yield f"let go {count_text(plan.expired, 'version')} that could be brought back until now"
    if plan.condemned_packs:
        yield f"{count_text(plan.condemned_packs, 'pack')} of a collection that was broken off go"
    if plan.dead_packs:
        packs = count_text(plan.dead_packs, "pack")
        yield f"delete {size_text(plan.dead_bytes)} in {packs} that no version needs"
    if plan.sparse_packs:
        packs = count_text(plan.sparse_packs, "pack")
        yield (
            f"copy about {size_text(plan.copied_bytes)} out of {packs} that are mostly dead, and "
            f"delete {size_text(plan.sparse_bytes)}"
        )
    if plan.manifests:
        yield f"delete {count_text(plan.manifests, 'manifest')} of versions that are gone"
    if plan.young_packs:
        packs = count_text(plan.young_packs, "pack")
        yield (
            f"keep {size_text(plan.young_bytes)} in {packs} that no version needs, but which are "
            f"younger than {_time_text(grace)}"
        )
    if plan.left_packs:
        yield f"leave {count_text(plan.left_packs, 'pack')} to the next run"
    yield f"free about {size_text(plan.freed_bytes)}"


def _done_lines(result: GcResult) -> Iterator[str]:
    if result.finished:
        yield f"deleted {count_text(result.finished, 'pack')} of a collection that was broken off"
    freed = size_text(result.deleted_bytes - result.copied_bytes)
    yield (
        f"freed {freed}: deleted {count_text(result.deleted_packs, 'pack')}, "
        f"{size_text(result.deleted_bytes)}, and "
        f"{count_text(result.deleted_manifests, 'manifest')}; "
        f"copied {size_text(result.copied_bytes)}; in {result.seconds:.1f} s"
    )
    if result.plan.left_packs:
        left = count_text(result.plan.left_packs, "pack")
        yield f"{left} are left for the next run"


def _time_text(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _summary(result: GcResult) -> dict[str, Any]:
    document = asdict(result)
    plan = document.pop("plan")
    seconds = round(document.pop("seconds"), 3)
    freed = {"freed_bytes": result.plan.freed_bytes}
    return {"type": "summary", **document, "seconds": seconds, "plan": {**plan, **freed}}
