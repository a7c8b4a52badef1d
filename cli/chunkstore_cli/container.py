"""A run in a container: made, filled, started, emptied and removed, whatever happens.

Data go in and out as tar streams; nothing of them is staged on the disk of this machine.
Neighbours: `engine` calls docker or podman, `host` is the same without a container, `archives`
writes the tar that goes in.
"""

from __future__ import annotations

import _thread
import contextlib
import posixpath
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, cast

from chunkstore.errors import ConflictError, InvalidInputError
from chunkstore_cli import output, podman
from chunkstore_cli.archives import Archive
from chunkstore_cli.bindings import Input, NoOutputError, Output
from chunkstore_cli.common import Common
from chunkstore_cli.engine import Engine, EngineError
from chunkstore_cli.interrupts import parting_with, passing_on
from chunkstore_cli.progress import ARCHIVE, Words

if TYPE_CHECKING:
    from chunkstore.events import ProgressCallback
    from chunkstore.store import Store
    from chunkstore.values import PullResult, PushResult

_ATTEMPTS: Final = 3
_AGAIN: Final = 0.2
_RUNNING: Final = ("running", "stopping", "paused")
_ENDED: Final = ("exited", "stopped")


class Container:
    """One container; a process runs in it once."""

    coming: Final[Words] = ARCHIVE

    def __init__(
        self,
        engine: Engine,
        image: str,
        command: Sequence[str],
        folder: str | None,
        *,
        common: Common,
        more: Sequence[str] = (),
    ) -> None:
        """Take what is to be made; nothing is made yet.

        Args:
            engine: what makes it.
            image: what it is made of; the engine may have to fetch it.
            command: what runs in it; nothing for what the image says.
            folder: where it runs, and from where relative paths count.
            common: whether what the engine says is shown; what commands that are told repeat.
            more: arguments for its making.
        """
        self.name = f"chunkstore-{secrets.token_hex(6)}"
        self._engine = engine
        self._image = image
        self._command = command
        self._folder = folder
        self._more = [*more, *(("--workdir", folder) if folder else ())]
        self._common = common
        self._is_made = self._is_left = self._is_gone = False
        self._runs = False
        self._signals = 0

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Have the container within the block, and not after it.

        Raises:
            EngineError: the image is not there, or an argument makes no sense to the engine.
        """
        with parting_with(self._abandon):
            try:
                try:
                    self._create()
                    yield
                finally:
                    self._remove()
            finally:  # the one signal that may have come meanwhile
                self._remove()

    def _create(self) -> None:
        try:
            self._is_made = True  # or may be, where a signal comes while it is made
            self._engine.call(
                "create",
                "--name",
                self.name,
                "--interactive",
                "--log-driver",
                "none",  # what the process prints is not kept on this machine's disk either
                *self._more,
                self._image,
                *self._command,
                relay=not (self._common.quiet or self._common.json),
            )
        except EngineError:
            self._is_made = False
            raise

    def place(self, path: str) -> str:
        """Return a path of the container as a whole one.

        Raises:
            InvalidInputError: it is relative, and no working folder is given.
        """
        whole = posixpath.join(self._folder or "", path)
        if not whole.startswith("/"):
            raise InvalidInputError(
                f"in a container {path!r} is nowhere",
                hint=f"write the whole path, such as /{path}, or give --workdir",
            )
        slash = "/" if path.endswith("/") else ""
        return posixpath.normpath(whole).replace("//", "/").rstrip("/") + slash or "/"

    def bring(self, store: Store, wanted: Input, progress: ProgressCallback) -> PullResult:
        """Put an input into the container; folders that lack are made.

        Raises:
            EngineError: it cannot be put there.
            NotFoundError, IntegrityError, BackendError: as a pull.
        """
        archive = Archive(store, wanted.where, target=self.place(wanted.target))
        with self._filled() as sink:
            return archive.write(sink, progress)

    def _filled(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Give what takes a tar stream that is unpacked in the container."""
        if self._engine.is_podman:
            return podman.filled(self._engine, self.name)
        return self._engine.fed("cp", "-", f"{self.name}:/")

    def foretell(self, store: Store, wanted: Input) -> tuple[int, int]:
        """Return how many files and bytes of an input would be put there."""
        self.place(wanted.target)
        sizes = [entry.size for entry in store.entries(wanted.where)]
        return len(sizes), sum(sizes)

    def run(self) -> int:
        """Run the process to its end, and return its exit status.

        Raises:
            EngineError: it could not be started, or was lost.
        """
        with passing_on(self._pass_on):
            self._runs = True
            try:
                call = (*self._engine.words, "start", "--attach", "--interactive", self.name)
                with subprocess.Popen(call, start_new_session=True) as client:
                    status = client.wait()
                if self._state()[0] in _RUNNING:
                    output.note(f"warning: {self._engine.name} shows no more output; it still runs")
                    self._engine.call("wait", self.name)
            finally:
                self._runs = False
        state, ended = self._state()
        if state in _ENDED:
            return ended
        raise EngineError(
            f"{self._engine.name} did not run the container to its end: it is {state!r}, and "
            f"'{self._engine.name} start' ended with {status}",
            hint="what stands above says why; look at the image and the command",
        )

    def _state(self) -> tuple[str, int]:
        """Return what the container does, and the status of a process that has ended."""
        text = self._engine.call(
            "container", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", self.name
        )
        state, _, ended = text.partition(" ")
        return state, int(ended)

    def take(
        self, store: Store, made: Output, progress: ProgressCallback, **options: Any
    ) -> PushResult:
        """Push an output out of the container.

        Raises:
            NoOutputError: the process left none.
            EngineError: it cannot be read.
            InvalidInputError: it holds what no version can hold, such as devices.
            IntegrityError, BackendError: as a push.
        """
        path = self.place(made.path).rstrip("/")
        for attempt in range(_ATTEMPTS):
            with self._engine.read("cp", f"{self.name}:{path}", "-") as stream:
                try:
                    return store.push(
                        cast("IO[bytes]", stream),
                        made.dataset,
                        name=made.name,
                        tar=True,
                        unwrap=True,
                        progress=progress,
                        **options,
                    )
                except ConflictError:  # what it relied on was removed meanwhile
                    if attempt + 1 == _ATTEMPTS:
                        raise
                except EngineError as error:
                    if stream.length:
                        raise
                    raise NoOutputError(f"the command left none: {error}") from error
        raise AssertionError

    def leave(self) -> None:
        """Have the container stay after its block."""
        self._is_left = True

    def rescue(self, made: Output) -> str:
        """Return the command that pushes an output of a container that stays."""
        path = self.place(made.path).rstrip("/")
        return (
            f"{self._engine.line('cp', f'{self.name}:{path}', '-')} | "
            f"{self._common.command('push', '--tar', '--unwrap', '-', made.address)}"
        )

    # signals and the end

    def _pass_on(self, number: signal.Signals) -> bool:
        if not self._runs:
            return False
        self._signals += number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        name = "KILL" if self._signals > 1 else number.name.removeprefix("SIG")
        _thread.start_new_thread(self._send, (name,))  # a call takes longer than a handler may
        return True

    def _send(self, name: str) -> None:
        """Send a signal as soon as there is a process to take it."""
        while self._runs:
            try:
                self._engine.call("kill", "--signal", name, self.name)
            except EngineError:  # it does not run yet, or no more
                time.sleep(_AGAIN)
            else:
                return

    def _remove(self) -> None:
        if not self._is_made or self._is_left or self._is_gone:
            return
        with contextlib.suppress(EngineError):  # it does not run, as a rule
            self._engine.call("kill", "--signal", "KILL", self.name)
        try:
            self._engine.call("rm", "--force", "--volumes", self.name)
        except EngineError as error:
            output.note(f"warning: the container {self.name} could not be removed: {error}")
            output.hint(self._engine.line("rm", "--force", "--volumes", self.name))
        self._is_gone = True

    def _abandon(self) -> None:
        """Have the container removed by a call that outlives this process."""
        if self._is_made and not self._is_left and not self._is_gone:
            self._engine.leave("rm", "--force", "--volumes", self.name)
