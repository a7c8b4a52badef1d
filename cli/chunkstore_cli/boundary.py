"""Runs one command: whatever happens in it becomes an exit status here.

Neighbours: `main` calls it for the process; `failures` says what went wrong.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Final

import click

from chunkstore.errors import FilesystemError
from chunkstore_cli import output
from chunkstore_cli.common import Common
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.failures import report
from chunkstore_cli.verbs import build

_COMPLETE: Final = "_CHUNKSTORE_COMPLETE"


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. Nothing is raised, whatever happens."""
    common = Common()
    try:
        status = _invoke(arguments, common)
        output.flush()
    except output.OutputClosedError:
        return Status.OUTPUT_CLOSED
    except BaseException as error:  # noqa: BLE001  # the boundary: everything becomes a status
        status = report(error, common)
        with contextlib.suppress(FilesystemError, output.OutputClosedError):
            output.flush()  # what was printed before
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
