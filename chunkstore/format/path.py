"""Paths inside a version: what may be one, and the order in which they stand.

Implements section 8.1, "Paths", of docs/design/format.md. Pure.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from chunkstore.limits import MAX_PATH_DEPTH, MAX_PATH_LENGTH, MAX_PATH_PART

_FORBIDDEN: Final = frozenset(chr(c) for c in [*range(32), 127, *range(128, 160)]) | {"\\"}


def path_problem(path: str) -> str | None:
    """Return why `path` cannot name a file of a version, or None where it can.

    A path is NFC text; its parts, joined by slashes, are 1 to 255 bytes of UTF-8, none `.` or
    `..`, without control characters and backslashes; at most 4,096 bytes and 128 parts in all.
    """
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if len(encoded) > MAX_PATH_LENGTH:
        return f"it is longer than {MAX_PATH_LENGTH} bytes"
    parts = path.split("/")
    if len(parts) > MAX_PATH_DEPTH:
        return f"it has more than {MAX_PATH_DEPTH} parts"
    if "" in parts:
        return "it has an empty part"
    if "." in parts or ".." in parts:
        return "it has a part '.' or '..'"
    if not (path.isascii() and path.isprintable()) and not _FORBIDDEN.isdisjoint(path):
        return "it has a control character or a backslash"
    if "\\" in path:
        return "it has a backslash"
    if len(encoded) > MAX_PATH_PART and any(len(p.encode()) > MAX_PATH_PART for p in parts):
        return f"it has a part of more than {MAX_PATH_PART} bytes"
    if not path.isascii() and not unicodedata.is_normalized("NFC", path):
        return "it is not in Unicode normal form NFC"
    return None


def is_plain(name: str) -> bool:
    """Whether nothing but its length can be wrong with `name`, which a file system gave."""
    return name.isascii() and name.isprintable() and "\\" not in name


class PathOrder:
    """Checks, one path at a time, that paths ascend strictly and that no file is also a folder.

    Paths are compared by their bytes of UTF-8; an empty folder stands as `name/`, where a file
    below it would stand.
    """

    __slots__ = ("_files", "_last")

    def __init__(self) -> None:
        self._last = b""
        self._files: list[bytes] = []  # files, or empty folders, that the next path may lie below

    def problem(self, path: str) -> str | None:
        """Take the next path; return what is wrong with its place, or None."""
        encoded = path.encode("utf-8")
        if encoded <= self._last:
            return "it does not come after the one before it"
        # All paths that begin with the same bytes stand together, so what the path does not
        # begin with will not come again.
        while self._files and not encoded.startswith(self._files[-1]):
            self._files.pop()
        for name in self._files:
            if name.endswith(b"/") or encoded.startswith(name + b"/"):
                return "it lies below a path that is a file or an empty folder"
        self._last = encoded
        self._files.append(encoded)
        return None
