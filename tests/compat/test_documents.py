"""The design documents say what the code is: its modules, its layers, its decisions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DESIGN = ROOT / "docs" / "design"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
ARCHITECTURE = (DESIGN / "architecture.md").read_text("utf-8")


def described(heading: str) -> list[str]:
    """Return the modules in the table whose head begins with `heading`, in order."""
    table = ARCHITECTURE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `([a-z0-9_]+)` \|", table, re.MULTILINE)


def modules(package: str) -> set[str]:
    """Return the names of the modules of a package."""
    folder = ROOT / package
    below = {path.parent.name for path in folder.glob("*/__init__.py")}
    own = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return own | below if package.startswith("api/") else own


@pytest.mark.parametrize(
    ("heading", "package"),
    [
        ("module", "chunkstore"),
        ("module of `format`", "chunkstore/format"),
        ("module of `backends`", "chunkstore/backends"),
        ("module of `testing`", "chunkstore/testing"),
        ("module of the API", "api/chunkstore_api"),
    ],
)
def test_every_module_is_described(heading: str, package: str) -> None:
    """architecture.md has one line for each module, and none for what is not there."""
    found = described(heading)
    assert len(found) == len(set(found))
    assert set(found) == modules(package)


def test_modules_are_described_from_the_top() -> None:
    """Their order is that of the layers which import-linter holds."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c.get("containers") == ["chunkstore"])
    level = {
        name.strip(): number for number, layer in enumerate(layers) for name in layer.split("|")
    }
    levels = [level[name] for name in described("module")]
    assert levels == sorted(levels)


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_parts(path: Path) -> None:
    """Number, problem and decision, with what was rejected or what it costs."""
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.name[:4]}: ")
    assert "**Problem.**" in text
    assert "**Decided.**" in text
    assert "**Rejected.**" in text or "**Cost.**" in text


def test_decisions_are_numbered_without_gaps() -> None:
    """So that a number names one decision for ever."""
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_section_that_the_code_cites_is_there() -> None:
    """`section "..."` and `"..." of` a design document lead to a heading of it."""
    found = 0
    for path in sorted((ROOT / "chunkstore").rglob("*.py")):
        text = " ".join(path.read_text("utf-8").split())
        for title, name in re.findall(r"\"([^\"]+)\" of docs/design/(consistency|security)", text):
            headings = re.findall(
                r"^#+ (?:[0-9.]+ )?(.+)$", (DESIGN / f"{name}.md").read_text(), re.MULTILINE
            )
            assert title in headings, f"{path}: {title!r} of {name}.md"
            found += 1
    assert found >= 4
