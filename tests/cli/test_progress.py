"""Progress: bars on a terminal, lines off it, JSON for programs, nothing for who wants none."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from chunkstore_cli import progress, progress_bars
from chunkstore_cli.common import Common
from chunkstore_cli.progress import PULL, PUSH, STATUS, watching

from chunkstore.events import Item, Notice, Progress
from chunkstore.testing.trees import random_bytes
from tests.cli.conftest import PROGRAM, Place

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HALF = Progress(
    done_bytes=3 << 20, total_bytes=6 << 20, moved_bytes=1 << 20, done_files=2, total_files=4
)


class Terminal:
    """A terminal on which a child writes to stderr, and what it shows."""

    def __init__(self, *arguments: str, **more: Any) -> None:
        self._side, other = pty.openpty()
        variables = {**os.environ, "COLUMNS": "120", "TERM": "xterm-256color"}
        self.child = subprocess.Popen(
            [PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=other,
            env=variables,
            **more,
        )
        os.close(other)

    def shown(self) -> str:
        """Return all that was shown until the child ended."""
        data = b""
        try:
            while block := os.read(self._side, 65536):
                data += block
        except OSError:  # the child has closed its side
            pass
        os.close(self._side)
        assert self.child.stdout is not None
        self.child.stdout.close()
        assert self.child.wait(60) == 0
        return data.decode()


@pytest.fixture
def slow(stocked: Place) -> list[str]:
    """A push from stdin that takes as long as whoever feeds it wants."""
    return ["push", "-", "slow", "--name", "a.bin", "--level", "1"]


def _feed(terminal: Terminal, seconds: float) -> None:
    """Write for some time, then end."""
    assert terminal.child.stdin is not None
    begun, seed = time.monotonic(), 0
    with terminal.child.stdin as stdin:
        while time.monotonic() - begun < seconds:
            seed += 1
            stdin.write(random_bytes(1 << 20, seed))
            time.sleep(0.02)


def test_two_bars_on_a_terminal(slow: list[str]) -> None:
    """A push that takes time shows a bar of what was read and one of what was sent."""
    terminal = Terminal(*slow, stdin=subprocess.PIPE)
    _feed(terminal, 2)
    raw = terminal.shown()
    text = ESCAPES.sub("", raw)
    assert re.search(r" read .*MiB .*[KM]iB/s +\d+ files?", text)
    assert re.search(r" sent .*(B|KiB|MiB) .*B/s", text)
    assert raw.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in raw  # the cursor is back
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h")


@pytest.mark.parametrize("more", [["--no-progress"], ["-q"], ["--json"]])
def test_no_bars_for_who_wants_none(slow: list[str], more: list[str]) -> None:
    """--no-progress, --quiet and --json leave the terminal alone."""
    terminal = Terminal(*slow, *more, stdin=subprocess.PIPE)
    _feed(terminal, 1)
    assert terminal.shown() == ""


def test_what_is_quick_needs_no_bar(stocked: Place) -> None:
    """What is done in a moment shows nothing."""
    assert Terminal("pull", "pets", "out").shown() == ""


def test_what_bars_say(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The bars say amounts of the total, rates, files and the time that is left."""
    monkeypatch.setattr(progress_bars, "PATIENCE", 0.0)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    bars = progress_bars.Bars(PUSH)
    bars.started -= 1
    bars(HALF)
    bars.close()
    text = ESCAPES.sub("", capfd.readouterr().err)
    for part in (" read ", " sent ", "3.0 of 6.0 MiB", "1.0 MiB", "2 files", " left", "MiB/s"):
        assert part in text, part


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (PUSH, "3.0 of 6.0 MiB read, 1.0 MiB sent, 2 files, "),
        (PULL, "3.0 of 6.0 MiB restored, 1.0 MiB fetched, 2 files, "),
        (STATUS, "3.0 of 6.0 MiB read, 2 files, "),
    ],
)
def test_what_lines_say(words: progress.Words, text: str) -> None:
    """A line says what is done of what, what was moved, the files, the rate and what is left."""
    lines = progress.Lines(words)
    lines.started -= 3
    assert lines.text(HALF).startswith(text)
    assert lines.text(HALF).endswith("0:03 left")


def test_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off a terminal lines keep their distance, however often the library reports."""
    lines = progress.Lines(PUSH)
    for _ in range(1000):
        lines(HALF)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    lines(HALF)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_json_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON progress comes at once, then keeps its distance; items all come."""
    lines = progress.JsonLines(PUSH, progress=True)
    for _ in range(1000):
        lines(HALF)
        lines(Item(action="added", path="a", size=1))
    printed = capsys.readouterr().out.splitlines()
    assert sum('"progress"' in line for line in printed) < 1000
    assert sum('"item"' in line for line in printed) == 1000
    assert '"done_bytes": 3145728' in printed[0]


def _choice(common: Common) -> type[progress.Watch]:
    with watching(common, PUSH) as watch:
        return type(watch)


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON goes before quiet things, these before lines; bars need a terminal."""
    assert _choice(Common()) is progress.Lines
    assert _choice(Common(json=True)) is progress.JsonLines
    assert _choice(Common(quiet=True)) is progress.Watch
    assert _choice(Common(no_progress=True)) is progress.Watch
    monkeypatch.setattr("sys.stderr", None)
    assert _choice(Common()) is progress.Lines


@pytest.mark.parametrize("make", [progress.Watch, progress.Lines, progress.Items])
def test_notices_are_never_lost(
    make: Callable[[progress.Words], progress.Watch], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the user must know is told however little progress is wanted."""
    watch = make(PUSH)
    watch(Notice(message="beware", hint="do this"))
    watch(Item(action="left out", path="a", size=0, reason="a socket"))
    assert capsys.readouterr().err == "note: beware\nhint: do this\nleft out: a: a socket\n"


@pytest.mark.parametrize(
    ("words", "last", "note"),
    [
        (PUSH, HALF, "3.0 of 6.0 MiB stored; run the same command to go on"),
        (PULL, HALF, "3.0 of 6.0 MiB in place; run the same command to go on"),
        (PULL, None, "run the same command to go on"),
    ],
)
def test_ctrl_c_says_how_far(words: progress.Words, last: Progress | None, note: str) -> None:
    """Whoever stops a push or pull learns how far it came and how it goes on."""

    def stop() -> None:
        with watching(Common(), words) as watch:
            if last:
                watch(last)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        stop()
    assert stopped.value.__notes__ == [note]
