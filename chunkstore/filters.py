"""Which paths of a folder or version take part: include, exclude, ignore files.

Patterns have the syntax and the meaning of gitignore; the test of this module holds them
against git itself. Stands alone; pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from chunkstore.errors import InvalidInputError

IGNORE_FILE: Final = ".chunkstoreignore"

_STAR, _FOLDERS, _SLASH = "*", "**", "/"
_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class PathFilter:
    """Says of paths whether they take part.

    A path takes part if no exclude pattern matches it or a folder above it and, where there are
    include patterns, the last that matches it, or else the folder above it, takes it in.
    """

    def __init__(
        self, include: Sequence[str] = (), exclude: Sequence[str] = (), *, below: str = ""
    ) -> None:
        """Compile the patterns; `below` is put before every path that is asked for.

        Raises:
            InvalidInputError: a pattern that can match nothing.
        """
        self._include = _compile(include, strict=True)
        self._exclude = _compile(exclude, strict=True)
        self._below = below
        self._folder: tuple[str, bool, bool] = ("", not self._include, False)

    def below(self, prefix: str) -> PathFilter:
        """Return the same filter for paths that are given without `prefix`."""
        other = PathFilter(below=self._below + prefix)
        other._include, other._exclude = self._include, self._exclude
        other._folder = self._folder
        return other

    @property
    def takes_all(self) -> bool:
        """Whether every path takes part."""
        return not self._include and not self._exclude

    def takes(self, path: str) -> bool:
        """Whether `path` takes part; a folder's ends with a slash."""
        if self.takes_all:
            return True
        included, excluded = self._verdicts(self._below + path)
        return included and not excluded

    def enters(self, folder: str) -> bool:
        """Whether anything below `folder`, which ends with a slash, may take part."""
        return not self._exclude or not self._verdicts(self._below + folder)[1]

    def _verdicts(self, path: str) -> tuple[bool, bool]:
        """Return whether the path is included and whether it is excluded."""
        plain = path.removesuffix("/")
        above = plain[: plain.rfind("/") + 1]
        folder, included, excluded = self._folder
        if folder != above:
            if above:
                included, excluded = self._verdicts(above)
            else:
                included, excluded = not self._include, False
            self._folder = (above, included, excluded)
        if self._include:
            verdict = _verdict(self._include, path)
            included = included if verdict is None else verdict
        return included, excluded or bool(_verdict(self._exclude, path))


class IgnoreRules:
    """The ignore files that hold for one folder: its own and those of the folders above it.

    As with gitignore the last pattern that matches wins, a deeper file overrules a higher one,
    and `!pattern` takes back. Nothing below an ignored folder is asked for.
    """

    def __init__(self, above: IgnoreRules | None = None, prefix: str = "", text: str = "") -> None:
        """`text` is the ignore file in the folder `prefix`, which ends with a slash.

        Lines that can match nothing are passed over, as git does.
        """
        self._above = above
        self._prefix = prefix
        lines = unicodedata.normalize("NFC", text).removeprefix("\ufeff").split("\n")
        self._rules = _compile((line.removesuffix("\r") for line in lines), strict=False)

    def ignores(self, path: str) -> bool:
        """Whether `path`, a folder's with a slash at its end, is ignored."""
        rules: IgnoreRules | None = self
        while rules is not None:
            verdict = _verdict(rules._rules, path[len(rules._prefix) :])
            if verdict is not None:
                return verdict
            rules = rules._above
        return False


class _Rule(NamedTuple):
    verdict: bool
    folders_only: bool
    names_only: bool  # held against the last part of a path
    regex: re.Pattern[str]


def _verdict(rules: Sequence[_Rule], path: str) -> bool | None:
    """Return what the last rule says that matches just this path, None where none does."""
    if not rules:
        return None
    plain = path.removesuffix("/")
    name = plain[plain.rfind("/") + 1 :]
    for rule in reversed(rules):
        if rule.folders_only and plain is path:
            continue
        if rule.regex.fullmatch(name if rule.names_only else plain):
            return rule.verdict
    return None


def _compile(patterns: Iterable[str], *, strict: bool) -> list[_Rule]:
    rules: list[_Rule] = []
    for pattern in patterns:
        line = _without_trailing_spaces(pattern)
        if not line or line.startswith("#"):
            continue
        body = line.removeprefix("!")
        folders_only = body.endswith("/")
        body = body.removesuffix("/")
        names_only = "/" not in body
        regex = _translate(body.removeprefix("/"), names_only=names_only)
        if regex is not None:
            rules.append(_Rule(line == body or line[0] != "!", folders_only, names_only, regex))
        elif strict:
            raise InvalidInputError(
                f"not a pattern: {pattern!r}", hint="patterns have the syntax of gitignore"
            )
    return rules


