"""docker or podman, called as the program that it is, with streams on both sides.

Every call is a process in a session of its own, so that Ctrl-C reaches only chunkstore, and none
outlives its block. Neighbour: `container` says what is called.
"""

from __future__ import annotations

import collections
import contextlib
import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, ClassVar, Final

from chunkstore.errors import ChunkstoreError, InvalidInputError, NotFoundError
from chunkstore_cli import output
from chunkstore_cli.interrupts import held_back

_KNOWN: Final = ("docker", "podman")
_PIPE: Final = 1 << 20
_LINES: Final = 20
_LONGEST: Final = 4000
_TOLD: Final = 400  # characters of an error; podman's may have thousands
_GRACE: Final = 5.0  # seconds for a call that is no longer wanted
_PATIENCE: Final = 1.0  # seconds for the last words of a call that has ended


class EngineError(ChunkstoreError):
    """A call of the engine failed."""

    code: ClassVar[str] = "engine"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine.

    Attributes:
        words: the program, and arguments that stand before every command of it.
    """

    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the program is called."""
        return os.path.basename(self.words[0])

    @property
    def is_podman(self) -> bool:
        """Whether it is podman, whatever the program is called.

        Raises:
            EngineError: it cannot be run.
        """
        return self.call("--version").startswith("podman")

    def line(self, *arguments: str) -> str:
        """Return a call as one would type it."""
        return shlex.join([*self.words, *arguments])

    def call(self, *arguments: str, relay: bool = False) -> str:
        """Return what a call prints; with `relay` what it says meanwhile is shown.

        Raises:
            EngineError: it failed.
        """
        with _Call(self, arguments, stdout=subprocess.PIPE, relay=relay) as call:
            assert call.process.stdout is not None
            text = call.process.stdout.read().decode(errors="replace")
            call.finish()
        return text

    @contextlib.contextmanager
    def fed(self, *arguments: str) -> Iterator[IO[bytes]]:
        """Give what a call reads; at the end of the block it has taken all of it.

        Raises:
            EngineError: it failed, or stopped reading.
        """
        with _Call(self, arguments, stdin=subprocess.PIPE) as call:
            assert call.process.stdin is not None
            try:
                yield call.process.stdin
                call.process.stdin.close()
            except BrokenPipeError:
                call.finish()
                raise EngineError(f"{self.line(*arguments)} stopped reading") from None
            call.finish()

    @contextlib.contextmanager
    def beside(self, *arguments: str) -> Iterator[Callable[[], None]]:
        """Have a call run beside the block; give what raises EngineError if it has ended."""
        with _Call(self, arguments) as call:

            def check() -> None:
                if call.process.poll() is not None:
                    call.finish()
                    raise EngineError(f"{self.line(*arguments)} has ended")

            yield check

    @contextlib.contextmanager
    def read(self, *arguments: str) -> Iterator[EngineStream]:
        """Give what a call writes."""
        with _Call(self, arguments, stdout=subprocess.PIPE) as call:
            yield EngineStream(call)

    def leave(self, *arguments: str) -> None:
        """Begin a call and do not wait for it, which may outlive this process."""
        subprocess.Popen(
            [*self.words, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


class _Call:
    """One call; within its block it runs, after it not."""

    def __init__(
        self,
        engine: Engine,
        arguments: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        relay: bool = False,
    ) -> None:
        self._text = f"{engine.name} {arguments[0]}"
        self._relay = relay
        self._said: collections.deque[str] = collections.deque(maxlen=_LINES)
        with contextlib.ExitStack() as undo:
            with held_back():
                self.process = self._start(engine, arguments, stdin, stdout)
                undo.callback(self._end)
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
            undo.pop_all()  # no signal came: from now on the block ends it

    def __enter__(self) -> _Call:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _start(
        self, engine: Engine, arguments: Sequence[str], stdin: int, stdout: int
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*engine.words, *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pipesize=_PIPE,
            )
        except OSError as error:
            raise EngineError(
                f"{engine.words[0]} cannot be run: {error.strerror}", hint="give another --engine"
            ) from error

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what is still buffered
                    stream.close()

    def finish(self) -> None:
        """Wait for the end.

        Raises:
            EngineError: it is not a good one.
        """
        status = self.process.wait()
        if status:
            self._listener.join(_PATIENCE)
            lines = (line.removeprefix("Error: ") for line in self._said if line.strip())
            said = "; ".join(lines) or f"it ended with status {status}"
            raise EngineError(f"{self._text}: {clipped(said)}")

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            while line := stream.readline(_LONGEST):
                if self._relay and self._said:  # the last line may be the error, told by `finish`
                    output.note(self._said[-1])
                self._said.append(line.decode(errors="replace").rstrip())


class EngineStream:
    """What a call writes, as a stream whose end is that of a call that went well.

    Attributes:
        length: bytes that were read.
    """

    def __init__(self, call: _Call) -> None:
        self._call = call
        self.length = 0

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            EngineError: the call failed.
        """
        assert self._call.process.stdout is not None
        data = self._call.process.stdout.read(size)
        self.length += len(data)
        if not data:
            self._call.finish()
        return data


def clipped(text: str) -> str:
    """Return an engine's error no longer than one can read; they end with the cause."""
    return text if len(text) <= _TOLD else f"... {text[-_TOLD:]}"


def find_engine(command: str | None, more: Sequence[str] = ()) -> Engine:
    """Return the engine that `command` is, or the first that is installed.

    Args:
        command: the program, and arguments of its own, as a shell would read them.
        more: arguments for every call of it, each of them as a shell would read it.

    Raises:
        NotFoundError: it is not installed, or none is.
        InvalidInputError: a quotation has no end.
    """
    words, added = split_words([command or ""]), split_words(more)
    if not words:
        words = [name for name in _KNOWN if shutil.which(name)][:1]
    if not words:
        raise NotFoundError(
            "neither docker nor podman is installed", hint="give --engine, or run without --image"
        )
    if shutil.which(words[0]) is None:
        raise NotFoundError(
            f"no program {words[0]!r} to run containers with",
            hint="give --engine docker or --engine podman, or set CHUNKSTORE_ENGINE",
        )
    return Engine((*words, *added))


def split_words(texts: Sequence[str]) -> list[str]:
    """Return the words of all texts, as a shell would read them.

    Raises:
        InvalidInputError: a quotation has no end.
    """
    try:
        return [word for text in texts for word in shlex.split(text)]
    except ValueError as error:
        raise InvalidInputError(
            f"cannot be read as words: {' '.join(texts)!r}: {error}",
            hint="quote as in a shell: --create-arg '--label \"a b\"'",
        ) from error
