"""`chunkstore run` on this machine: inputs in, the process, outputs out, whatever happens."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chunkstore.testing.trees import tree_state
from tests.cli.conftest import PROGRAM, Ended, Place, begin, end, shell


def summary(ended: Ended) -> dict[str, object]:
    """Return the summary, the last line of stderr."""
    found = json.loads(ended.errors.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def start(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """Start a run whose process says something once it runs."""
    return begin("run", *arguments, **more)


def said(child: subprocess.Popen[bytes]) -> bytes:
    """Return the next line that the process prints."""
    assert child.stdout is not None
    return child.stdout.readline()


def test_from_inputs_to_outputs(stocked: Place) -> None:
    """Inputs are in place, the streams are the process's own, what it leaves is a version."""
    script = "cat; ls in > result/list; cat one.txt >> result/list; echo bad >&2; printf good"
    ended = stocked.start(
        *("run", "--in", "pets@1=in", "--in", "pets@1:notes.txt=one.txt", "--out", "result=found"),
        *("-m", "by run", "--tag", "ok", "sh", "-c", f"mkdir result; {script}"),
        stdin=b"given ",
    )
    assert (ended.status, ended.output) == (0, b"given good")
    assert "bad\n" in ended.errors
    assert "pets@1 " in ended.errors
    assert stocked.well("cat", "found@ok:list").text == "cats\nnotes.txt\nold.txt\none\n"
    assert stocked.well("log", "found", "--json").document["versions"][0]["message"] == "by run"
    stocked.well("pull", "pets@1", "same")
    assert tree_state(stocked.folder / "in") == tree_state(stocked.folder / "same")


def test_only_what_lacks_is_fetched(stocked: Place) -> None:
    """A second run finds its input in place, and an unchanged output makes no version."""
    for reused in (0, 1_024_014):
        ended = stocked.start("run", "--json", "--in", "pets=in", "--out", "pets=copy", "true")
        (given,), (made,) = summary(ended)["inputs"], summary(ended)["outputs"]  # type: ignore[misc]  # lists
        assert (given["target"], given["version"], given["reused_bytes"]) == ("in", 2, reused)
        assert (made["path"], made["unchanged"]) == ("pets", bool(reused))


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_the_status_is_the_process_s(stocked: Place, json: list[str]) -> None:
    """Whatever the process ends with is passed on, 128 + N for a signal, and its output is kept."""
    for number, (script, status) in enumerate(
        {"exit 7": 7, "kill -9 $$": 137, "exit 4": 4}.items()
    ):
        arguments = ["run", *json, "--out", f"out{number}=kept{number}", "--tag", "good"]
        command = (
            f"mkdir out{number}; echo {number} > out{number}/a; printf x; printf y >&2; {script}"
        )
        ended = stocked.start(*arguments, "sh", "-c", command)
        assert (ended.status, ended.output) == (status, b"x")
        assert stocked.well("cat", f"kept{number}:a").text == f"{number}\n"
        assert stocked.run("ls", f"kept{number}@good").status == 4  # it was not good
        if json:
            assert (summary(ended)["process"], summary(ended)["status"]) == (status, status)
        else:
            assert f"ended with status {status}" in ended.errors
        ended = stocked.start(
            "run", "--discard-on-failure", "--out", "out0=none", "sh", "-c", script
        )
        assert ended.status == status
        assert stocked.run("log", "none").status == 4


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (4, ["--in", "pets@7=in"]),
        (4, ["--in", "nothing=in"]),
        (4, ["--in", "pets=in", "--in", "pets:none=in2"]),
        (4, ["--in", "pets=in", "--workdir", "none"]),
        (2, ["--in", "pets="]),
        (2, ["--in", "pets"]),
        (2, ["--in", "Pets=in"]),
        (2, ["--out", "out"]),
        (2, ["--out", "out=Bad name"]),
        (2, ["--out", "out=pets@2"]),
        (2, ["--out", "a=pets", "--out", "b=pets"]),
        (2, ["--out", "a=pets:../up"]),
        (2, ["--out", "a=pets", "--tag", "no tag"]),
        (2, ["--out", "a=pets", "-m", "x" * 5000]),
        (2, ["--out", "a=pets", "--engine", "docker"]),
        (2, ["--out", "a=pets", "--create-arg=-t"]),
        (2, ["--out", "a=pets", "--keep-container"]),
        (2, []),
    ],
)
def test_what_is_wrong_is_said_before(stocked: Place, status: int, arguments: list[str]) -> None:
    """What can be known to fail fails before anything runs."""
    stocked.failing(status, "run", *arguments, "--", "touch", "ran")
    assert not (stocked.folder / "ran").exists()


def test_programs_that_cannot_be_run(stocked: Place) -> None:
    """A program that is not there, or is none, is a failure of chunkstore's own."""
    assert "to run" in stocked.failing(4, "run", "--in", "pets=in", "nosuchprogram")
    assert not (stocked.folder / "in").exists()
    stocked.failing(2, "run", "--in", "pets=in")
    assert stocked.run("run", "--in", "pets=in", "./in/none").status == 4
    ended = stocked.run("run", "--in", "pets=in", "--json", "./in")
    assert (ended.status, ended.output) == (1, b"")
    assert summary(ended)["code"] == "filesystem"


