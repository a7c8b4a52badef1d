"""The test of success: 500 MB are pushed, processed by `run` and come back, as a person would.

Once on this machine, once in a real container; with bars on a terminal and in little memory.
"""

from __future__ import annotations

import hashlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.bench_memory import CHILD
from tests.cli.conftest import PROGRAM, Box, Place
from tests.cli.test_progress import ESCAPES

SIZE = 500 << 20
MOST = 256 << 20  # as of every push


def on_terminal(folder: Path, *arguments: str) -> tuple[int, str, int]:
    """Run on a terminal; return the status, what is shown and the peak of memory in bytes.

    The process tells its peak itself, in `folder`: what the kernel tells the parent is at least
    what that had when it forked.
    """
    report = folder / "peak"
    pid, side = pty.fork()
    if not pid:
        os.environ.update(COLUMNS="120", TERM="xterm-256color")
        os.execv(sys.executable, [sys.executable, "-c", CHILD, str(report), *arguments])
    shown = b""
    try:
        while block := os.read(side, 65536):
            shown += block
    except OSError:  # the other side is closed
        pass
    _, status = os.waitpid(pid, 0)
    os.close(side)
    text = ESCAPES.sub("", shown.decode())
    return os.waitstatus_to_exitcode(status), text, int(report.read_text().split()[0])


@pytest.fixture
def large(stocked: Place) -> str:
    """The dataset `large`, of one file of zeros, pushed on a terminal; its SHA-256."""
    place, path = stocked, stocked.folder / "large_test.dat"
    temporary = place.folder.parent / "tmp"
    temporary.mkdir()
    place.variable("TMPDIR", str(temporary))
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={path}", "bs=1M", "count=500"], check=True, capture_output=True
    )
    status, shown, peak = on_terminal(temporary.parent, "push", "large_test.dat", "large")
    assert (status, peak < MOST) == (0, True), (shown, peak)
    check_bars(shown, "read")
    path.unlink()
    digest = hashlib.sha256()
    for _ in range(500):
        digest.update(bytes(1 << 20))
    return digest.hexdigest()


def check_bars(shown: str, *words: str) -> None:
    """There was a bar for each transfer, in their order, but where it was over at once."""
    seconds = [float(took) for took in re.findall(r" in ([\d.]+) s\r", shown)]
    for word, took in zip(words, seconds, strict=True):
        assert took < 0.8 or re.search(rf"\b{word} .*MiB", shown), shown


def check(place: Place, expected: str, bars: tuple[str, str], *arguments: str) -> None:
    """Run a job on `large` and hold what it is told, what it leaves and what stays behind."""
    status, shown, peak = on_terminal(place.folder.parent, "run", *arguments)
    assert status == 0, shown
    assert expected in shown  # what the process printed
    check_bars(shown, *bars)
    sys.stdout.write(f"\npeak of {arguments[0]}: {peak / 1e6:.0f} MB\n")
    assert peak < MOST
    assert place.well("cat", "result:sum").text.split()[0] == expected
    done = subprocess.run(
        f"{PROGRAM} cat result:large.dat | sha256sum", shell=True, capture_output=True, text=True
    )
    assert done.stdout.split()[0] == expected
    assert place.well("stat", "result", "--json").document["size"] > SIZE
    assert [*Path(os.environ["TMPDIR"]).iterdir()] == []


def test_on_this_machine(stocked: Place, large: str) -> None:
    """500 MB go in, are processed and come out: bars, checksums, little memory, nothing left."""
    script = "mkdir out; sha256sum data/*.dat | tee out/sum; cp data/*.dat out/large.dat"
    arguments = ("--in", "large=data", "--out", "out=result", "--", "sh", "-c", script)
    check(stocked, large, ("restored", "read"), *arguments)


def test_in_a_container(stocked: Place, box: Box, large: str) -> None:
    """The same in a container; nothing of it is on this machine's disk, and it is gone."""
    before = sorted(path.name for path in stocked.folder.iterdir())
    script = "mkdir /out; sha256sum /in/*.dat | tee /out/sum; mv /in/*.dat /out/large.dat"
    arguments = ("--in", "large=/in", "--out", "/out=result", "--", "sh", "-c", script)
    check(stocked, large, ("written", "read"), *box.options, *arguments)
    assert sorted(path.name for path in stocked.folder.iterdir()) == before
    assert box.containers() == []
