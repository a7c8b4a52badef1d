"""The command as a whole: help, version, start-up, and the pages that document it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from chunkstore_cli.verbs import SECTIONS, build

from chunkstore import __version__
from tests.cli.conftest import PROGRAM, Place

VERBS = [name for verbs in SECTIONS.values() for name in verbs]
PAGES = Path(__file__).parents[2] / "docs" / "reference" / "cli"
HEAVY = ("numpy", "minio", "rich", "pathspec", "fastcdc", "zstandard", "chunkstore.store")


def _commands(name: str) -> list[click.Command]:
    """Return a verb and the verbs below it."""
    command = build().get_command(click.Context(build()), name)
    assert command is not None
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    return [command, *below]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["push", "--help"], ["psuh"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help, version and usage errors never import what only the work itself needs."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", PROGRAM, *arguments], capture_output=True, text=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "chunkstore_cli.main" in imported
    assert not {name for name in imported if name.startswith(HEAVY)}


def test_help_lists_every_verb(place: Place) -> None:
    """`chunkstore --help` names every verb and the first steps."""
    text = place.well("--help").text
    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert "chunkstore init ./store" in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there(place: Place, verb: str) -> None:
    """Every verb in the table has a module, a help that says what it does, and examples."""
    text = place.well(verb, "--help").text
    assert text.startswith(f"Usage: chunkstore {verb}")
    assert "--json" in text
    assert "--debug" in text


def test_every_module_is_a_verb() -> None:
    """No module of a verb is missing from the table."""
    folder = Path(str(importlib.import_module("chunkstore_cli.commands").__file__)).parent
    assert sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__") == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(verb: str) -> None:
    """Every option has a help, and its verb's page names it exactly."""
    page = (PAGES / f"{verb}.md").read_text()
    for command in _commands(verb):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name
                missing = [name for name in parameter.opts if f"`{name}" not in page]
                shared = "[options of every verb](index.md#options-of-every-verb)" in page
                assert not missing or (shared and parameter.expose_value is False), missing


def test_shared_options_are_explained_once() -> None:
    """The options of every verb stand in the index of the reference."""
    page = (PAGES / "index.md").read_text()
    for parameter in build().params:
        for name in parameter.opts:
            assert f"`{name}" in page or name in ("--version", "--help")


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_long_verbs_say_how_to_resume(place: Place, verb: str) -> None:
    """The help of what may take long says that resuming is the same command again."""
    assert "when the same command is run again" in " ".join(place.well(verb, "-h").text.split())


def test_version(place: Place) -> None:
    """`--version` prints the library's version."""
    assert place.well("--version").text == f"chunkstore {__version__}\n"


def test_options_stand_before_or_after_the_verb(stocked: Place) -> None:
    """The options of every verb mean the same before the verb and after it."""
    assert stocked.well("--json", "ls").document == stocked.well("ls", "--json").document
    before = stocked.run("--store", "./nowhere", "ls")
    assert before == stocked.run("ls", "--store", "./nowhere")
    assert before.status == 4


def test_completion(place: Place) -> None:
    """`completion` prints a script for each shell, and the script's question is answered."""
    for shell in ("bash", "zsh", "fish"):
        script = place.well("completion", shell).text
        assert "_CHUNKSTORE_COMPLETE" in script
        assert place.well("completion", shell, "--json").document["script"] + "\n" in script + "\n"
    place.variable("_CHUNKSTORE_COMPLETE", "bash_complete")
    place.variable("COMP_WORDS", "chunkstore pu")
    place.variable("COMP_CWORD", "1")
    assert place.run().lines == ["plain,push", "plain,pull"]


def test_only_the_boundary_catches_everything() -> None:
    """Broad exception handlers stand in `boundary` alone; nothing else can swallow an error."""
    root = Path(str(importlib.import_module("chunkstore_cli").__file__)).parent
    broad = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                names = ast.unparse(node.type) if node.type else "everything"
                if names in ("everything", "Exception", "BaseException"):
                    broad.append(path.name)
    assert broad == ["boundary.py"]
