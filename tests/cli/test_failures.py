"""How errors are told: with a hint, without a traceback, and with one under --debug."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from chunkstore_cli.failures import failure_of

from chunkstore import errors
from tests.cli.conftest import Place, shell

FAILURES = [
    ["ls", "nothing"],
    ["ls", "--store", "./nowhere"],
    ["psuh"],
    ["push"],
    ["push", "nothing", "pets"],
    ["init", "./store"],
    ["rm", "pets@1"],
    ["tag", "pets", "latest"],
    ["cat", "pets:nothing"],
    ["remote", "remove", "lab"],
    ["push", "pets", "pets", "--expect", "1", "--allow-same"],
]


@pytest.mark.parametrize("command", FAILURES, ids=" ".join)
def test_a_traceback_only_with_debug(stocked: Place, command: list[str]) -> None:
    """An error is told in a sentence with a remedy; --debug adds where it came from."""
    ended = stocked.run(*command)
    assert ended.status != 0
    assert "Traceback" not in ended.errors
    assert ended.errors.startswith("error: ")
    assert "\nhint: " in ended.errors
    debug = stocked.run("--debug", *command)
    assert debug.status == ended.status
    assert "Traceback (most recent call last)" in debug.errors
    assert debug.errors.endswith(ended.errors)


def test_every_kind_of_error_is_told(place: Place) -> None:
    """Whatever is raised gets a message and a code; what nobody foresaw asks for a report."""
    assert failure_of(errors.NotFoundError("gone", hint="look")).hint == "look"
    assert failure_of(click.FileError("x", "bad")).status == 1
    assert failure_of(OSError(28, "No space left on device", "/x")).message == (
        "/x: No space left on device"
    )
    bug = failure_of(ZeroDivisionError("division by zero"))
    assert (bug.status, bug.code) == (1, "bug")
    assert "--debug" in str(bug.hint)


def test_a_bug_is_no_traceback_either(stocked: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody foresaw is told as a bug, and ends with 1."""
    from chunkstore.store import Store

    def broken(_self: Store, _prefix: str = "") -> list[str]:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Store, "datasets", broken)
    ended = stocked.run("ls")
    assert ended.status == 1
    assert ended.errors == (
        "error: unexpected ZeroDivisionError: division by zero\n"
        "hint: this is a bug: run the same command with --debug and report what it prints\n"
    )


def test_a_folder_that_is_gone_under_the_command(stocked: Place) -> None:
    """It is said, not that some file is not there."""
    done = shell("mkdir gone && cd gone && rmdir ../gone && chunkstore ls --store ./x")
    assert done.returncode == 1
    assert "error: the current folder is gone\n" in done.stderr


def test_debug_shows_what_the_library_logs(stocked: Place) -> None:
    """With --debug what the library logs goes to stderr; stdout stays as it is."""
    plain = stocked.well("ls", "pets")
    assert stocked.well("--debug", "ls", "pets").output == plain.output


def test_the_library_never_prints() -> None:
    """No module of the library writes to stdout or stderr, or ends the process."""
    root = Path(str(importlib.import_module("chunkstore").__file__)).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "sys.exit", "os._exit"), path


def test_as_a_module() -> None:
    """A command that fails before it begins, by an interpreter without it, says nothing odd."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from chunkstore_cli.main import main; main()", "x"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such verb: 'x'.")
