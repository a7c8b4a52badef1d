"""The user's folder as a stream of what stands in it, sorted as a manifest is.

Folders are sorted by their name with a slash, which is the order of whole paths by their
bytes, so nothing needs to be collected first. Every folder is opened relative to the one
above it and without following links, so a folder that is replaced by a link meanwhile leads
nowhere, and no path is too long. Neighbours: `filters` says what takes part, `slicer` reads
the files.
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

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened that may have become something else since it was seen."""

_MOST_IGNORE_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """Something in the folder that belongs into a version.

    Attributes:
        path: its path in the version; an empty folder's ends with a slash.
        kind: file, empty folder or link.
        location: where the file system has it, relative to `folder`.
        target: where a link points.
        folder: descriptor of the folder it is in, open until the walk goes on; None where
            `location` stands alone.
        place: its path below the root as the file system spells it.
    """

    path: str
    kind: EntryKind
    location: str
    target: str = ""
    folder: int | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in the folder that cannot be taken.

    Attributes:
        path: where it is, relative to the folder, with what cannot be printed escaped.
        reason: why it is left out.
        unreadable: it ought to be in the version but cannot be read, so that a push without
            `skip_unreadable` must not commit; False for what no version can hold.
    """

    path: str
    reason: str
    unreadable: bool


def walk(root: str | int, paths: PathFilter, *, target: bool = False) -> Iterator[Found | LeftOut]:
    """Yield what stands in the folder `root`, a path or an open descriptor, by path.

    Symbolic links are taken as links and never followed. Sockets, pipes and devices are left
    out. Files that a pull has not finished are passed over. With `target` the folder is one
    that is pulled into: such files are found too, and so are names that only differ until they
    are in Unicode normal form NFC, which no version could hold beside each other.
    """
    walker = _Walk(paths, target=target)
    try:
        handle = os.dup(root) if isinstance(root, int) else os.open(root, os.O_RDONLY)
    except OSError as error:
        yield LeftOut(".", _reason(error), unreadable=True)
        return
    yield from walker.folder(handle, "", "", IgnoreRules())


def size_of(item: Found) -> int:
    """Return the bytes of a file, 0 of a link or folder; call it before the walk goes on.

    Also 0 where it cannot be looked at: who reads it will report that.
    """
    if item.kind != EntryKind.FILE:
        return 0
    try:
        return os.stat(item.location, dir_fd=item.folder, follow_symlinks=False).st_size
    except OSError:
        return 0


def expendable(root: int, path: str, paths: PathFilter) -> bool:
    """Whether all that stands at and below `path` of the open folder `root` may be deleted.

    That is so where neither an ignore file nor `paths` keeps any of it, and a version could
    hold all of it.
    """
    walker = _Walk(paths, target=True)
    handle = os.dup(root)
    rules, prefix = IgnoreRules(), ""
    try:
        *above, name = path.split("/")
        for part in above:
            rules = _own_rules(handle, prefix, rules)
            prefix += part + "/"
            if rules.ignores(prefix) or not paths.enters(prefix):
                return False
            upper, handle = handle, os.open(part, FOLDER_FLAGS, dir_fd=handle)
            os.close(upper)
        rules = _own_rules(handle, prefix, rules)
        if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
            return paths.takes(path) and not rules.ignores(path)
        if rules.ignores(path + "/") or not paths.enters(path + "/"):
            return False
        inner = os.open(name, FOLDER_FLAGS, dir_fd=handle)
    except OSError:
        return False
    finally:
        os.close(handle)
    below = walker.folder(inner, path + "/", path + "/", rules)
    return all(isinstance(item, Found) for item in below) and not walker.passed_over


class _Walk:
    def __init__(self, paths: PathFilter, *, target: bool) -> None:
        self._paths = paths
        self._target = target
        self.passed_over = False

    def folder(
        self, handle: int, prefix: str, place: str, above: IgnoreRules
    ) -> Iterator[Found | LeftOut]:
        """Yield what is below an open folder, which is closed at the end."""
        try:
            yield from self._folder(handle, prefix, place, above)
        finally:
            os.close(handle)

    def _folder(
        self, handle: int, prefix: str, place: str, above: IgnoreRules
    ) -> Iterator[Found | LeftOut]:
        try:
            with os.scandir(handle) as found:
                entries = sorted(_sorted_entry(entry) for entry in found)
            rules = _own_rules(handle, prefix, above)
        except OSError as error:
            yield LeftOut(prefix.rstrip("/") or ".", _reason(error), unreadable=True)
            return
        empty = True
        taken: set[str] = set()  # names that are not ASCII
        for key, _, name, is_file in entries:
            is_folder = key.endswith(b"/")
            path = prefix + os.fsdecode(key)
            if name.startswith(PART_PREFIX) and not self._target:
                continue
            empty = False
            if rules.ignores(path) or not self._taken(path, is_folder):
                self.passed_over = True
                continue
            problem = path_problem(path.removesuffix("/"))
            if problem is None and not name.isascii() and not self._target:
                plain = path.removesuffix("/")
                if plain in taken:
                    problem = "another name beside it is the same in Unicode normal form NFC"
                taken.add(plain)
            if problem:
                yield LeftOut(printable(path), problem, unreadable=True)
            elif is_folder:
                yield from self._enter(handle, name, path, place + name, rules)
            elif is_file:
                yield Found(path, EntryKind.FILE, name, "", handle, place + name)
            else:
                yield _what(handle, name, path, place + name)
        if empty and prefix and self._paths.takes(prefix):
            yield Found(prefix, EntryKind.FOLDER, ".", folder=handle, place=place)

    def _enter(
        self, above: int, name: str, path: str, place: str, rules: IgnoreRules
    ) -> Iterator[Found | LeftOut]:
        try:
            handle = os.open(name, FOLDER_FLAGS, dir_fd=above)
        except OSError as error:
            replaced = error.errno in (errno.ELOOP, errno.ENOTDIR)
            reason = "it is no longer a folder" if replaced else _reason(error)
            yield LeftOut(path.rstrip("/"), reason, unreadable=True)
            return
        yield from self.folder(handle, path, place + "/", rules)

    def _taken(self, path: str, is_folder: bool) -> bool:
        return self._paths.enters(path) if is_folder else self._paths.takes(path)


def _sorted_entry(entry: os.DirEntry[str]) -> tuple[bytes, bool, str, bool]:
    """Return the bytes to sort by, whether the name is not in NFC yet, it, and is it a file.

    Of two names that are the same in NFC the one that is in NFC comes first.
    """
    name = entry.name
    plain = name if name.isascii() else unicodedata.normalize("NFC", name)
    key = os.fsencode(plain + "/" if entry.is_dir(follow_symlinks=False) else plain)
    return key, plain != name, name, entry.is_file(follow_symlinks=False)


def _own_rules(folder: int, prefix: str, above: IgnoreRules) -> IgnoreRules:
    """Return the rules that hold in an open folder.

    Raises:
        OSError: its ignore file cannot be read, or is a link, pipe or device.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(IGNORE_FILE, flags, dir_fd=folder)
    except FileNotFoundError:
        return above
    except OSError as error:
        raise OSError(error.errno, f"its {IGNORE_FILE} cannot be read: {error.strerror}") from error
    with open(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            return above
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"its {IGNORE_FILE} is not a regular file")
        text = file.read(_MOST_IGNORE_BYTES + 1)
    if len(text) > _MOST_IGNORE_BYTES:
        raise OSError(errno.EFBIG, f"its {IGNORE_FILE} has more than {_MOST_IGNORE_BYTES} bytes")
    return IgnoreRules(above, prefix, text.decode("utf-8", "surrogateescape"))


def _what(folder: int, name: str, path: str, place: str) -> Found | LeftOut:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            return Found(path, EntryKind.FILE, name, "", folder, place)
        if stat.S_ISLNK(mode):
            target = os.readlink(name, dir_fd=folder)
            if len(os.fsencode(target)) > MAX_LINK_TARGET or not _is_text(target):
                return LeftOut(path, "its target is too long or not UTF-8", unreadable=True)
            return Found(path, EntryKind.LINK, name, target, folder, place)
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


def printable(path: str) -> str:
    """Return `path` with control characters and bytes that are not UTF-8 escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