def test_one_output_of_several_fails(stocked: Place) -> None:
    """An output that is not there keeps no other from being pushed, and is not hidden."""
    outputs = ["--out", "none=first", "--out", "hollow=second", "--out", "pets=third"]
    ended = stocked.start("run", *outputs, "--json", "--", "mkdir", "hollow")
    assert ended.status == 4
    first, second, third = summary(ended)["outputs"]  # type: ignore[misc]  # a list
    assert first["error"]["code"] == "not_found"
    assert (second["files"], third["files"]) == (0, 4)
    assert "error: output none: the command left no 'none'\n" in ended.errors
    assert stocked.well("ls", "second", "-R").output == b""
    ended = stocked.start("run", *outputs, "--", "false")
    assert ended.status == 1
    assert "error: output none: " in ended.errors


def test_a_store_that_is_gone_at_the_end(stocked: Place) -> None:
    """A push that fails after a good run is not hidden, and it is said how to do it again."""
    stocked.file("out/a", "precious")
    outputs = ("--out", "out=kept", "--out", "out/a=one:b c")
    for ending, status in (("true", 4), ("exit 7", 7)):
        script = f"[ -d gone ] || mv store gone; {ending}"
        ended = stocked.start("run", *outputs, "sh", "-c", script)
        assert ended.status == status
        assert "error: output out: no store" in ended.errors
        assert "hint: to push it: chunkstore push out kept\n" in ended.errors
        assert "hint: to push it: chunkstore push out/a 'one:b c'\n" in ended.errors
        (stocked.folder / "gone").rename(stocked.folder / "store")
    other = stocked.folder / "the other"
    stocked.well("init", str(other))
    script = f"mv {shlex.quote(str(other))} gone"
    ended = stocked.start("run", "--store", str(other), "--out", "out=kept", "sh", "-c", script)
    assert ended.status == 4
    (hint,) = re.findall("hint: to push it: (.*)", ended.errors)
    (stocked.folder / "gone").rename(other)
    assert shell(hint).returncode == 0
    assert stocked.well("ls", "--store", str(other)).lines == ["kept"]
    unreadable = stocked.file("out/b")
    script = f"import os; os.unlink({str(unreadable)!r}); os.symlink(b'\\xff', 'out/b')"
    ended = stocked.start("run", "--out", "out=kept", sys.executable, "-c", script)
    assert ended.status in (2, 3)
    assert "hint: to push it: chunkstore push out kept\n" in ended.errors


def test_links_that_lead_out(stocked: Place) -> None:
    """An input that cannot be whole ends it before anything runs, unless all links are wanted."""
    (stocked.folder / "linked").mkdir()
    (stocked.folder / "linked/out").symlink_to("/etc/hostname")
    stocked.well("push", "linked", "linked")
    arguments = ("--in", "linked=in", "--", "touch", "ran")
    assert "out: the link leads out" in stocked.run("run", *arguments).errors
    assert stocked.run("run", *arguments).status == 5
    assert not (stocked.folder / "ran").exists()
    assert stocked.run("run", "--links", "all", *arguments).status == 0


def test_what_a_version_lacks_is_removed_if_asked_for(stocked: Place) -> None:
    """With --delete a target is the version and nothing else; a folder of other data is safe."""
    stocked.well("run", "--in", "pets@1=in", "true")
    stocked.well("run", "--in", "pets=in", "true")
    assert (stocked.folder / "in/old.txt").exists()
    stocked.well("run", "--delete", "--in", "pets=in", "true")
    assert not (stocked.folder / "in/old.txt").exists()
    stocked.file("mine/a")
    stocked.failing(5, "run", "--delete", "--in", "pets=mine", "touch", "ran")
    assert (stocked.folder / "mine/a").exists()
    assert not (stocked.folder / "ran").exists()


def test_where_it_runs_and_with_what(stocked: Place) -> None:
    """Relative paths begin in --workdir; variables, limits and signals are as they were given."""
    (stocked.folder / "job").mkdir()
    stocked.variable("MINE", "1")
    script = (
        "import json, os, resource, signal; print(json.dumps([os.getcwd(), os.environ['MINE'],"
        "os.environ['MORE'], os.environ.get('OPENBLAS_NUM_THREADS'), os.listdir('in'),"
        "resource.getrlimit(resource.RLIMIT_NOFILE)[0], signal.getsignal(signal.SIGTERM)]))"
    )
    ended = stocked.start(
        *("run", "-w", "job", "--in", "pets:cats/kit=in", "--out", "in=again", "-e", "MORE=a=b"),
        *("-e", "MINE", sys.executable, "-c", script),
        preexec_fn=_few_files,
    )
    assert ended.status == 0, ended
    folder, mine, more, threads, files, most, handler = ended.document
    assert (folder, mine, more) == (str(stocked.folder / "job"), "1", "a=b")
    assert (threads, files, most, handler) == (None, ["a.txt"], 200, 0)
    assert stocked.well("ls", "again", "-R").text == "a.txt\n"


