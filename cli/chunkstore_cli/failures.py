"""What went wrong, for people and for programs: the one place where exceptions become exits."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chunkstore.errors import ChunkstoreError, FilesystemError
from chunkstore_cli import output
from chunkstore_cli.exit_codes import Status, status_of
from chunkstore_cli.interrupts import Stopped

if TYPE_CHECKING:
    from chunkstore_cli.common import Common


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command ends.

    Attributes:
        status: the exit status.
        code: a stable word for programs.
        message: what failed.
        hint: what to do next.
        label: the word before the message.
    """

    status: Status
    code: str
    message: str
    hint: str | None = None
    label: str = "error: "

    @property
    def document(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "type": "error",
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "status": self.status,
        }


def failure_of(error: BaseException) -> Failure:
    """Return what is to be said of any exception that ends a command."""
    error = _stop_within(error) or error
    if isinstance(error, ChunkstoreError):
        return Failure(status_of(error), error.code, error.message, error.hint)
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return Failure(Status.FAILURE, "error", error.format_message())
    if isinstance(error, KeyboardInterrupt | click.Abort):
        status = error.status if isinstance(error, Stopped) else Status.INTERRUPTED
        word = "terminated" if status == Status.TERMINATED else "interrupted"
        notes = getattr(error, "__notes__", [])
        return Failure(status, "interrupted", ": ".join([word, *notes]), label="")
    if isinstance(error, OSError):
        return Failure(Status.FAILURE, "os_error", _os_error(error))
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        return Failure(
            Status.FAILURE,
            "locale",
            f"the locale has no file names such as {error.object!r}: they are {error.encoding}",
            "set PYTHONUTF8=1, or a locale of UTF-8 such as LC_ALL=C.UTF-8",
        )
    return Failure(
        Status.FAILURE,
        "bug",
        f"unexpected {type(error).__name__}: {error}",
        "this is a bug: run the same command with --debug and report what it prints",
    )


def _stop_within(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the stop that another exception was raised from.

    A signal may come while a module is imported, and up to Python 3.11 whatever is raised while
    a class takes its fields comes out as a RuntimeError from it.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


def report(error: BaseException, common: Common) -> Status:
    """Say why the command ends and return its exit status."""
    failure = failure_of(error)
    if common.debug:
        import traceback

        output.notes("".join(traceback.format_exception(error)))
    if common.stdout_is_taken:
        tell(failure)
        if common.json:
            output.json_note(failure.document)
        return failure.status
    if common.json:
        _print_json(failure.document)
    tell(failure)
    return failure.status


def tell(failure: Failure) -> None:
    """Say on stderr what failed and what to do next."""
    output.note(failure.label + failure.message)
    output.hint(failure.hint)


def _print_json(document: dict[str, Any]) -> None:
    with contextlib.suppress(FilesystemError, output.OutputClosedError):  # stderr has it too
        output.json_line(document)


def _usage(error: click.UsageError) -> Failure:
    hint = None
    if error.ctx is not None:
        usage = " ".join(error.ctx.get_usage().split()).removeprefix("Usage: ")
        hint = f"usage: {usage}; '{error.ctx.command_path} --help' says more"
    return Failure(Status.USAGE, "usage", error.format_message(), hint)


def _os_error(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not error.filename:
        try:
            os.getcwd()
        except FileNotFoundError:
            return "the current folder is gone"
    what = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {what}" if error.filename else what
