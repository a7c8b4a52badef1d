"""`chunkstore push`: store a folder, a file or stdin as the next version of a dataset."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import click

from chunkstore.errors import FilesystemError, InvalidInputError, NotFoundError
from chunkstore_cli import output
from chunkstore_cli.common import quoted
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import push_summary
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.kinds import pushed_kinds
from chunkstore_cli.options import dry_run, path_filters, profile, verb
from chunkstore_cli.profiling import Profiling
from chunkstore_cli.progress import PUSH, watching
from chunkstore_cli.results import push_lines
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.profile import ProfileReport
    from chunkstore.values import PushResult


@verb(
    examples="""
    chunkstore push ./data imagenet -m "fix labels" --tag v2
    chunkstore push ./data imagenet --exclude '*.tmp' --dry-run
    chunkstore push model.bin models/net
    produce | chunkstore push - logs/job42 --name today.jsonl
    chunkstore push --keep scores.json results/job42:scores/1.json
    docker cp box:/out - | chunkstore push --tar --unwrap - results/job42
    """
)
@click.argument("source", type=click.Path())
@click.argument("dataset", shell_complete=dataset_names)
@click.option("-m", "--message", default="", metavar="TEXT", help="What to say of the version.")
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="Name it. May be repeated.")
@click.option("--name", metavar="PATH", help="Path of a file or of stdin in the version.")
@click.option(
    "--tar", is_flag=True, help="SOURCE is a tar archive; what it holds becomes the version."
)
@click.option(
    "--unwrap", is_flag=True, help="Leave out the one folder in which all of the archive lies."
)
@click.option(
    "--keep", is_flag=True, help="Put the one file beside the others of the latest version."
)
@click.option(
    "--expect",
    metavar="VERSION",
    help="Push only if this is the latest version, 0 if there must be none; else status 8.",
)
@path_filters
@dry_run
@click.option(
    "--skip-unreadable", is_flag=True, help="Push without files that cannot be read, naming them."
)
@click.option("--allow-same", is_flag=True, help="Make a version even where nothing changed.")
@click.option(
    "--level",
    type=click.IntRange(1, 19),
    default=3,
    show_default=True,
    metavar="1-19",
    help="Of zstd: higher is smaller and slower.",
)
@profile
def push(
    session: Session,
    source: str,
    dataset: str,
    message: str,
    tags: tuple[str, ...],
    name: str | None,
    tar: bool,
    unwrap: bool,
    keep: bool,
    expect: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    dry_run: bool,
    skip_unreadable: bool,
    allow_same: bool,
    level: int,
    profile: bool,
) -> Status | None:
    """Store SOURCE, a folder, a file or - for stdin, as the next version of DATASET.

    DATASET may be NAME:PATH for a file or stdin; that is the same as --name PATH.

    Only chunks that the store lacks are sent. A push that was broken off, by Ctrl-C, a lost
    connection or a crash, goes on from what is stored when the same command is run again.

    A folder's .chunkstoreignore files, in the syntax of .gitignore, say what is left out. A push
    that changes nothing makes no version. One that cannot read a file makes none either and
    ends with status 3; so does a dry run that would.
    """
    _check(source, dataset)
    dataset, name = _place(dataset, name)
    profiling = Profiling(session.common, wanted=profile)
    with (
        profiling,
        session.open_store() as store,
        _opened(source, tar=tar) as opened,
        watching(session.common, PUSH, items=dry_run) as watch,
    ):
        result = store.push(
            opened,
            dataset,
            message=message,
            tags=tags,
            name=name,
            tar=tar,
            unwrap=unwrap,
            keep=keep,
            expect=expect,
            include=include,
            exclude=exclude,
            dry_run=dry_run,
            skip_unreadable=skip_unreadable,
            allow_same=allow_same,
            level=level,
            progress=watch,
            profile=profiling.profile,
        )
    _report(session, result, profiling.report, dry_run=dry_run)
    return _foretell(result) if dry_run and not skip_unreadable else None


def _report(
    session: Session, result: PushResult, report: ProfileReport | None, *, dry_run: bool
) -> None:
    if session.common.json:
        output.json_line(push_summary(result, report))
    elif session.common.quiet:
        if result.manifest_id:
            output.line(result.manifest_id.hex())
    else:
        if not result.unchanged and dry_run:
            pushed_kinds(result.stats.kinds)
        for text in push_lines(result, dry_run=dry_run):
            output.line(text)


def _check(source: str, dataset: str) -> None:
    """Meet the two usual slips before anything is opened."""
    if source != "-" and not os.path.lexists(source) and os.path.lexists(dataset):
        raise NotFoundError(
            f"no file or folder {source!r} to push",
            hint=f"the source comes first: push {quoted(dataset)} {quoted(source)}",
        )
    name, at, version = dataset.partition("@")
    if at:
        raise InvalidInputError(
            f"a push cannot choose the version: {dataset!r}",
            hint="it makes the next one; to name that: "
            f"push {quoted(source)} {quoted(name)} --tag {quoted(version)}",
        )


def _place(dataset: str, name: str | None) -> tuple[str, str | None]:
    """Return dataset and path where DATASET may be NAME:PATH."""
    head, colon, path = dataset.partition(":")
    if colon and not path:
        raise InvalidInputError(
            f"no path after the colon in {dataset!r}", hint="leave the colon out for its own name"
        )
    if colon and name is not None:
        raise InvalidInputError(
            f"two names for one file: {path!r} in {dataset!r} and {name!r}",
            hint="leave out --name, or the path after the colon",
        )
    return head, path if colon else name


@contextlib.contextmanager
def _opened(source: str, *, tar: bool) -> Iterator[str | IO[bytes]]:
    """Give what is to be pushed: the path as it is, or a stream of stdin or of an archive."""
    if source == "-":
        yield _stdin()
        return
    if not tar:
        yield source
        return
    with _archive(source) as stream:
        yield stream


def _archive(path: str) -> IO[bytes]:
    """Open a tar archive, which may be a pipe and is read as stdin is."""
    if os.path.isdir(path):
        raise InvalidInputError(
            f"{path!r} is a folder, not a tar archive", hint="push it without --tar"
        )
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no tar archive {path!r} to push", hint="give its path, or - for stdin"
        ) from error
    except OSError as error:
        raise FilesystemError(
            f"cannot read {path!r}: {error.strerror}", hint="give a tar archive, or - for stdin"
        ) from error


def _stdin() -> IO[bytes]:
    """Return stdin without a buffer, whose lock a thread that reads would hold at the end."""
    if sys.stdin is None:  # `<&-`, and `main` has put what is empty in its place
        raise InvalidInputError(
            "stdin is closed: an empty file is not what was meant", hint="pipe something into it"
        )
    if sys.stdin.isatty():
        output.note("reading from the terminal; Ctrl-D ends it")
    return open(0, "rb", buffering=0, closefd=False)


def _foretell(result: PushResult) -> Status | None:
    """Say that the push would fail, and return its status, if files cannot be read."""
    if not result.unreadable:
        return None
    output.note(
        f"error: {output.count_text(result.unreadable, 'file')} cannot be read; "
        "this push would commit nothing"
    )
    output.hint("mend them, exclude them, or push without them by --skip-unreadable")
    return Status.SOME_FILES_FAILED
