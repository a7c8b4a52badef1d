"""A run without a container: a process of this machine, with inputs and outputs in its folders.

Neighbours: `container` is the same in a container; `interrupts` says which signals are passed on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from chunkstore.errors import FilesystemError, NotFoundError, RefusedError
from chunkstore_cli.allocator import give_back_spans
from chunkstore_cli.bindings import Input, NoOutputError, Output
from chunkstore_cli.common import Common
from chunkstore_cli.descriptors import as_given
from chunkstore_cli.interrupts import passing_on
from chunkstore_cli.progress import PULL, Words
from chunkstore_cli.questions import is_related

if TYPE_CHECKING:
    from chunkstore.events import ProgressCallback
    from chunkstore.restore import LinkPolicy
    from chunkstore.store import Store
    from chunkstore.values import PullResult, PushResult


class Host:
    """This machine; a process runs on it once."""

    coming: Final[Words] = PULL

    def __init__(
        self,
        command: Sequence[str],
        folder: str | None,
        variables: Mapping[str, str],
        *,
        common: Common,
        links: LinkPolicy = "inside",
        delete: bool = False,
    ) -> None:
        """Take what is to be run.

        Args:
            command: the program and its arguments.
            folder: where it runs, and from where relative paths count.
            variables: its environment.
            common: what commands that are told repeat.
            links: which links of inputs are made; as of a pull.
            delete: remove from targets what the versions do not have; as of a pull.

        Raises:
            NotFoundError: there is no such folder, or no such program on the PATH.
        """
        if folder is not None and not os.path.isdir(folder):
            raise NotFoundError(
                f"no folder {folder!r} to run in", hint="make it, or give another --workdir"
            )
        if "/" not in command[0] and not shutil.which(command[0], path=variables.get("PATH")):
            raise _no_program(command[0])
        self._command = command
        self._folder = folder
        self._variables = variables
        self._common = common
        self._links: LinkPolicy = links
        self._delete = delete
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[signal.Signals] = []
        self._signals = 0

    def ready(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: this machine is there."""
        return contextlib.nullcontext()

    def place(self, path: str) -> str:
        """Return a path as seen from the current folder."""
        return os.path.join(self._folder or "", path)

    def bring(
        self, store: Store, wanted: Input, progress: ProgressCallback, *, dry_run: bool = False
    ) -> PullResult:
        """Pull an input, of which only what lacks is fetched.

        Raises:
            RefusedError: what it holds cannot all be made, or a folder of other data would be
                emptied.
            NotFoundError, FilesystemError, IntegrityError, BackendError: as a pull.
        """
        target = self.place(wanted.target)
        if self._delete and not is_related(store, wanted.where, target):
            words = ("pull", "--delete", "--yes", "--links", self._links, str(wanted.where), target)
            raise RefusedError(
                f"{target} has nothing of {wanted.where}, and --delete would remove all its files",
                hint=f"if that is meant: {self._common.command(*words)}",
            )
        give_back_spans()
        return store.pull(
            wanted.where,
            target,
            delete=self._delete,
            links=self._links,
            dry_run=dry_run,
            progress=progress,
        )

    def run(self) -> int:
        """Run the process to its end, and return its exit status, 128 + N after signal N.

        Raises:
            NotFoundError: there is no such program.
            FilesystemError: it cannot be run.
        """
        with passing_on(self._pass_on):
            self._process = self._start()
            for number in self._early:
                self._pass_on(number)
            status = self._process.wait()
        return status if status >= 0 else 128 - status

    def _start(self) -> subprocess.Popen[bytes]:
        name = self._command[0]
        try:
            with as_given():
                return subprocess.Popen(self._command, cwd=self._folder, env=self._variables)
        except FileNotFoundError as error:
            raise _no_program(name) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL
            raise FilesystemError(f"cannot run {name!r}: {error}") from error

    def take(
        self, store: Store, made: Output, progress: ProgressCallback, **options: Any
    ) -> PushResult:
        """Push an output.

        Raises:
            NoOutputError: the process left none.
            And as a push.
        """
        path = self.place(made.path)
        if not os.path.lexists(path):
            raise NoOutputError(f"the command left no {path!r}")
        return store.push(path, made.dataset, name=made.name, progress=progress, **options)

    def rescue(self, made: Output) -> str:
        """Return the command that pushes an output again."""
        return self._common.command("push", self.place(made.path), made.address)

    def leave(self) -> None:
        """Leave everything as it is, which needs nothing here."""

    def _pass_on(self, number: signal.Signals) -> bool:
        """Pass a signal on, unless the terminal has sent it to the process already."""
        process = self._process
        if process is None:  # raising now might leave a process that nobody knows
            self._early.append(number)
            return True
        if process.poll() is not None:
            return False
        if number in (signal.SIGINT, signal.SIGQUIT) and _is_in_foreground():
            return True
        self._signals += number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        process.send_signal(signal.SIGKILL if self._signals > 1 else number)
        return True


def _no_program(name: str) -> NotFoundError:
    return NotFoundError(f"no program {name!r} to run", hint="give its path, or look at PATH")


def _is_in_foreground() -> bool:
    """Whether Ctrl-C on the terminal reaches this process, and so also those that it started."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False
