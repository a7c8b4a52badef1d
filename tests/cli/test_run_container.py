"""`chunkstore run --image`: the container is filled, started, emptied and removed, always.

What goes wrong is tried with a script in place of an engine, what goes right with podman.
"""

from __future__ import annotations

import os
import random
import re
import signal
import tarfile
import time

import pytest

from tests.cli.conftest import Box, Ended, Place, end, shell
from tests.cli.test_run import said, start, summary
from tests.library.test_tar import member, tar_of

FAKE = r"""#!/bin/sh
# A folder in place of a container. What $FAKE/fails names does not work.
echo "$*" >> "$FAKE/calls"
call=$1
[ "$2" = - ] && call=cp-in
[ "$3" = - ] && call=cp-out
fails=$(cat "$FAKE/fails")
[ "$fails" = "$call" ] && { echo "Error: $call is broken" >&2; exit 125; }
[ "$fails" = "hang-$call" ] && sleep 20
case $call in
create)
    echo "fetching it" >&2; echo "done" >&2
    while [ "$1" != IMAGE ]; do shift; done
    mkdir "$FAKE/box"; printf %s "$4" > "$FAKE/script" ;;
cp-in) tar -C "$FAKE/box" -x ;;
start)
    exec 3<&0
    cd "$FAKE/box"; sh "$FAKE/script" <&3 & echo $! > "$FAKE/pid"
    trap "" TERM INT
    while :; do wait $!; ended=$?; kill -0 $! 2> /dev/null || break; done
    echo $ended > "$FAKE/ended"; exit $ended ;;
container) [ -f "$FAKE/ended" ] && echo "exited $(cat "$FAKE/ended")" || echo "created 0" ;;
cp-out)
    path=${2#*:/}
    [ -f "$FAKE/out.tar" ] && [ "$path" = out ] && exec cat "$FAKE/out.tar"
    [ "$fails" = cut ] && { head -c 700 /dev/zero; echo "Error: cut" >&2; exit 1; }
    tar -C "$FAKE/box" -c "$path" ;;
kill) [ -f "$FAKE/ended" ] && exit 1; kill -s "$3" "$(cat "$FAKE/pid")" ;;
rm) [ -f "$FAKE/pid" ] && kill -s KILL "$(cat "$FAKE/pid")" 2> /dev/null; rm -rf "$FAKE/box" ;;
esac
"""

SCRIPT = "cat in/notes.txt; mkdir out; echo left > out/a; ln out/a out/b; echo more > more"


class Fake:
    """The folder of the script that stands for an engine."""

    def __init__(self, place: Place) -> None:
        self.folder = place.folder.parent / "fake"
        self.folder.mkdir()
        program = self.folder / "engine"
        program.write_text(FAKE)
        program.chmod(0o755)
        place.variable("FAKE", str(self.folder))
        place.variable("CHUNKSTORE_ENGINE", f"{program} --global")
        program.write_text(FAKE.replace('echo "$*"', 'shift; echo "$*"', 1))
        self.fails("nothing")

    def fails(self, call: str) -> None:
        """Have a call fail from now on."""
        (self.folder / "fails").write_text(call)

    @property
    def calls(self) -> list[str]:
        """The calls so far, without names and digits."""
        text = (self.folder / "calls").read_text()
        return re.sub(r"chunkstore-[0-9a-f]{12}", "NAME", text).splitlines()

    @property
    def is_there(self) -> bool:
        """Whether the container is."""
        return (self.folder / "box").exists()


@pytest.fixture
def fake(stocked: Place) -> Fake:
    return Fake(stocked)


def run(place: Place, *arguments: str, script: str = SCRIPT, stdin: bytes = b"") -> Ended:
    """Run a script in a container of the fake engine."""
    more = ("--image", "IMAGE", "--in", "pets=/in", "--out", "/out=left", "--out", "/more=more")
    return place.start("run", *more, *arguments, "--", "sh", "-c", script, stdin=stdin)


