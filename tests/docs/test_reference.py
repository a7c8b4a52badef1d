"""The reference is complete, and its tables say what the code does."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
from chunkstore_cli.environment import CONFIG_VARIABLE, SETTINGS
from chunkstore_cli.exit_codes import STATUS_OF_ERROR, Status
from chunkstore_cli.verbs import SECTIONS, build

import chunkstore
from chunkstore import Store
from chunkstore.errors import ChunkstoreError
from tests.cli.conftest import Place, place, stocked
from tests.docs.pages import ROOT

__all__ = ["place", "stocked"]  # fixtures of the command line's tests

REFERENCE = ROOT / "docs" / "reference"
LIBRARY = sorted((REFERENCE / "library").glob("*.md"))
VERBS = [name for verbs in SECTIONS.values() for name in verbs]
METHODS = [
    name
    for name, member in inspect.getmembers(Store)
    if not name.startswith("_") and (callable(member) or isinstance(member, property))
]


def fields_of(kind: object) -> Iterable[str]:
    """Return the fields of a dataclass or named tuple, none of anything else."""
    return getattr(kind, "_fields", getattr(kind, "__dataclass_fields__", ()))


VALUES = [name for name in chunkstore.__all__ if fields_of(getattr(chunkstore, name))]
CLI_CODES = {
    "usage": {Status.USAGE},
    "error": {Status.FAILURE},
    "interrupted": {Status.INTERRUPTED, Status.TERMINATED},
    "engine": {Status.FAILURE},
    "os_error": {Status.FAILURE},
    "locale": {Status.FAILURE},
    "bug": {Status.FAILURE},
}
"""Codes that only the command line has, and the statuses that they end with."""

_ENTRY = re.compile(r"^(?:#+ +`([\w.]+)`.*|\*\*`([\w.]+)`\*\*.*)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


def entries(pages: Iterable[Path]) -> set[str]:
    """Return the names that have a heading of their own, or begin a line in bold."""
    found: set[str] = set()
    for page in pages:
        found |= {one or other for one, other in _ENTRY.findall(page.read_text())}
    return found


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table that follows a heading, the column names left out."""
    text = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line.strip("|") for line in text.splitlines() if line.startswith("|")]
    assert table, f"no table below {heading!r} in {page.name}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in table[2:]]


def codes(text: str) -> list[str]:
    """Return what a text has in code style."""
    return _CODE.findall(text)


def subclasses(kind: type[ChunkstoreError]) -> set[type[ChunkstoreError]]:
    """Return a class of errors and all below it that the library defines."""
    below = {each for child in kind.__subclasses__() for each in subclasses(child)}
    return {each for each in {kind, *below} if each.__module__ == "chunkstore.errors"}


