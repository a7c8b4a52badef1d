"""Which paths of a folder or version take part: include, exclude, ignore files.

Patterns have the syntax of gitignore (package pathspec). Stands alone; pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from chunkstore.errors import InvalidInputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE: Final = ".chunkstoreignore"


class PathFilter:
    """Says of paths whether they take part.

    A path takes part if no exclude pattern matches it and, where there are include patterns,
    one of them does. A pattern that matches a folder matches everything below it.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Compile the patterns.

        Raises:
            InvalidInputError: a pattern that is none.
        """
        self._include = _compile(include) if include else None
        self._exclude = _compile(exclude) if exclude else None

    @property
    def takes_all(self) -> bool:
        """Whether every path takes part."""
        return self._include is None and self._exclude is None

    def takes(self, path: str) -> bool:
        """Whether `path` takes part; a folder's ends with a slash."""
        if self._exclude is not None and self._exclude.match_file(path):
            return False
        return self._include is None or self._include.match_file(path)

    def enters(self, folder: str) -> bool:
        """Whether anything below `folder`, which ends with a slash, may take part."""
        return self._exclude is None or not self._exclude.match_file(folder)


EVERYTHING: Final = PathFilter()


class IgnoreRules:
    """The ignore files that hold for one folder: its own and those of the folders above it.

    As with gitignore the last pattern that says something wins, so a deeper file overrules a
    higher one, and `!pattern` takes back.
    """

    def __init__(self, above: IgnoreRules | None = None, prefix: str = "", text: str = "") -> None:
        self._above = above
        self._prefix = prefix
        self._spec = _compile(text.splitlines()) if text else None

    def ignores(self, path: str) -> bool:
        """Whether `path`, a folder's with a slash at its end, is ignored."""
        rules: IgnoreRules | None = self
        while rules is not None:
            if rules._spec is not None:
                verdict = rules._spec.check_file(path[len(rules._prefix) :]).include
                if verdict is not None:
                    return bool(verdict)
            rules = rules._above
        return False


def _compile(patterns: Iterable[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # noqa: PLC0415  # 50 ms, only where patterns are given

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise InvalidInputError(
            f"not a pattern: {error}", hint="patterns have the syntax of gitignore"
        ) from error
