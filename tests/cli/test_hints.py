"""Commands that a hint names can be pasted into a shell, and mean the store that was given."""

from __future__ import annotations

import os
import re
import shutil
import stat

import pytest
from chunkstore_cli.common import quoted

from tests.cli.conftest import Place, shell

STORE = "./the store's\n100%"


@pytest.fixture
def other(stocked: Place) -> Place:
    """`stocked`, and another store that only --store names, with another dataset `one`."""
    stocked.file("files/it's a file", "something\n")
    stocked.well("init", "--store", STORE)
    stocked.well("push", "files", "one", "--store", STORE)
    stocked.well("push", "pets", "one", "--store", STORE)
    return stocked


def command_in(said: str) -> str:
    """Return the command at the end of a line."""
    (command,) = re.findall(r"(?:hint|back|say)?: .*?(chunkstore .*)", said)
    return str(command)


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["stat", "one@1:it's a file"], 2, "it's a file"),
        (["undo", "one@latest"], 2, "MESSAGE"),
        (["cat", "one@1"], 2, "it's a file"),
        (["tag", "one@1"], 2, "one@name is version 1"),
        (["rm", "one@1", "--yes"], 0, "one@1"),
        (["run", "--in", "one@1=pets", "--delete", "true"], 5, "one@1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_hints_mean_the_store_that_was_given(
    other: Place, arguments: list[str], status: int, shown: str
) -> None:
    """Whatever stands in its name; the default store is not touched and not shown."""
    verb, *words = arguments
    ended = other.run(verb, "--store", STORE, *words)
    assert ended.status == status, ended
    lines = [line for line in ended.errors.splitlines() if "chunkstore " in line]
    done = shell(command_in(lines[0]).replace(" NAME ", " name "))
    assert done.returncode == 0, (lines, done)
    assert shown in done.stdout


def test_a_hint_for_each_dataset_that_lost_versions(other: Place) -> None:
    """`rm` says how those of every dataset come back."""
    other.well("push", "files", "two", "--store", STORE)
    ended = other.well("rm", "--store", STORE, "--yes", "one@1", "two@1")
    back = [command_in(line) for line in ended.errors.splitlines() if "back: " in line]
    assert len(back) == 2
    for command in back:
        assert shell(command).returncode == 0
    for name in ("one@1", "two@1"):
        other.well("ls", "--store", STORE, name)


def test_the_command_that_mends(other: Place) -> None:
    """`verify` says it whole, in JSON too."""
    shutil.rmtree(other.folder / STORE / "index")
    ended = other.run("verify", "--store", STORE)
    command = command_in(ended.errors)
    (damage, _) = other.run("verify", "--store", STORE, "--json", "--no-progress").events
    assert damage["mend"] == command
    assert shell(f"{command} --yes").returncode == 0
    other.well("verify", "--store", STORE)


def test_words_of_a_shell() -> None:
    """Every word comes back from bash as the bytes that it was, however it looks."""
    words = ["", "a b", "it's", "$x`y`", "a\nb\t\x1b[0m'\\", "\u202eé", os.fsdecode(b"\xff'\\x41")]
    done = shell(f"printf '%s\\0' {' '.join(map(quoted, words))} | od -An -v -tx1").stdout
    assert bytes.fromhex(done).split(b"\0")[:-1] == [*map(os.fsencode, words)]


def test_a_settings_file_that_cannot_be_read(place: Place) -> None:
    """It is named, and what to do."""
    (place.folder / "chunkstore.toml").mkdir()
    assert "./chunkstore.toml: Is a directory\nhint: make it" in place.failing(1, "ls")


def test_a_settings_file_that_is_no_file(place: Place) -> None:
    """It may be read, as /dev/null is by who wants none; it is never replaced, nor read forever."""
    try:
        os.mknod(place.config, 0o600 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null
    except PermissionError:
        pytest.skip("making devices takes root")
    place.well("remote", "list")
    assert "it is no file" in place.failing(1, "remote", "add", "lab", "./store")
    assert place.config.is_char_device()
    place.config.unlink()
    os.mknod(place.config, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # as /dev/zero
    assert "too long" in place.failing(2, "remote", "list")