def test_the_course(stocked: Place, fake: Fake) -> None:
    """The calls come in their order, with the arguments that were given, and nothing is left."""
    before = sorted(stocked.folder.rglob("*"))
    stocked.variable("TMPDIR", str(stocked.folder.parent / "nowhere"))
    ended = run(stocked, "--create-arg", "--gpus 'a l'", "-w", "/in", "-e", "A=b c", "--tag", "ok")
    assert (ended.status, ended.output) == (0, b"one\ntwo\n")
    assert "fetching it\n" in ended.errors
    assert stocked.well("ls", "left@ok", "-R").lines == ["a", "b"]
    assert stocked.well("cat", "more:more").text == "more\n"
    created, *calls = fake.calls
    start_ = (
        "create --name NAME --interactive --log-driver none --gpus a l --env A=b c --workdir /in"
    )
    assert created.startswith(f"{start_} IMAGE sh -c cat")
    assert calls == [
        "--version",
        "cp - NAME:/",
        "start --attach --interactive NAME",
        "container inspect --format {{.State.Status}} {{.State.ExitCode}} NAME",
        "container inspect --format {{.State.Status}} {{.State.ExitCode}} NAME",
        "cp NAME:/out -",
        "cp NAME:/more -",
        "kill --signal KILL NAME",
        "rm --force --volumes NAME",
    ]
    assert not fake.is_there
    assert {path for path in sorted(stocked.folder.rglob("*")) if "store" not in path.parts} == {
        path for path in before if "store" not in path.parts
    }


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        ("create", 1, "error: engine create: create is broken\n"),
        ("cp-in", 1, "error: engine cp: cp-in is broken\n"),
        ("start", 1, "start is broken"),
        ("container", 1, "error: engine container: container is broken\n"),
        ("cp-out", 4, "error: output /out: the command left none: engine cp: cp-out is broken\n"),
        ("cut", 1, "error: output /out: engine cp: cut\n"),
        ("rm", 0, "warning: the container chunkstore-"),
    ],
)
def test_every_call_that_fails(
    stocked: Place, fake: Fake, call: str, status: int, text: str
) -> None:
    """Whatever call fails, it is said, no output is half there, and the container is removed."""
    fake.fails(call)
    ended = run(stocked)
    assert ended.status == status, ended
    assert text in ended.errors
    assert "Traceback" not in ended.errors
    assert stocked.run("log", "left").status == (0 if call == "rm" else 4)
    assert fake.is_there is (call == "rm")
    if call != "create":
        assert fake.calls[-1].startswith("rm ")
    ended = run(stocked, script="exit 9")
    assert ended.status == (9 if call in ("cp-out", "cut", "rm") else status)


