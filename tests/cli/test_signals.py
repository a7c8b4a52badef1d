"""Ctrl-C and SIGTERM at random moments of a push and a pull, by real processes."""

from __future__ import annotations

import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.failures import failure_of
from chunkstore_cli.interrupts import Stopped

from chunkstore.testing import servers
from chunkstore.testing.fault_proxy import FaultProxy, fault_proxy
from chunkstore.testing.trees import random_bytes, tree_state
from chunkstore.walk import PART_PREFIX
from tests.cli.conftest import PROGRAM, SECONDS, Ended, Place, begin, end

ROUNDS = 5
FILE = 8 << 20
FILES = 4

HOW_FAR = re.compile(
    r"(interrupted|terminated)"
    r"(: ([\d.]+ (of [\d.]+ )?[KMG]?i?B (stored|in place); )?run the same command to go on)?\n"
)
OURS = re.compile(r'^  File ".*/chunkstore_cli/.*', re.MULTILINE)
FIRST_LINES = re.compile(r'/main\.py", line \d+, in (<module>|main)$')
"""Before the first line of `main` has run nothing can keep Python from telling where it stood."""


@pytest.fixture(params=["folder", "seaweedfs"])
def large(request: pytest.FixtureRequest, place: Place) -> Place:
    """A folder `data` that takes a moment to push, and a store."""
    if request.param == "folder":
        place.variable("CHUNKSTORE_STORE", "./store")
        place.well("init")
    else:
        request.getfixturevalue("bucket")
    for number in range(FILES):
        place.file(f"data/{number}.bin", random_bytes(FILE, number + 100 * len(request.param)))
    return place


def _stop_at(seconds: float, number: signal.Signals, *arguments: str) -> Ended:
    """Run a command and stop it after some seconds, if it takes so long."""
    child = begin(*arguments)
    time.sleep(seconds)
    child.send_signal(number)
    return end(child)


def _moments(whole: float) -> Iterator[tuple[float, signal.Signals, int]]:
    """Yield random moments of a run that takes `whole` seconds, signals and their statuses."""
    source = random.Random(7)
    for number in range(ROUNDS):
        moment = whole * (number + source.random()) / ROUNDS
        yield (moment, *((signal.SIGTERM, 143) if number % 2 else (signal.SIGINT, 130)))


def _check(ended: Ended, status: int) -> None:
    """A command that was stopped says so; one that was quicker is done; or none had begun."""
    if ended.never_began:
        assert (ended.status, ended.output) == (1, b""), ended
        return
    assert ended.status in (0, status, -signal.SIGINT, -signal.SIGTERM), ended
    if ended.status == status:
        assert HOW_FAR.fullmatch(ended.errors), ended
        assert ended.output == b""
    elif ended.status < 0:  # while the interpreter was still loading the first module
        assert ended.output == b""
        assert all(map(FIRST_LINES.search, OURS.findall(ended.errors))), ended
    else:
        assert ended.errors == ""


def test_a_push_is_stopped(large: Place) -> None:
    """A push that is stopped leaves no version and a store that is whole; again, it goes on."""
    begun = time.monotonic()
    large.start("push", "data", "warm")
    whole = time.monotonic() - begun
    for number in range(FILES):
        large.file(f"data/{number}.bin", random_bytes(FILE, number + 1000 * len(str(large.folder))))
    stopped = 0
    for moment, signal_, status in _moments(whole):
        ended = _stop_at(moment, signal_, "push", "data", "stopped")
        _check(ended, status)
        if ended.status == 0:
            break
        stopped += 1
        assert large.run("log", "stopped").status == 4  # not even half a version
        assert large.start("cat", "warm:0.bin", "--range", "0-9").status == 0
    assert stopped
    ended = large.start("push", "data", "stopped")
    assert ended.status == 0, ended
    assert large.start("pull", "stopped@1", "out").status == 0
    assert tree_state(large.folder / "out") == tree_state(large.folder / "data")


def test_a_pull_is_stopped(large: Place) -> None:
    """A pull that is stopped leaves whole files and parts; again, it goes on and leaves none."""
    large.start("push", "data", "pulled")
    begun = time.monotonic()
    large.start("pull", "pulled", "warm")
    whole = time.monotonic() - begun
    wanted = tree_state(large.folder / "data")
    target = large.folder / "out"
    for moment, signal_, status in _moments(whole):
        ended = _stop_at(moment, signal_, "pull", "pulled", "out")
        _check(ended, status)
        there = tree_state(target) if target.exists() else {}
        whole_files = {path: state for path, state in there.items() if PART_PREFIX not in path}
        assert whole_files.items() <= wanted.items()
    ended = large.start("pull", "pulled", "out", "--json")
    assert ended.status == 0, ended
    summary = ended.events[-1]
    assert summary["fetched_bytes"] + summary["reused_bytes"] >= summary["size"]
    assert tree_state(target) == wanted


