"""`chunkstore pull`: restore a version, or part of it, into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from chunkstore.address import Address, parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.allocator import give_back_spans
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import pull_summary
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.options import dry_run, links_option, path_filters, profile, verb, yes
from chunkstore_cli.profiling import Profiling
from chunkstore_cli.progress import ARCHIVE, PULL, watching
from chunkstore_cli.questions import confirm, is_related
from chunkstore_cli.results import pull_lines
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.restore import LinkPolicy

_FOR_FOLDERS = ("target", "delete", "links", "dry_run", "profile")


@verb(
    examples="""
    chunkstore pull imagenet
    chunkstore pull imagenet@v2 ./data --delete --include 'train/**'
    chunkstore pull imagenet@v2:labels.json ./labels.json
    chunkstore pull --tar - imagenet@v2 | docker cp - box:/in
    """
)
@click.argument("address", shell_complete=dataset_names)
@click.argument("target", required=False, type=click.Path())
@click.option("--delete", is_flag=True, help="Remove files that the version does not have.")
@path_filters
@links_option
@click.option(
    "--tar",
    metavar="FILE",
    type=click.Path(),
    help="Write a tar archive to FILE, - for stdout, instead of files into TARGET.",
)
@dry_run
@profile
@yes
def pull(
    session: Session,
    address: str,
    target: str | None,
    delete: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    links: LinkPolicy,
    tar: str | None,
    dry_run: bool,
    profile: bool,
    yes: bool,
) -> Status | None:
    """Restore ADDRESS, which is NAME[@VERSION][:PATH], into the folder TARGET.

    Without TARGET the last part of the name, or of the path, is used: imagenet/train goes to
    ./train. A single file goes into TARGET if that is a folder, else it is called so.

    Only what the target lacks is fetched, and every byte is verified. A pull that was broken off
    goes on from what is in place when the same command is run again. Files of the target that
    the version does not have stay, unless --delete is given; into a folder that has nothing of the
    version, --delete asks first. What had to be left out is named, and the status is then 3.
    """
    where = parse_address(address)
    if tar is not None:
        _pull_archive(session, where, tar, include, exclude)
        return None
    folder = target or f"./{(where.path or where.dataset).rpartition('/')[2]}"
    profiling = Profiling(session.common, wanted=profile)
    give_back_spans()
    with profiling, session.open_store() as store:
        if delete and not dry_run and not is_related(store, where, folder):
            confirm(
                f"{folder} has nothing of {where}; remove all of its files that are not in it?",
                yes=yes,
                refusal=f"{folder} has nothing of {where}, and --delete would remove all its files",
            )
        with watching(session.common, PULL, items=dry_run) as watch:
            result = store.pull(
                where,
                folder,
                delete=delete,
                include=include,
                exclude=exclude,
                links=links,
                dry_run=dry_run,
                progress=watch,
                profile=profiling.profile,
            )
    if session.common.json:
        output.json_line(pull_summary(result, profiling.report))
    elif session.common.quiet:
        output.line(result.manifest_id.hex())
    else:
        for text in pull_lines(result, f"in {folder}", dry_run=dry_run):
            output.line(text)
    return Status.SOME_FILES_FAILED if result.left_out else None


def _pull_archive(
    session: Session, where: Address, path: str, include: Sequence[str], exclude: Sequence[str]
) -> None:
    """Write an archive; what is said of one on stdout goes to stderr."""
    context = click.get_current_context()
    for name in _FOR_FOLDERS:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "TARGET" if name == "target" else "--" + name.replace("_", "-")
            raise InvalidInputError(
                f"{option} is for a pull into a folder, not for --tar", hint="leave one of them out"
            )
    if path == "-" and session.common.json:
        raise InvalidInputError(
            "stdout cannot have both the archive and JSON", hint="give --tar FILE"
        )
    from chunkstore_cli.archives import pull_archive

    with session.open_store() as store, watching(session.common, ARCHIVE) as watch:
        result = pull_archive(store, where, path, include=include, exclude=exclude, progress=watch)
    if session.common.json:
        output.json_line(pull_summary(result, None))
    elif not session.common.quiet:
        for text in pull_lines(result, "on stdout" if path == "-" else f"in {path}"):
            (output.note if path == "-" else output.line)(text)
    elif path != "-":
        output.line(result.manifest_id.hex())