def _without_trailing_spaces(line: str) -> str:
    """Strip spaces at the end but for one that a backslash keeps."""
    stripped = line.rstrip(" ")
    slashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if slashes % 2 and stripped != line else stripped


def _translate(pattern: str, *, names_only: bool) -> re.Pattern[str] | None:
    """Return the expression that a whole path must match, or None where nothing can.

    Between two wildcards the first match is as good as any other, so those parts are atomic
    groups: no pattern takes more than a small power of the path's length.
    """
    tokens = _tokens(pattern, names_only=names_only)
    if not tokens or tokens[-1] == _SLASH:
        return None
    groups: list[list[str]] = [[]]  # what stands between `**` parts
    for number, token in enumerate(tokens):
        if token == _FOLDERS:
            groups.append([])
        elif not (token == _SLASH and number and tokens[number - 1] == _FOLDERS):
            groups[-1].append(token)
    first, *others = [_between(group) for group in groups]
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    expression = first + "".join(rf"(?>(?:[^/]+/)*?{part})" for part in middle)
    expression += rf"(?:[^/]+/)*{last}" if last else r".+"
    return re.compile(expression, re.DOTALL)


def _between(tokens: list[str]) -> str:
    """Return the expression for tokens without `**`: parts of names, `*` and slashes."""
    parts: list[str] = []
    star = False  # whether a `*` of the same name waits for what follows it
    tail = ""
    for token in [*tokens, _SLASH]:
        if token not in (_STAR, _SLASH):
            tail += token
            continue
        if star:
            parts.append(f"(?>[^/]*?{tail})" if token == _STAR else f"[^/]*{tail}")
        else:
            parts.append(tail)
        star, tail = token == _STAR, ""
        if token == _SLASH:
            parts.append("/")
    return "".join(parts[:-1])


def _tokens(pattern: str, *, names_only: bool) -> list[str]:
    """Split a pattern into `*`, `**`, `/` and expressions for one character; [] for a bad one."""
    tokens: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            end = at
            while pattern[end : end + 1] == "*":
                end += 1
            alone = (at == 1 or pattern[at - 2] == "/") and pattern[end : end + 1] in ("", "/")
            tokens.append(_FOLDERS if end > at and alone and not names_only else _STAR)
            at = end
        elif char == "?":
            tokens.append("[^/]")
        elif char == "[":
            found = _bracket(pattern, at)
            if found is None:
                return []
            expression, at = found
            tokens.append(expression)
        elif char == "\\":
            if at == len(pattern):
                return []
            tokens.append(re.escape(pattern[at]))
            at += 1
        else:
            tokens.append(_SLASH if char == "/" else re.escape(char))
    return tokens


def _bracket(pattern: str, at: int) -> tuple[str, int] | None:
    """Return the expression for a set that begins at `at`, and where it ends; None for no set."""
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    items: list[str] = []
    before = ""  # the character that a range may begin with
    first = True
    while first or pattern[at : at + 1] != "]":
        first = False
        char = pattern[at : at + 1]
        if not char:
            return None
        after = pattern[at + 1 : at + 2]
        end = pattern.find("]", at + 2)
        if char == "-" and before and after not in ("", "]"):
            at += 1 + (after == "\\")
            high = pattern[at : at + 1]
            if not high:
                return None
            if before <= high:
                items.append(f"{re.escape(before)}-{re.escape(high)}")
            before = ""
        elif char == "[" and after == ":" and end < 0:
            return None
        elif char == "[" and after == ":" and pattern[end - 1] == ":" and end > at + 2:
            if pattern[at + 2 : end - 1] not in _CLASSES:
                return None
            items.append(_CLASSES[pattern[at + 2 : end - 1]])
            at, before = end, ""
        else:
            at += char == "\\"
            before = pattern[at : at + 1]
            if not before:
                return None
            items.append(re.escape(before))
        at += 1
    if not items:
        return ("[^/]" if negated else "(?!)"), at + 1
    return f"(?!/)[{'^' if negated else ''}{''.join(items)}]", at + 1


EVERYTHING: Final = PathFilter()
