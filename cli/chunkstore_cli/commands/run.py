"""`chunkstore run`: a command between a pull of its inputs and a push of its outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from chunkstore.errors import InvalidInputError
from chunkstore_cli.bindings import parse_input, parse_outputs
from chunkstore_cli.interrupts import hangup_stops
from chunkstore_cli.options import dry_run, links_option, verb
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.restore import LinkPolicy
    from chunkstore_cli.jobs import Site

_OF_CONTAINERS = ("engine", "engine_args", "create_args", "keep_container")
_OF_FOLDERS = ("links", "delete")


@verb(
    examples="""
    chunkstore run --in imagenet@v2=data --out results=job42 -- python train.py data results
    chunkstore run --in imagenet:labels.json=labels.json -- wc -l labels.json
    chunkstore run --image python:3.12 --in imagenet@v2=/in --out /out=job42 -- python train.py
    """
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--in",
    "inputs",
    multiple=True,
    metavar="ADDRESS=TARGET",
    help="Put NAME[@VERSION][:PATH] into TARGET before. May be repeated.",
)
@click.option(
    "--out",
    "outputs",
    multiple=True,
    metavar="PATH=NAME",
    help="Push PATH to the dataset NAME afterwards; a file also to NAME:FILE. May be repeated.",
)
@click.option("-m", "--message", default="", metavar="TEXT", help="What to say of the versions.")
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME",
    help="Name the versions, if the command ended with 0. May be repeated.",
)
@click.option("-w", "--workdir", metavar="FOLDER", help="Where to run; relative paths begin there.")
@click.option(
    "-e",
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Set a variable of the environment. May be repeated.",
)
@click.option(
    "--discard-on-failure", is_flag=True, help="Push nothing if the command does not end with 0."
)
@click.option("--delete", is_flag=True, help="Remove files of targets that the versions lack.")
@links_option
@click.option("--image", metavar="IMAGE", help="Run in a container made of this image.")
@click.option(
    "--engine",
    metavar="COMMAND",
    help="docker, podman or the like. Otherwise CHUNKSTORE_ENGINE, then what is installed.",
)
@click.option(
    "--engine-arg",
    "engine_args",
    multiple=True,
    metavar="ARG",
    help="An argument for every call of the engine. May be repeated.",
)
@click.option(
    "--create-arg",
    "create_args",
    multiple=True,
    metavar="ARG",
    help="An argument for the making of the container, such as '--gpus all'. May be repeated.",
)
@click.option(
    "--keep-container", is_flag=True, help="Leave the container if an output is not pushed."
)
@dry_run
def run(
    session: Session,
    command: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    message: str,
    tags: tuple[str, ...],
    discard_on_failure: bool,
    dry_run: bool,
    image: str | None,
    keep_container: bool,
    **where: Any,
) -> int:
    """Run COMMAND with its inputs pulled before and its outputs pushed when it has ended.

    Of inputs only what TARGET lacks is fetched. stdin, stdout and stderr are the command's own;
    what chunkstore says goes to stderr. Outputs are pushed however the command ends, unless
    --discard-on-failure is given. Signals are passed on to it.

    With --image the command runs in a container of docker or podman, which is made, filled,
    started, emptied and always removed; data are streamed, not staged on this machine's disk.

    The exit status is the command's, 128 + N after signal N. If it was 0, but an output could not
    be pushed, or if something went wrong before it ran, it is that of any verb.
    """
    session.common.stdout_is_taken = True
    _check_options(image)
    if not (inputs or outputs):
        raise InvalidInputError("nothing to bring or to take", hint="give --in, --out or both")
    if not (command or image):
        raise InvalidInputError("no command to run", hint="write it at the end, after --")
    from chunkstore_cli.jobs import Job

    job = Job(
        session,
        inputs=[parse_input(text) for text in inputs],
        outputs=parse_outputs(outputs),
        message=message,
        tags=tags,
        discard_on_failure=discard_on_failure,
        keep_container=keep_container,
    )
    site = _site(session, image, command, **where)
    with hangup_stops():
        return job.foretell(site, command) if dry_run else job.run(site)


def _check_options(image: str | None) -> None:
    """Refuse options that mean nothing here, rather than ignore them."""
    context = click.get_current_context()
    for name in _OF_FOLDERS if image else _OF_CONTAINERS:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "--" + name.removesuffix("s" if name.endswith("args") else "")
            place = "without --image" if image else "with --image"
            raise InvalidInputError(
                f"{option.replace('_', '-')} is only for a run {place}", hint="leave it out"
            )


def _site(
    session: Session,
    image: str | None,
    command: Sequence[str],
    *,
    workdir: str | None,
    variables: Sequence[str],
    delete: bool,
    links: LinkPolicy,
    engine: str | None,
    engine_args: Sequence[str],
    create_args: Sequence[str],
) -> Site:
    """Return where the command runs."""
    if image is None:
        from chunkstore_cli.host import Host

        given = dict(text.split("=", 1) for text in variables if "=" in text)
        environment = {**os.environ, **given}
        return Host(
            command, workdir, environment, common=session.common, links=links, delete=delete
        )
    from chunkstore_cli.container import Container
    from chunkstore_cli.engine import find_engine, split_words

    if image.startswith("-"):
        raise InvalidInputError(f"not an image: {image!r}", hint="give its name")
    return Container(
        find_engine(engine or session.engine, engine_args),
        image,
        command,
        workdir,
        common=session.common,
        more=[*split_words(create_args), *(w for text in variables for w in ("--env", text))],
    )


run.allow_interspersed_args = False  # the options of COMMAND are its own