def _few_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_a_dry_run_does_nothing(stocked: Place) -> None:
    """A dry run says all, fetches nothing and runs nothing."""
    arguments = ("--in", "pets=in", "--out", "in=again", "-n", "touch", "it ran")
    text = stocked.well("run", *arguments).errors
    assert "pets@2 " in text
    assert " would be in in: 4 files" in text
    assert "would run: touch 'it ran'\n" in text
    assert "in would be pushed to again\n" in text
    assert sorted(path.name for path in stocked.folder.iterdir()) == ["pets", "store"]
    assert summary(stocked.well("run", "--json", *arguments))["process"] is None


def test_quiet(stocked: Place) -> None:
    """With --quiet there is the process's output, and the ids of what it left on stderr."""
    ended = stocked.start("run", "-q", "--in", "pets=in", "--out", "pets=copy", "echo", "hi")
    assert ended.output == b"hi\n"
    assert ended.errors == stocked.well("log", "copy", "-q").text.replace("copy@1 ", "")


# signals

WAITS = "import signal, sys, time; {}; print('on', flush=True); time.sleep(60)"
HANDLES = "signal.signal(signal.{0}, lambda *_: (print('got', flush=True), {1}))"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_signal_is_the_process_s_affair(stocked: Place, name: str) -> None:
    """A signal is passed on; the process decides how it ends, and its output is pushed."""
    script = WAITS.format(HANDLES.format(name, "sys.exit(9)"))
    child = start("--out", "pets=copy", sys.executable, "-c", script)
    assert said(child) == b"on\n"
    child.send_signal(signal.Signals[name])
    ended = end(child)
    assert (ended.status, ended.output) == (9, b"got\n"), ended
    assert stocked.run("ls", "copy").status == 0


def test_the_second_signal_kills(stocked: Place) -> None:
    """A process that does not heed the first signal is killed by the second; output is pushed."""
    child = start(
        "--out", "pets=copy", sys.executable, "-c", WAITS.format(HANDLES.format("SIGTERM", 0))
    )
    said(child)
    child.send_signal(signal.SIGTERM)
    assert said(child) == b"got\n"
    child.send_signal(signal.SIGTERM)
    assert end(child).status == 137
    assert stocked.run("ls", "copy").status == 0


def test_signals_at_random_moments(stocked: Place) -> None:
    """Wherever it is stopped, no process stays, and there is a whole version or none."""
    source = random.Random(3)
    script = "trap 'exit 9' TERM INT; mkdir -p out; date > out/a; echo $$; sleep 0.2 & wait; exit 5"
    begun = time.monotonic()
    assert stocked.start("run", "--in", "pets=warm", "--out", "pets=warm", "true").status == 0
    whole = time.monotonic() - begun + 0.3
    for number in range(8):
        name, status = (("SIGTERM", 143), ("SIGINT", 130))[number % 2]
        arguments = ["--in", f"pets=in{number}", "--out", "out=left"]
        child = start(*arguments, "sh", "-c", script, start_new_session=True)
        time.sleep(whole * (number + source.random()) / 8)
        child.send_signal(signal.Signals[name])
        ended = end(child)
        if ended.never_began:
            assert (ended.status, ended.output) == (1, b""), ended
            continue
        assert ended.status in (5, 9, status, -signal.Signals[name]), ended
        assert "Traceback" not in ended.errors or ended.status < 0
        if ended.status in (5, 9):
            assert stocked.run("ls", "left").status == 0
        elif ended.output:  # the process had run, and its output was not pushed in time
            assert "not pushed: out" in ended.errors
        for line in ended.output.split():
            with pytest.raises(ProcessLookupError):
                os.kill(int(line), 0)
    ended = stocked.start("run", "--out", "out=left", "sh", "-c", script)
    assert (ended.status, stocked.run("ls", "left").status) == (5, 0)


def test_ctrl_c_on_a_terminal_comes_once(stocked: Place) -> None:
    """Ctrl-C on a terminal reaches the process from there, and is not sent a second time."""
    script = (
        "import signal, time; seen = []; signal.signal(2, lambda *_: seen.append(1));"
        "print('on', flush=True); end = time.time() + 2\n"
        "while time.time() < end: time.sleep(0.1)\n"
        "print(len(seen), flush=True)"
    )
    pid, side = pty.fork()
    if not pid:
        os.execv(PROGRAM, [PROGRAM, "run", "--out", "pets=copy", sys.executable, "-c", script])
    shown = b""
    while b"on\r\n" not in shown:
        shown += os.read(side, 1024)
    os.write(side, b"\x03")
    try:
        while block := os.read(side, 1024):
            shown += block
    except OSError:  # the other side is closed
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"\r\n1\r\n" in shown.replace(b"^C", b""), shown
    assert stocked.run("ls", "copy").status == 0
    os.close(side)


def test_nothing_is_left_open(stocked: Place) -> None:
    """The process gets the three streams and no other open file."""
    script = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    ended = stocked.start("run", "--in", "pets=in", sys.executable, "-c", script)
    assert ended.text == "[0, 1, 2]\n"
