"""The walls that import-linter cannot hold."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted(
    path for path in (ROOT / "chunkstore").rglob("*.py") if "testing" not in path.parts
)
MOST_LINES = 500
LONGEST_FUNCTION = 70  # lines, the docstring included: what fits on a screen


def _sources() -> list[Path]:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in tracked.stdout.splitlines() if (ROOT / name).exists()]


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def test_no_file_is_too_long() -> None:
    """No Python file has more than 500 lines, no function more than a screen."""
    sources = _sources()
    assert len(sources) > 50
    for path in sources:
        text = path.read_text()
        assert text.count("\n") <= MOST_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno
                assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_leaves_the_process_alone(path: Path) -> None:
    """The environment, printing and process exit live only in the command line and the API."""
    forbidden = {
        "print", "input", "exit", "quit", "sys.exit", "os._exit", "os.getenv", "os.environ",
        "os.chdir", "signal.signal", "sys.stdout", "sys.stderr", "logging.basicConfig",
    }  # fmt: skip
    found = [(line, name) for line, name in _calls(ast.parse(path.read_text()))]
    assert not [(line, name) for line, name in found if name in forbidden]


def test_the_library_tells_no_commands() -> None:
    """A hint of the library names verbs and options: how the store is named it cannot know."""
    command = re.compile(r"\bchunkstore (init|push|pull|ls|log|rm|undo|gc|verify|repair|doctor)\b")
    for path in LIBRARY:
        tree = ast.parse(path.read_text())
        told = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told:
                assert not command.search(node.value), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_error_is_swallowed(path: Path) -> None:
    """A handler for every exception raises again, or hands the error on by its name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kind = ast.unparse(node.type) if node.type else "everything"
        if kind not in ("everything", "Exception", "BaseException"):
            continue
        raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        hands_on = node.name is not None and any(
            isinstance(inner, ast.Name) and inner.id == node.name for inner in ast.walk(node)
        )
        assert raises or hands_on, f"{path}:{node.lineno}"
