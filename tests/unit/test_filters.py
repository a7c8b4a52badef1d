"""Patterns mean what they mean to git."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from chunkstore import InvalidInputError
from chunkstore.filters import IGNORE_FILE, IgnoreRules, PathFilter
from chunkstore.walk import Found, walk

NAMES = ["a", "b", "ab", "a.log", "b.txt", "foo", "foo.c", "x y", "Z", "1", "#h", "!n", "a]", "-"]
FOLDERS = ["a", "b", "foo", "foo/a", "foo/b", "a/b", "a/b/foo", "b/foo/a", "a/b/foo/b"]
PARTS = [
    *("a", "b", "foo", "*", "**", "?", "*.log", "f*", "*o*", "[ab]", "[!a]", "[^b]*", "a?", "x y"),
    *("[a-c]", "\\a", "\\#h", "\\!n", "*.*", "[]a]", "[a-]", "#h", "b ", "b\\ "),
]


def random_pattern(source: random.Random) -> str:
    """Return a pattern of one to four parts, some of them negated, anchored or for folders."""
    body = "/".join(source.choices(PARTS, k=source.choice([1, 1, 1, 2, 2, 3, 4])))
    start = source.choice(["", "", "", "!", "!", "/", "!/", "//", "**/"])
    return start + body + source.choice(["", "", "", "/", "/**", "  ", "\r", "//"])


def make_corpus(root: Path, source: random.Random) -> None:
    """Make folders and files with ignore files of random patterns at several depths."""
    for folder in ["", *FOLDERS]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ["", *FOLDERS]:
        for name in source.sample(NAMES, 6):
            if not (root / folder / name).exists():
                (root / folder / name).write_bytes(b"")
    for folder in ["", *source.sample(FOLDERS, 3)]:
        lines = [random_pattern(source) for _ in range(source.randrange(1, 5))]
        mark = source.choice(["", "\ufeff"])
        for name in (".gitignore", IGNORE_FILE):
            (root / folder / name).write_bytes((mark + "\n".join(lines)).encode())


def git(root: Path, *arguments: str, data: bytes | None = None) -> bytes:
    """Run git in the folder, without anybody's settings; return what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=environment, input=data, capture_output=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("seed", range(30))
def test_ignore_files_mean_what_they_mean_to_git(tmp_path: Path, seed: int) -> None:
    """On a tree with nested ignore files git takes the same files as the walk."""
    make_corpus(tmp_path, random.Random(seed))
    git(tmp_path, "init", "-q")
    listed = git(tmp_path, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
    expected = {path.decode() for path in listed.split(b"\0") if path}
    found = {item.path for item in walk(str(tmp_path), PathFilter()) if isinstance(item, Found)}
    found = {path for path in found if not path.startswith(".git/") and not path.endswith("/")}
    text = {str(p): p.read_text() for p in tmp_path.rglob(IGNORE_FILE)}
    assert found == expected, text


@pytest.mark.parametrize("seed", range(6))
def test_single_patterns_match_what_git_says(tmp_path: Path, seed: int) -> None:
    """Each pattern alone ignores of all paths the same ones as `git check-ignore`."""
    source = random.Random(seed)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    git(tmp_path, "init", "-q")
    below = {f"{folder}/{name}".lstrip("/") for folder in ["", *FOLDERS] for name in NAMES}
    paths = sorted({*below.difference(FOLDERS), *FOLDERS})
    for _ in range(25):
        pattern = random_pattern(source).removeprefix("!")
        (tmp_path / ".gitignore").write_text(pattern)
        asked = subprocess.run(
            ["git", "check-ignore", "-z", "--no-index", "--stdin"],
            cwd=tmp_path,
            input="\0".join(paths).encode(),
            capture_output=True,
            check=False,  # it ends with 1 where nothing is ignored
        )
        expected = {path.decode() for path in asked.stdout.split(b"\0") if path}
        rules = IgnoreRules(text=pattern)
        found = {path for path in paths if ignored(rules, path + "/" * (tmp_path / path).is_dir())}
        assert found == expected, pattern


def ignored(rules: IgnoreRules, path: str) -> bool:
    """Whether a path or a folder above it is ignored, as the walk asks."""
    parts = path.rstrip("/").split("/")
    above = ["/".join(parts[:end]) + "/" for end in range(1, len(parts))]
    return any(rules.ignores(folder) for folder in above) or rules.ignores(path)


def test_excluded_folders_stay_excluded() -> None:
    """As with git nothing below an excluded folder comes back, in a folder or in a version."""
    paths = PathFilter(exclude=["foo/", "!foo/bar"])
    assert not paths.takes("foo/bar")
    assert not paths.enters("foo/")
    again = PathFilter(exclude=["foo/*", "!foo/bar"])
    assert again.takes("foo/bar")
    assert not again.takes("foo/baz/x")


def test_includes_take_whole_folders_and_can_be_taken_back() -> None:
    """An included folder is taken with all below it but for what a later pattern takes out."""
    paths = PathFilter(include=["train/", "!train/x", "*.md"])
    assert paths.takes("train/deep/er/y")
    assert not paths.takes("train/x")
    assert paths.takes("other/README.md")
    assert not paths.takes("other/y")
    assert paths.enters("other/")


def test_a_filter_below_a_folder_asks_for_whole_paths() -> None:
    """Where a folder of a version is pulled, patterns still see the version's paths."""
    paths = PathFilter(include=["/data/train/**"], exclude=["*.log"]).below("data/")
    assert paths.takes("train/x")
    assert not paths.takes("train/x.log")
    assert not paths.takes("test/x")


@pytest.mark.parametrize("pattern", ["[a", "a\\", "!", "/", "[z-a]"])
def test_a_pattern_that_matches_nothing_is_a_mistake(pattern: str) -> None:
    """On the command line it is refused; in an ignore file it is passed over, as git does."""
    with pytest.raises(InvalidInputError, match="not a pattern"):
        PathFilter(exclude=[pattern])
    assert not IgnoreRules(text=pattern).ignores("a")


def test_patterns_and_names_meet_in_nfc() -> None:
    """A pattern that was typed in another normal form still matches."""
    assert IgnoreRules(text="cafe\u0301\n").ignores("caf\u00e9")


def test_only_line_feeds_end_a_pattern() -> None:
    """Other characters that some call line ends are parts of names."""
    assert IgnoreRules(text="a\u2028b\n").ignores("a\u2028b")
    assert not IgnoreRules(text="a\u2028b\n").ignores("a")
