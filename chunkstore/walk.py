"""The user's folder as a stream of what stands in it, sorted as a manifest is.

Folders are sorted by their name with a slash, which is the order of whole paths by their
bytes, so nothing needs to be collected first. Neighbours: `filters` says what takes part,
`slicer` reads the files.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chunkstore.filters import IGNORE_FILE, IgnoreRules, PathFilter
from chunkstore.format.manifest import EntryKind
from chunkstore.format.path import path_problem
from chunkstore.limits import MAX_LINK_TARGET

PART_PREFIX: Final = ".chunkstore-part-"
"""Names of files that a pull has not completed yet begin so."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something in the folder that belongs into a version.

    Attributes:
        path: its path in the version; an empty folder's ends with a slash.
        kind: file, empty folder or link.
        location: where the file system has it.
        target: where a link points.
    """

    path: str
    kind: EntryKind
    location: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in the folder that cannot be taken.

    Attributes:
        path: where it is, relative to the folder.
        reason: why it is left out.
        unreadable: it ought to be in the version but cannot be read, so that a push without
            `skip_unreadable` must not commit; False for what no version can hold.
    """

    path: str
    reason: str
    unreadable: bool


def walk(root: str, paths: PathFilter, *, parts: bool = False) -> Iterator[Found | LeftOut]:
    """Yield what stands in the folder `root`, by path.

    Symbolic links are taken as links and never followed. Sockets, pipes and devices are left out.
    Files that a pull has not finished are passed over, unless `parts` is given.
    """
    yield from _Walk(paths, parts=parts).folder(root, "", IgnoreRules())


class _Walk:
    def __init__(self, paths: PathFilter, *, parts: bool) -> None:
        self._paths = paths
        self._parts = parts

    def folder(self, location: str, prefix: str, above: IgnoreRules) -> Iterator[Found | LeftOut]:
        try:
            with os.scandir(location) as found:
                entries = sorted(((_sort_name(entry), entry) for entry in found), key=_first)
            rules = _own_rules(location, prefix, above, entries)
        except OSError as error:
            yield LeftOut(prefix.rstrip("/") or ".", _reason(error), unreadable=True)
            return
        empty = True
        last = ""
        for name, entry in entries:
            is_folder = name.endswith("/")
            path = prefix + name
            if name.startswith(PART_PREFIX) and not self._parts:
                continue
            if rules.ignores(path) or not self._taken(path, is_folder):
                empty = False
                continue
            problem = path_problem(path.removesuffix("/"))
            if problem is None and name.removesuffix("/") == last:
                problem = "another name beside it is the same in Unicode normal form NFC"
            empty = False
            last = name.removesuffix("/")
            if problem:
                yield LeftOut(_printable(path), problem, unreadable=True)
            elif is_folder:
                yield from self.folder(entry.path, path, rules)
            else:
                yield _what(entry, path)
        if empty and prefix and self._paths.takes(prefix):
            yield Found(prefix, EntryKind.FOLDER, location)

    def _taken(self, path: str, is_folder: bool) -> bool:
        return self._paths.enters(path) if is_folder else self._paths.takes(path)


def _first(pair: tuple[str, os.DirEntry[str]]) -> bytes:
    return pair[0].encode("utf-8", "surrogateescape")


def _sort_name(entry: os.DirEntry[str]) -> str:
    name = unicodedata.normalize("NFC", entry.name)
    return name + "/" if entry.is_dir(follow_symlinks=False) else name


def _own_rules(
    location: str, prefix: str, above: IgnoreRules, entries: list[tuple[str, os.DirEntry[str]]]
) -> IgnoreRules:
    if not any(name == IGNORE_FILE for name, _ in entries):
        return above
    with open(os.path.join(location, IGNORE_FILE), encoding="utf-8", errors="replace") as file:
        return IgnoreRules(above, prefix, file.read())


def _what(entry: os.DirEntry[str], path: str) -> Found | LeftOut:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            return Found(path, EntryKind.FILE, entry.path)
        if stat.S_ISLNK(mode):
            target = os.readlink(entry.path)
            if len(os.fsencode(target)) > MAX_LINK_TARGET or not _is_text(target):
                return LeftOut(path, "its target is too long or not UTF-8", unreadable=True)
            return Found(path, EntryKind.LINK, entry.path, target)
    except OSError as error:
        return LeftOut(path, _reason(error), unreadable=True)
    return LeftOut(path, "it is a socket, pipe or device", unreadable=False)


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: OSError) -> str:
    return "it vanished" if error.errno == errno.ENOENT else str(error.strerror or error)


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