HOSTILE = {
    "up": tar_of((member("out", tarfile.DIRTYPE), b""), (member("out/../../up"), b"")),
    "absolute": tar_of((member("/etc/passwd"), b"")),
    "device": tar_of((member("out/a"), b"1"), (member("out/sda", tarfile.BLKTYPE), b"")),
    "pipe": tar_of((member("out/pipe", tarfile.FIFOTYPE), b"")),
    "two at the top": tar_of((member("out/a"), b"1"), (member("other/a"), b"2")),
    "below a link": tar_of(
        (member("out/l", tarfile.SYMTYPE, linkname="/tmp"), b""), (member("out/l/a"), b"2")
    ),
    "hard link out": tar_of((member("out/l", tarfile.LNKTYPE, linkname="out/../../x"), b"")),
    "no archive": b"x" * 2000,
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_output(stocked: Place, fake: Fake, name: str) -> None:
    """What no version can hold is refused whole and named; other outputs are pushed."""
    (fake.folder / "out.tar").write_bytes(HOSTILE[name])
    ended = run(stocked)
    assert ended.status == 2, ended
    assert "error: output /out: " in ended.errors
    assert stocked.run("log", "left").status == 4
    assert stocked.well("cat", "more:more").text == "more\n"
    assert not fake.is_there


def test_links_out_are_stored_as_links(stocked: Place, fake: Fake) -> None:
    """A link that leads out of an output is never followed; a pull does not make it either."""
    links = "mkdir out; ln -s /etc/passwd out/a; ln -s ../../x out/b; echo x > more"
    assert run(stocked, script=links).status == 0
    found = {line.split()[-1] for line in stocked.well("ls", "left", "-l").lines}
    assert found == {"/etc/passwd", "../../x"}
    assert stocked.run("pull", "left", "pulled").status == 3


def test_names_and_targets(stocked: Place, fake: Fake) -> None:
    """Files and folders of versions go where they are wanted, relative to --workdir."""
    arguments = ["--in", "pets:notes.txt=/deep/er/n.txt", "--in", "pets:notes.txt=/deep/in/"]
    arguments += ["--in", "pets:cats/kit=kit", "--in", "pets@1=/", "--in", "empty=hollow"]
    (stocked.folder / "empty").mkdir()
    stocked.well("push", "empty", "empty")
    ended = stocked.start(
        *("run", "--image", "IMAGE", *arguments, "-w", "/deep/./x/..", "--out", "f=a:b/c.txt"),
        *("--", "sh", "-c", "find . ! -name f \\( -type f -o -empty \\) | LC_ALL=C sort > deep/f"),
    )
    assert ended.status == 0, ended
    assert stocked.well("cat", "a:b/c.txt").lines == [
        *("./cats/kit/a.txt", "./cats/tom.bin", "./deep/er/n.txt", "./deep/hollow"),
        *("./deep/in/notes.txt", "./deep/kit/a.txt", "./notes.txt", "./old.txt"),
    ]
    for bad in (["--in", "pets=in"], ["--out", "out=left"]):
        assert "--workdir" in stocked.failing(2, "run", "--image", "IMAGE", *bad)


def test_what_is_wrong_is_said_before(stocked: Place, fake: Fake) -> None:
    """Options for folders, names that are none and missing inputs end it before it runs."""
    one = ("run", "--image", "IMAGE", "--out", "/out=left")
    stocked.failing(2, *one, "--delete", "true")
    stocked.failing(2, *one, "--links", "all", "true")
    stocked.failing(2, "run", "--image", "--rm", "--out", "/out=left", "true")
    stocked.failing(2, *one, "--create-arg", "'", "true")
    stocked.failing(4, *one, "--in", "pets@7=/in", "true")
    stocked.failing(4, *one, "--in", "pets:none=/in", "true")
    assert not (fake.folder / "calls").exists()
    stocked.failing(4, *one, "--engine", "nosuchengine", "true")
    stocked.variable("PATH", str(stocked.folder))
    stocked.variable("CHUNKSTORE_ENGINE", "")
    assert "neither docker nor podman" in stocked.failing(4, *one, "true")


def test_a_dry_run_makes_no_container(stocked: Place, fake: Fake) -> None:
    """A dry run says what would be done without a call of the engine."""
    ended = run(stocked, "-n")
    assert ended.status == 0
    assert "pets@2 would be in /in: 4 files, 1000.0 KiB\n" in ended.errors
    assert "/out would be pushed to left\n" in ended.errors
    assert not (fake.folder / "calls").exists()
    assert summary(run(stocked, "-n", "--json"))["process"] is None


def test_a_container_that_is_kept(stocked: Place, fake: Fake) -> None:
    """With --keep-container what could not be pushed stays, and the hint pushes it."""
    script = (
        f"{SCRIPT}; [ -d {stocked.folder}/away ] || mv {stocked.folder}/store {stocked.folder}/away"
    )
    named = ("--out", "/more=named:b c")
    for arguments in ([], ["--keep-container"]):
        ended = run(stocked, *named, *arguments, script=script)
        assert ended.status == 4, ended
        assert "error: output /out: no store" in ended.errors
        assert fake.is_there is bool(arguments)
        (stocked.folder / "away").rename(stocked.folder / "store")
    hints = re.findall(r"hint: to push it: (.*)", ended.errors)
    assert len(hints) == 3
    for hint in hints:
        assert shell(hint).returncode == 0, hint
    assert stocked.well("ls", "left", "-R").lines == ["a", "b"]
    assert stocked.well("cat", "more:more").text == "more\n"
    assert stocked.well("cat", "named:b c").text == "more\n"


def test_signals_at_random_moments(stocked: Place, fake: Fake) -> None:
    """Wherever it is stopped, the container is gone afterwards, and no process stays."""
    source = random.Random(5)
    begun = time.monotonic()
    assert run(stocked).status == 0
    whole = time.monotonic() - begun
    for number in range(8):
        name, status = (("SIGTERM", 143), ("SIGINT", 130))[number % 2]
        (fake.folder / "ended").unlink(missing_ok=True)
        (fake.folder / "pid").unlink(missing_ok=True)
        script = "trap 'exit 9' TERM INT; mkdir out; echo > more; sleep 0.3 & wait; exit 5"
        child = start(
            *("--image", "IMAGE", "--in", "pets=/in", "--out", "/out=a", "--out", "/more=b"),
            *("sh", "-c", script),
        )
        time.sleep((whole + 0.2) * (number + source.random()) / 8)
        child.send_signal(signal.Signals[name])
        ended = end(child)
        assert not fake.is_there
        if ended.never_began:
            assert (ended.status, ended.output) == (1, b""), ended
            continue
        assert ended.status in (5, 9, status, -signal.Signals[name]), ended
        assert "Traceback" not in ended.errors or ended.status < 0


def test_a_second_signal_leaves_the_removal_behind(stocked: Place, fake: Fake) -> None:
    """Where removing hangs, the second signal ends it at once; a call to remove outlives it."""
    child = start("--image", "IMAGE", "--out", "/out=a", "sh", "-c", "echo on; exec sleep 60")
    assert said(child) == b"on\n"
    fake.fails("hang-cp-out")
    (fake.folder / "pid").read_text()
    os.kill(int((fake.folder / "pid").read_text()), signal.SIGKILL)
    while not any(call.startswith("cp NAME") for call in fake.calls):
        time.sleep(0.02)
    fake.fails("hang-kill")
    child.send_signal(signal.SIGTERM)
    while not any(call.startswith("kill") for call in fake.calls):
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    ended = end(child)
    assert ended.status == 143, ended
    limit = time.monotonic() + 60
    while fake.is_there:
        assert time.monotonic() < limit
        time.sleep(0.02)


# podman


def test_podman_from_inputs_to_outputs(stocked: Place, box: Box) -> None:
    """In a real container inputs are in place, streams and status pass, outputs are versions."""
    script = (
        "cat; cat /deep/in/notes.txt; mkdir -p /out/hollow; cp -r /deep/in/cats /out;"
        "ln /out/cats/tom.bin /out/hard; ln -s cats /out/soft; echo bad >&2; exit 7"
    )
    ended = stocked.start(
        *("run", "--json", *box.options, "--in", "pets@v2=/deep/in", "--in"),
        *("pets:notes.txt=/deep/n", "--out", "/out=left", "--out", "/deep/n=file:n.txt"),
        *("--out", "/none=none", "--tag", "good", "sh", "-c", script),
        stdin=b"given\n",
    )
    assert (ended.status, ended.output) == (7, b"given\none\ntwo\n"), ended
    assert "bad\n" in ended.errors
    end_ = summary(ended)
    assert (end_["process"], end_["status"]) == (7, 7)
    assert [each.get("error", {}).get("code") for each in end_["outputs"]] == [  # type: ignore[attr-defined]  # a list
        *(None, None, "not_found")
    ]
    names = ["cats/kit/a.txt", "cats/tom.bin", "hard", "hollow/", "soft"]
    assert stocked.well("ls", "left", "-R").lines == names
    hashes = [stocked.well("cat", "-q", name).text for name in ("left:hard", "pets:cats/tom.bin")]
    assert hashes[0] == hashes[1]
    assert stocked.well("cat", "file:n.txt").text == "one\ntwo\n"
    assert box.containers() == []


def test_podman_that_fails(stocked: Place, box: Box) -> None:
    """A missing image, a missing program and a target that is a file end it, and leave nothing."""
    options = [*box.options, "--in", "pets=/in", "--out", "/out=left"]
    ended = stocked.start("run", *options, "--image", "nosuchimage", "ls")
    assert ended.status == 1, ended
    assert "error: podman create: " in ended.errors
    ended = stocked.start("run", *options, "nosuchprogram")
    assert ended.status == 1, ended
    assert "error: podman did not run the container to its end" in ended.errors
    ended = stocked.start("run", *options, "--in", "pets:notes.txt=/bin", "ls")
    assert (ended.status, ended.output) == (1, b""), ended
    assert "error: podman cannot fill the container: " in ended.errors
    assert stocked.run("log", "left").status == 4
    assert box.containers() == []


def test_podman_is_stopped(stocked: Place, box: Box) -> None:
    """SIGTERM reaches the process in the container; the second kills; output is pushed."""
    for number, (action, status) in enumerate({"exit 9": 9, "echo got": 137}.items()):
        script = f"echo x > /out; trap '{action}' TERM; echo on; while :; do sleep 0.1; done"
        child = start(*box.options, "--out", f"/out=left{number}", "sh", "-c", script)
        assert said(child) == b"on\n"
        child.send_signal(signal.SIGTERM)
        if status == 137:
            assert said(child) == b"got\n"
            child.send_signal(signal.SIGTERM)
        ended = end(child)
        assert ended.status == status, ended
        assert stocked.well("cat", f"left{number}:out").text == "x\n"
    child = start(*box.options, "--in", "pets=/in", "--out", "/out=left", "ls", "/in")
    child.send_signal(signal.SIGTERM)
    end(child)
    assert box.containers() == []


def test_podman_by_hand(stocked: Place, box: Box) -> None:
    """A version goes into a container by `pull --tar -`, and comes out by `push --tar -`."""
    podman, create = box.engine, box.create
    made = shell(f"{podman} create {create} {box.image} sh -c 'mkdir /out; cp -r /in /out'")
    name = made.stdout.strip()
    assert made.returncode == 0, made
    try:
        done = shell(
            f"{podman} cp {stocked.folder}/pets {name}:/in && "
            f"chunkstore pull -q pets --tar - | {podman} cp - {name}:/in && "
            f"{podman} start --attach {name} && "
            f"{podman} cp {name}:/out - | chunkstore push --tar --unwrap - left -q"
        )
        assert done.returncode == 0, done
    finally:
        shell(f"{podman} rm --force {name}")
    pets = stocked.well("ls", "pets", "-R").lines
    assert stocked.well("ls", "left", "-R").lines == [f"in/{path}" for path in pets]
