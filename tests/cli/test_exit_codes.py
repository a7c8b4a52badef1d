"""Exit statuses: the table is complete, and real commands end with each of them."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from chunkstore_cli.exit_codes import STATUS_OF_ERROR, Status, status_of

from chunkstore import errors
from chunkstore.testing.servers import free_ports
from tests.cli.conftest import PROGRAM, Place


def _kinds(kind: type[errors.ChunkstoreError]) -> set[type[errors.ChunkstoreError]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def test_the_table_is_complete() -> None:
    """Every exception of the library has a row of its own, and no row is without one."""
    public = {kind for kind in _kinds(errors.ChunkstoreError) if kind.__module__ == errors.__name__}
    assert set(STATUS_OF_ERROR) == public


def test_every_other_error_ends_as_the_nearest_above() -> None:
    """An exception that is derived elsewhere ends as the one it is derived from."""
    elsewhere = _kinds(errors.ChunkstoreError) - set(STATUS_OF_ERROR)
    for kind in elsewhere:
        near = next(above for above in kind.__mro__ if above in STATUS_OF_ERROR)
        assert status_of(kind.__new__(kind)) == STATUS_OF_ERROR[near]


def test_damage_never_looks_like_a_typing_mistake() -> None:
    """Everything that was promised and lost ends with status 7, and nothing else does."""
    damage = {kind for kind, status in STATUS_OF_ERROR.items() if status == Status.DAMAGE}
    assert damage == _kinds(errors.IntegrityError)


def test_every_status_and_code_is_documented() -> None:
    """The table of the reference has every status, and every code of an error beside its status."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "cli" / "index.md"
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", page.read_text(), re.MULTILINE)
    codes = {int(number): re.findall(r"`(\w+)`", last) for number, last in rows}
    assert set(codes) == set(Status)
    for kind, status in STATUS_OF_ERROR.items():
        assert kind.code in codes[status], kind


def test_0_ok(stocked: Place) -> None:
    """A command that did what was asked ends with 0."""
    assert stocked.start("ls").status == 0


def test_1_failure(stocked: Place) -> None:
    """A failure that no other status names ends with 1."""
    stocked.file("thing")
    assert stocked.start("pull", "pets", "thing").status == 1


def test_2_usage(stocked: Place) -> None:
    """A command that can never work ends with 2, whoever finds that out."""
    for command in (
        ["psuh"],
        ["ls", "--no-such"],
        ["push"],
        ["pull", "Pets"],
        ["ls", "-q", "--json"],
    ):
        assert stocked.start(*command).status == 2


def test_3_some_files_failed(stocked: Place) -> None:
    """Files that were left out end with 3."""
    (stocked.folder / "pets/out").symlink_to("/etc")
    stocked.well("push", "pets", "pets")
    assert stocked.start("pull", "pets", "copy").status == 3


def test_4_not_found(stocked: Place) -> None:
    """A store, dataset, version, path or source that is not there ends with 4."""
    for command in (
        ["ls", "-s", "./nowhere"],
        ["log", "dogs"],
        ["pull", "pets@9"],
        ["cat", "pets:dog"],
        ["push", "nothing", "pets"],
        ["ls", "-s", "lab"],
    ):
        assert stocked.start(*command).status == 4


def test_5_refused(stocked: Place) -> None:
    """What is possible but unsafe as things stand ends with 5."""
    assert stocked.start("init", "./store").status == 5
    assert stocked.start("rm", "pets@1").status == 5


def test_6_unreachable(place: Place) -> None:
    """A storage that does not answer ends with 6 within the deadline, with address and remedy."""
    (port,) = free_ports(1)
    place.variable("MINIO_ACCESS_KEY", "key")
    place.variable("MINIO_SECRET_KEY", "secret-of-mine")
    place.variable("CHUNKSTORE_DEADLINE", "0.3")
    for command in (["ls"], ["init"], ["push", ".", "d"]):
        begun = time.monotonic()
        ended = place.start(*command, "--store", f"s3://bucket/x?endpoint=http://127.0.0.1:{port}")
        assert ended.status == 6, ended
        assert time.monotonic() - begun < 60
        assert ended.output == b""
        assert f"127.0.0.1:{port}" in ended.errors
        assert "hint: check that the storage is up and the address is right" in ended.errors
        assert "secret-of-mine" not in ended.errors


def test_7_damage(stocked: Place) -> None:
    """Damage in the store ends with 7."""
    (stocked.folder / "store/refs/pets").write_bytes(b"nonsense")
    assert stocked.start("ls", "pets").status == 7


def test_8_conflict(stocked: Place) -> None:
    """A push that expects another version than there is ends with 8."""
    stocked.file("pets/more.txt", "more")
    assert stocked.start("push", "pets", "pets", "--expect", "1").status == 8


def test_9_different(stocked: Place) -> None:
    """Differences end with 9, but only with --exit-code."""
    assert stocked.start("diff", "pets@1", "pets@2").status == 0
    assert stocked.start("diff", "pets@1", "pets@2", "--exit-code").status == 9
    assert stocked.start("status", "pets", "pets@1", "--exit-code").status == 9


def _stopped_by(number: signal.Signals) -> int:
    """Stop a push that waits for stdin, and return how it ended."""
    command = [PROGRAM, "push", "-", "log", "--name", "a", "--json"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        child.stdin.write(b"x" * (20 << 20))  # more than a pipe holds: it is at work
        child.send_signal(number)
        return child.wait(60)


def test_130_interrupted(stocked: Place) -> None:
    """Ctrl-C ends with 130."""
    assert _stopped_by(signal.SIGINT) == 130


def test_143_terminated(stocked: Place) -> None:
    """SIGTERM ends with 143."""
    assert _stopped_by(signal.SIGTERM) == 143