@pytest.mark.parametrize("name", chunkstore.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """Every name of `chunkstore` has an entry in the library's reference."""
    assert name in entries(LIBRARY)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_store_is_documented(name: str) -> None:
    """Every public method and property of Store has an entry, with all of its arguments."""
    page = REFERENCE / "library" / "store.md"
    assert f"Store.{name}" in entries([page])
    member = inspect.getattr_static(Store, name)
    if isinstance(member, property):
        return
    text = page.read_text().partition(f"\n### `Store.{name}`\n")[2].partition("\n### ")[0]
    for argument in inspect.signature(getattr(Store, name)).parameters:
        assert argument == "self" or re.search(rf"\b{argument}\b", text), argument


def test_no_method_is_made_up() -> None:
    """Every entry `Store.x` is a method or property of Store."""
    named = {name.removeprefix("Store.") for name in entries(LIBRARY) if name.startswith("Store.")}
    assert named == set(METHODS)


@pytest.mark.parametrize("name", VALUES)
def test_every_field_is_documented(name: str) -> None:
    """Every field and property of a public value is named in its entry."""
    kind = getattr(chunkstore, name)
    text = "".join(page.read_text() for page in LIBRARY)
    entry = re.split(r"\n#+ ", text.partition(f"\n### `{name}`\n")[2])[0]
    properties = {key for key, value in vars(kind).items() if isinstance(value, property)}
    fields = {*fields_of(kind)} | properties
    missing = [field for field in fields if not re.search(rf"\b{field}\b", entry)]
    assert not missing


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page(verb: str) -> None:
    """Every verb has a page with all parts, and the index leads to it."""
    page = (REFERENCE / "cli" / f"{verb}.md").read_text()
    assert page.startswith(f"# chunkstore {verb}\n\n```text\nchunkstore {verb}")
    for part in ("What it promises", "Options", "JSON", "Exit statuses", "Examples"):
        assert f"\n## {part}\n" in page
    assert "```console" in page
    assert f"[{verb}]({verb}.md)" in (REFERENCE / "cli" / "index.md").read_text()


def keys_of(value: object) -> Iterator[str]:
    """Yield every key of a JSON value, those of the values in it too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


@pytest.mark.parametrize(
    "command",
    [
        "init ./other",
        "remote add lab ./lab --default",
        "remote list",
        "doctor",
        "push ./pets pets -m new --allow-same",
        "pull pets ./out",
        "status ./pets pets@1",
        "run --in pets=out --out pets=again -- true",
        "run --dry-run --in pets=out --out pets=again -- true",
        "cat pets:notes.txt",
        "ls",
        "ls -l",
        "ls pets",
        "log pets",
        "diff pets@1 pets@2",
        "diff pets@1 --stat",
        "verify --read-data",
        "copy pets ./mirror:",
        "repair --read-data",
        "stat",
        "stat pets",
        "stat pets@1",
        "tag pets@1 one",
        "tag pets",
        "tag --delete pets v2",
        "rm pets@1 --dry-run",
        "rm pets --keep-last 1 --dry-run",
        "undo pets --list",
        "gc --grace 0s",
        "token create ann --tokens ./tokens.json",
        "link pets:notes.txt",
        "completion bash",
    ],
)
def test_every_key_is_documented(stocked: Place, command: str) -> None:
    """Every key that a verb prints with --json stands on its page, or where that leads to."""
    verb, *arguments = command.split()
    if verb == "remote":
        stocked.well("remote", "add", "disk", "./store")
    if verb == "copy":
        stocked.well("init", "./mirror")
    if verb == "link":
        stocked.variable("CHUNKSTORE_TOKENS", "./tokens.json")
        stocked.well("token", "create", "ann")
    ended = stocked.well("--json", verb, *arguments)
    text = ended.errors.splitlines()[-1] if verb == "run" else ended.text
    lines = verb in ("push", "pull", "status", "gc", "verify", "copy", "repair")
    found = [json.loads(part) for part in (text.splitlines() if lines else [text])]
    page = (REFERENCE / "cli" / f"{verb}.md").read_text()
    if lines:
        page += (REFERENCE / "cli" / "index.md").read_text()
    for other in ("log", "pull", "push"):
        if f"[{other}]({other}.md#json)" in page:
            page += (REFERENCE / "cli" / f"{other}.md").read_text()
    assert {*keys_of(found)} <= {*codes(page)}


def test_no_verb_is_made_up() -> None:
    """Every page of the command line's reference but the index is that of a verb."""
    pages = {page.stem for page in (REFERENCE / "cli").glob("*.md")}
    assert pages == {*VERBS, "index"}


@pytest.mark.parametrize("verb", VERBS)
def test_no_option_is_made_up(verb: str) -> None:
    """Every option in a verb's table is one that the verb has."""
    command = build().get_command(click.Context(build()), verb)
    assert command is not None
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    known = {name for each in [command, *below] for p in each.params for name in p.opts}
    text = (REFERENCE / "cli" / f"{verb}.md").read_text()
    table = [line for line in text.splitlines() if line.startswith(("| `-", "| `--"))]
    named = {code for line in table for code in codes(line.split("|")[1])}
    assert named <= known


@pytest.mark.parametrize("verb", VERBS)
def test_the_statuses_of_a_verb_are_statuses(verb: str) -> None:
    """A verb's page names each status that it can end with once, and none that there is not."""
    cells = [row[0] for row in rows(REFERENCE / "cli" / f"{verb}.md", "Exit statuses")]
    numbers = [int(number) for cell in cells for number in cell.split(",")]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= {int(status) for status in Status}
    assert {0, 1, 2, 130, 141, 143} <= set(numbers)


def test_every_exit_status_is_in_the_table() -> None:
    """The table has each status once, in order."""
    numbers = [int(row[0]) for row in rows(REFERENCE / "cli" / "index.md", "Exit statuses")]
    assert numbers == sorted(int(status) for status in Status)


def test_error_codes_stand_beside_their_status() -> None:
    """The table has every error code, that of each class with the status of that class."""
    table = rows(REFERENCE / "cli" / "index.md", "Exit statuses")
    shown: dict[str, set[int]] = {}
    for status, _, cell in table:
        for code in codes(cell):
            shown.setdefault(code, set()).add(int(status))
    expected = {code: set(map(int, statuses)) for code, statuses in CLI_CODES.items()}
    for kind, status in STATUS_OF_ERROR.items():
        expected.setdefault(kind.code, set()).add(int(status))
    assert shown == expected


def test_every_error_is_in_the_table_of_errors() -> None:
    """The library's table has class, code and exit status of every error."""
    page = (REFERENCE / "library" / "errors.md").read_text()
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    shown = {(codes(line[0])[0], codes(line[1])[0], int(line[-1])) for line in lines}
    expected = {
        (kind.__name__, kind.code, int(STATUS_OF_ERROR[kind]))
        for kind in subclasses(ChunkstoreError)
    }
    assert shown == expected


def test_every_setting_is_documented() -> None:
    """The table of settings has each with its variables, in the order in which they are asked."""
    table = rows(REFERENCE / "cli" / "index.md", "Settings")
    shown = {codes(row[0])[0]: tuple(codes(row[1])) for row in table}
    assert shown == {name: setting.variables for name, setting in SETTINGS.items()}
    assert f"`{CONFIG_VARIABLE}`" in (REFERENCE / "cli" / "index.md").read_text()
