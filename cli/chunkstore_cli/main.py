"""The command `chunkstore`: runs a verb and ends with its exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from chunkstore_cli import output
from chunkstore_cli.common import Common
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.failures import report
from chunkstore_cli.interrupts import catch_signals
from chunkstore_cli.verbs import build

_COMPLETE = "_CHUNKSTORE_COMPLETE"


def main() -> NoReturn:
    """Run the command line of this process."""
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the shell closed it
            stream.reconfigure(errors="backslashreplace")
    catch_signals()
    sys.exit(run(sys.argv[1:]))


def _fill_closed_streams() -> None:
    """Put something harmless where the shell closed a stream, as `>&-` does.

    Otherwise the next file that is opened, perhaps an object of a store, would be stdout.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. Nothing is raised, whatever happens."""
    common = Common()
    try:
        status = _invoke(arguments, common)
        output.flush()
    except output.OutputClosedError:
        return Status.OUTPUT_CLOSED
    except BaseException as error:  # noqa: BLE001  # the boundary: everything becomes a status
        return report(error, common)
    return status


def _invoke(arguments: Sequence[str], common: Common) -> int:
    group = build()
    instruction = os.environ.get(_COMPLETE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(group, {"obj": common}, "chunkstore", _COMPLETE, instruction)
    try:
        with group.make_context("chunkstore", list(arguments), obj=common) as context:
            return int(group.invoke(context) or Status.OK)
    except click.exceptions.NoArgsIsHelpError as error:
        output.notes(error.format_message())
        return Status.USAGE
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError as error:  # click prints the help itself
        output.discard()
        raise output.OutputClosedError from error
