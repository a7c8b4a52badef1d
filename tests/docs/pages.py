"""The blocks of a Markdown page that say something which can be tried.

Neighbours: `session` tries them. The convention is described in CONTRIBUTING.md.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENDPOINT = "http://127.0.0.1:9000"
"""What pages call the S3 server; the tests put the address of a real one in its place."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)\s*$")
_EXITS = re.compile(r"# exits (\d+)$", re.MULTILINE)
_RUN = ("console", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and the number of its first line."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of a console block, the output shown for it and the status it must end with."""

    text: str
    output: list[str]
    line: int

    @property
    def status(self) -> int:
        """What `# exits N` says, else 0."""
        said = _EXITS.search(self.text)
        return int(said[1]) if said else 0


def pages() -> list[Path]:
    """Return README.md and all pages below docs/ but the decision records."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(p for p in found if ROOT / "docs" / "decisions" not in p.parents)]


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, also those within an HTML comment.

    Raises:
        ValueError: one has no end.
    """
    found: list[Block] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        at += 1
        if opening is None:
            continue
        start = at
        while at < len(lines) and lines[at].strip() != opening["ticks"]:
            at += 1
        if at == len(lines):
            raise ValueError(f"line {start}: the block has no end")
        content = textwrap.dedent("".join(f"{line}\n" for line in lines[start:at]))
        found.append(Block(opening["language"], content, start + 1))
        at += 1
    return found


def commands(block: Block) -> list[Command]:
    """Return the commands of a console block: `$ ` begins one, `> ` goes on with it.

    Raises:
        ValueError: it begins with something else.
    """
    found: list[Command] = []
    in_command = False
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append(Command(line[2:], [], number))
            in_command = True
        elif not found:
            raise ValueError(f"line {number}: a console block begins with '$ command'")
        elif in_command and (line.startswith("> ") or line == ">"):
            last = found[-1]
            found[-1] = Command(f"{last.text}\n{line[2:]}", last.output, last.line)
        else:
            in_command = False
            found[-1].output.append(line)
    return found


def needs_server(page: list[Block]) -> bool:
    """Whether anything that is run on the page speaks to the S3 server."""
    return any(block.language in _RUN and ENDPOINT in block.text for block in page)