class _Interrupted:
    """A field that a signal interrupts while its class is made."""

    def __set_name__(self, owner: type, name: str) -> None:
        raise Stopped(Status.TERMINATED)


def test_a_stop_while_a_class_is_made_is_a_stop() -> None:
    """A signal during an import is reported as a stop, however Python wraps it."""
    with pytest.raises((RuntimeError, Stopped)) as raised:
        type("Imported", (), {"field": _Interrupted()})
    failure = failure_of(raised.value)
    assert (failure.status, failure.message) == (Status.TERMINATED, "terminated")


IN_A_FINALIZER = """
import signal, sys, time
from chunkstore_cli.interrupts import Stopped, catch_signals
class Once:
    def __del__(self):
        signal.raise_signal(signal.{})
catch_signals()
try:
    Once()
    time.sleep(60)
except Stopped as stop:
    sys.exit(int(stop.status))
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stop_in_a_finalizer_is_a_stop(name: str, status: int) -> None:
    """Python drops what is raised in a `__del__`; the command ends all the same, without a word."""
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_FINALIZER.format(name)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (status, ""), ended


@pytest.fixture
def proxy(bucket: Place, seaweedfs: servers.Server, shared_url: str) -> Iterator[FaultProxy]:
    """A proxy before the server, through which the default store is reached."""
    with fault_proxy(seaweedfs.port, share=0.0, faults=("refuse",)) as running:
        through = shared_url.replace(seaweedfs.endpoint, running.endpoint)
        bucket.variable("CHUNKSTORE_STORE", through)
        yield running


def _wait_for(condition: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_away(bucket: Place, proxy: FaultProxy, number: signal.Signals) -> None:
    """Who waits for a server that is away waits no longer than until Ctrl-C."""
    for index in range(4):
        bucket.file(f"data/{index}", random_bytes(FILE, int(number) * 10 + index))
    proxy.share = 1.0
    child = begin("ls")
    _wait_for(lambda: proxy.injected["refuse"] >= 2, child)
    child.send_signal(number)
    assert end(child).status == 128 + number
    proxy.share = 0.0
    child = begin("push", "data", f"away-{int(number)}")
    _wait_for(lambda: proxy.requests["PUT"] >= 1, child)
    proxy.share = 1.0
    already = proxy.injected["refuse"]
    _wait_for(lambda: proxy.injected["refuse"] > already, child)
    child.send_signal(number)
    ended = end(child)
    assert ended.status == 128 + number, ended
    assert "run the same command to go on" in ended.errors
    proxy.share = 0.0
    assert bucket.start("push", "data", f"away-{int(number)}").status == 0


def test_the_second_ctrl_c_ends_at_once(bucket: Place, proxy: FaultProxy) -> None:
    """Where the first Ctrl-C has to wait for a server that hangs, the second does not wait."""
    for index in range(6):
        bucket.file(f"data/{index}", random_bytes(FILE, 77 + index))
    child = begin("push", "data", "hung")
    proxy.delay = 40.0
    _wait_for(lambda: sum(proxy.requests.values()) >= 1, child)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    assert end(child, seconds=proxy.delay - 10).status == 130
    proxy.delay = 0.0


def test_on_a_terminal_it_is_said(stocked: Place) -> None:
    """On a terminal Ctrl-C is answered at once, and the cursor comes back."""
    side, other = pty.openpty()
    child = subprocess.Popen(
        [PROGRAM, "push", "-", "log", "--name", "a"],
        stdin=subprocess.PIPE,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    assert child.stdin is not None
    shown, block = b"", random_bytes(1 << 20, 5)
    with child.stdin as stdin:
        while b" sent " not in shown:
            stdin.write(block)
            if select.select([side], [], [], 0.02)[0]:
                shown += os.read(side, 65536)
        child.send_signal(signal.SIGINT)
        try:
            while block := os.read(side, 65536):
                shown += block
        except OSError:  # the child has closed its side
            pass
        assert child.wait(SECONDS) == 130
    os.close(side)
    assert b"stopping; once more ends at once" in shown
    assert b"stored; run the same command to go on" in shown
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h")


def test_a_question_is_stopped(stocked: Place) -> None:
    """Ctrl-C at a question does nothing."""
    side, other = pty.openpty()
    child = subprocess.Popen([PROGRAM, "rm", "pets@1"], stdin=other, stdout=other, stderr=other)
    os.close(other)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(side, 1024)
    time.sleep(0.5)  # until the prompt that was just shown is also listened to
    child.send_signal(signal.SIGINT)
    assert child.wait(SECONDS) == 130
    os.close(side)
    assert len(stocked.well("log", "pets", "-q").lines) == 2
    assert Path("store").is_dir()
