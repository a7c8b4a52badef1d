"""One page tried out: its commands in one shell, its Python in one namespace, in one folder.

Neighbours: `pages` finds the blocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.docs.pages import ENDPOINT, Block, Command, commands

SECONDS = 120.0
"""How long one command may take."""

_PRIVATE = ("CHUNKSTORE_", "_CHUNKSTORE", "AWS_", "MINIO_", "XDG_", "PYTEST_")
_VARIES = re.compile(
    r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{6,}\b"  # ids
    r"|\d+(?:[.,]\d+)*(?: (?:B|KiB|MiB|GiB|TiB)\b)?"  # numbers, and sizes with their unit
)
_HOME = "/home/you"
"""What pages call the home folder; the session's own is shown so. Pages begin in `work` there."""

_SETTLE = """\
. {control}/command </dev/null >{control}/output 2>&1
echo "$?" >{control}/status; env -0 >{control}/environment; pwd >{control}/folder; echo done
"""


class PageError(AssertionError):
    """A block does not do what its page shows."""


class Session:
    """A shell and a namespace in an empty folder; use it as a context manager."""

    def __init__(self, name: str, root: Path, endpoint: str = ENDPOINT) -> None:
        """Take the name for messages, a folder to make others in, and the server's address."""
        self._name = name
        self._endpoint = endpoint
        self._control = root / "control"
        self._home = root / "home"
        self._folder = self._home / "work"
        self._control.mkdir(parents=True)
        self._folder.mkdir(parents=True)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)},
            "HOME": str(self._home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",  # so that output and errors come in the order of a terminal
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
        }
        self._namespace: dict[str, object] = {"__name__": name}
        self._shell: subprocess.Popen[str] | None = None

    def __enter__(self) -> Session:
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._shell is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)  # and what it left in the background
        self._shell.communicate()

    def run(self, block: Block) -> None:
        """Try a block; one in a language that means nothing here is passed over.

        Raises:
            PageError: it does not do what it shows.
        """
        text = block.text.replace(ENDPOINT, self._endpoint)
        block = Block(block.language, text, block.line)
        if block.language == "console":
            for command in commands(block):
                self._command(command)
        elif block.language == "python":
            self._python(block)
        elif block.language in ("json", "toml"):
            self._parse(block)

    def _command(self, command: Command) -> None:
        (self._control / "command").write_text(f"{command.text}\n")
        status = self._settle(command)
        printed = (self._control / "output").read_text(errors="replace")
        output = printed.replace(str(self._home), _HOME).splitlines()
        told = [f"{self._name}:{command.line}: $ {command.text}", "--- it printed:", *output]
        if status != command.status:
            told.insert(1, f"ended with status {status}, not {command.status}")
            raise PageError("\n".join(told))
        if command.output and not matches(command.output, output):
            raise PageError("\n".join([*told, "--- but the page shows:", *command.output]))

    def _settle(self, command: Command) -> int:
        """Let the shell run the command, and take over its folder and variables."""
        assert self._shell is not None
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(_SETTLE.format(control=self._control))
        self._shell.stdin.flush()
        if not _line_comes(self._shell.stdout):
            raise PageError(f"{self._name}:{command.line}: still running: {command.text}")
        if self._shell.stdout.readline() != "done\n":
            raise PageError(f"{self._name}:{command.line}: ended the shell: {command.text}")
        variables = (self._control / "environment").read_text().split("\0")
        self._environment = dict(v.split("=", 1) for v in variables if "=" in v)
        self._folder = Path((self._control / "folder").read_text().rstrip("\n"))
        return int((self._control / "status").read_text())

    def _python(self, block: Block) -> None:
        padded = "\n" * (block.line - 1) + block.text  # so that a traceback has the page's lines
        with self._here():
            try:
                exec(compile(padded, self._name, "exec"), self._namespace)
            except BaseException as error:
                told = traceback.format_exc()
                raise PageError(f"{self._name}:{block.line}: Python raised\n{told}") from error

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        """Give this process the folder and the variables of the shell for a while."""
        variables, folder = dict(os.environ), Path.cwd()
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir(self._folder)
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(variables)

    def _parse(self, block: Block) -> None:
        try:
            if block.language == "toml":
                tomllib.loads(block.text)
            else:
                _parse_json(block.text)
        except ValueError as error:
            raise PageError(f"{self._name}:{block.line}: no {block.language}: {error}") from error


def _parse_json(text: str) -> None:
    """Parse one document, or one on each line."""
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


def _line_comes(stream: IO[str]) -> bool:
    return bool(select.select([stream], [], [], SECONDS)[0])


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether output is as shown, in all but numbers, ids, sizes and the width of gaps.

    A line `...` stands for any lines; `...` within a line for anything in that line.
    """
    pattern = "".join(
        r"(?:[^\n]*\n)*?"
        if line.strip() == "..."
        else ".*".join(re.escape(part) for part in _settled(line).split("...")) + r"\n"
        for line in shown
    )
    return re.fullmatch(pattern, "".join(f"{_settled(line)}\n" for line in printed)) is not None


def _settled(line: str) -> str:
    return " ".join(_VARIES.sub("#", line).split())
