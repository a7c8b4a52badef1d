"""Which paths of a folder or version take part: include, exclude, ignore files.

Patterns have the syntax of gitignore, compiled by the package pathspec. As git does, each folder is
judged before what is below it. Stands alone; pure.
"""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from chunkstore.errors import InvalidInputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE: Final = ".chunkstoreignore"

_ALL_BELOW: Final = re.compile(r"/\*\*(?=[ \r]*$)")


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
            InvalidInputError: a pattern that is none.
        """
        self._include = _compile_strictly(include)
        self._exclude = _compile_strictly(exclude)
        self._below = below
        self._without: str | None = None
        self._folder: tuple[str, bool, bool] = ("", self._include is None, False)

    def below(self, prefix: str) -> PathFilter:
        """Return the same filter for paths that are given without `prefix`."""
        other = copy.copy(self)
        other._below = self._below + prefix
        return other

    def without(self, folder: str) -> PathFilter:
        """Return the same filter, but leaving out `folder`, which ends with a slash."""
        other = copy.copy(self)
        other._without = folder
        return other

    @property
    def takes_all(self) -> bool:
        """Whether every path takes part."""
        return self._include is None and self._exclude is None and self._without is None

    def takes(self, path: str) -> bool:
        """Whether `path` takes part; a folder's ends with a slash."""
        if self.takes_all:
            return True
        included, excluded = self._verdicts(self._below + path)
        return included and not excluded

    def enters(self, folder: str) -> bool:
        """Whether anything below `folder`, which ends with a slash, may take part."""
        return not self._verdicts(self._below + folder)[1]

    def _verdicts(self, path: str) -> tuple[bool, bool]:
        """Return whether the path is included and whether it is excluded."""
        plain = path.removesuffix("/")
        above = plain[: plain.rfind("/") + 1]
        folder, included, excluded = self._folder
        if folder != above:
            if above:
                included, excluded = self._verdicts(above)
            else:
                included, excluded = self._include is None, False
            self._folder = (above, included, excluded)
        verdict = _verdict(self._include, path)
        included = included if verdict is None else verdict
        excluded = excluded or path == self._without or bool(_verdict(self._exclude, path))
        return included, excluded


class IgnoreRules:
    """The ignore files that hold for one folder: its own and those of the folders above it.

    As with gitignore the last pattern that matches wins, a deeper file overrules a higher one,
    and `!pattern` takes back. Nothing below an ignored folder is asked for.
    """

    def __init__(self, above: IgnoreRules | None = None, prefix: str = "", text: str = "") -> None:
        """`text` is the ignore file in the folder `prefix`, which ends with a slash.

        Lines that are no patterns are passed over, as git does.
        """
        self._above = above
        self._prefix = prefix
        lines = unicodedata.normalize("NFC", text).removeprefix("\ufeff").split("\n")
        self._spec = _compile(line for line in lines if _is_pattern(line)) if text else None
        self.takes_all: bool = self._spec is None and (above is None or above.takes_all)
        """Whether nothing is ignored."""

    def ignores(self, path: str) -> bool:
        """Whether `path`, a folder's with a slash at its end, is ignored."""
        rules: IgnoreRules | None = self
        while rules is not None:
            verdict = _verdict(rules._spec, path[len(rules._prefix) :])
            if verdict is not None:
                return verdict
            rules = rules._above
        return False


def _verdict(spec: GitIgnoreSpec | None, path: str) -> bool | None:
    """Return what the last pattern says that matches `path`, None where none does."""
    return None if spec is None else spec.check_file(path).include


def _compile(patterns: Iterable[str]) -> GitIgnoreSpec:
    """Compile patterns.

    `a/**` is written as `a/*`, which is the same where each folder is judged before what is below
    it: pathspec would let the first match the folder `a` too, unlike git.
    """
    from pathspec import GitIgnoreSpec  # noqa: PLC0415  # 50 ms, only where patterns are given

    return GitIgnoreSpec.from_lines(_ALL_BELOW.sub("/*", pattern) for pattern in patterns)


def _is_pattern(line: str) -> bool:
    """Whether a line is a pattern that can match something."""
    try:
        return any(pattern.include is not None for pattern in _compile([line]).patterns)
    except (ValueError, re.error):
        return False


def _compile_strictly(patterns: Sequence[str]) -> GitIgnoreSpec | None:
    for pattern in patterns:
        if not _is_pattern(pattern):
            raise InvalidInputError(
                f"not a pattern: {pattern!r}", hint="patterns have the syntax of gitignore"
            )
    return _compile(patterns) if patterns else None


EVERYTHING: Final = PathFilter()
