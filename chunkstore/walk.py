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
from typing import Final, NamedTuple

from chunkstore.filters import IGNORE_FILE, IgnoreRules, PathFilter
from chunkstore.format.manifest import EntryKind
from chunkstore.format.path import is_plain, path_problem
from chunkstore.limits import MAX_LINK_TARGET, MAX_PATH_DEPTH, MAX_PATH_PART

PART_PREFIX: Final = ".chunkstore-part-"
"""Names of files that a pull has not completed yet begin so."""

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened that may have become something else since it was seen."""

_MOST_IGNORE_BYTES: Final = 16 * 1024 * 1024
_FILE: Final = EntryKind.FILE  # looking it up in the enumeration costs time


def part_problem(path: str) -> str | None:
    """Return why nothing is pushed from or restored at a path with such a name, None without."""
    if PART_PREFIX in path and any(part.startswith(PART_PREFIX) for part in path.split("/")):
        return f"{PART_PREFIX}... is for files that a pull has not finished"
    return None


class FileState(NamedTuple):
    """What the file system says of a file that nobody touched: bytes, times in ns, the x bit."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    executable: bool


def state_of(status: os.stat_result) -> FileState:
    """Return the state that `status` shows."""
    return FileState(
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_mode & 0o100 != 0,
    )


class Found(NamedTuple):
    """Something in the folder that belongs into a version.

    Attributes:
        path: its path in the version; an empty folder's ends with a slash.
        kind: file, empty folder or link.
        location: where the file system has it, relative to `folder`.
        target: where a link points.
        folder: descriptor of the folder it is in, open until the walk goes on; None where
            `location` stands alone.
        place: its path below the root as the file system spells it.
        state: what it was when the walk came by; None of what is no file, was not looked at or
            could not be.
    """

    path: str
    kind: EntryKind
    location: str
    target: str = ""
    folder: int | None = None
    place: str = ""
    state: FileState | None = None


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
    are in Unicode normal form NFC, which no version could hold beside each other; and the states
    of files are not asked for.
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
    if item.state is not None:
        return item.state.size
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


@dataclass(slots=True)
class _Folder:
    """A folder that is being walked through."""

    handle: int
    prefix: str
    place: str
    rules: IgnoreRules
    empty: bool = True


class _Walk:
    def __init__(self, paths: PathFilter, *, target: bool) -> None:
        self._paths = paths
        self._target = target
        self.passed_over = False

    def folder(
        self, handle: int, prefix: str, place: str, above: IgnoreRules
    ) -> Iterator[Found | LeftOut]:
        """Yield what is below an open folder, which is closed at the end.

        The way down is a list: through nested generators an item would pass level by level.
        """
        here = _Folder(handle, prefix, place, above)
        way = [(here, self._items(here))]
        try:
            while way:
                here, items = way[-1]
                for item in items:
                    if isinstance(item, _Folder):
                        way.append((item, self._items(item)))
                        break
                    yield item
                else:
                    way.pop()
                    os.close(here.handle)
        finally:
            for here, _ in way:
                os.close(here.handle)

    def _items(self, here: _Folder) -> Iterator[Found | LeftOut | _Folder]:
        """Yield what stands in one folder; those to be entered are open."""
        handle, prefix, place, paths = here.handle, here.prefix, here.place, self._paths
        try:
            with os.scandir(handle) as found:
                entries = _sorted(found)
            if any(name == IGNORE_FILE for _, _, name, _ in entries):
                here.rules = _own_rules(handle, prefix, here.rules)
        except OSError as error:
            yield LeftOut(prefix.rstrip("/") or ".", _reason(error), unreadable=True)
            return
        every = here.rules.takes_all and paths.takes_all
        shallow = prefix.count("/") < MAX_PATH_DEPTH
        taken: set[str] = set()  # names that are not ASCII
        for key, _, name, is_file in entries:
            path = prefix + key
            if name.startswith(PART_PREFIX) and not self._target:
                continue
            here.empty = False
            is_folder = key[-1] == "/"
            if not every and (here.rules.ignores(path) or not self._taken(path, is_folder)):
                self.passed_over = True
                continue
            # What `path_problem` could find fault with, at a tenth of its price.
            if not (shallow and len(path) <= MAX_PATH_PART and is_plain(name)):
                problem = self._problem(path.removesuffix("/"), name, taken)
                if problem:
                    yield LeftOut(printable(path), problem, unreadable=True)
                    continue
            if is_file:
                state = None if self._target else _state(handle, name)
                yield Found(path, _FILE, name, "", handle, place + name, state)
            elif is_folder:
                yield self._enter(here, name, path)
            else:
                yield _what(handle, name, path, place + name)
        if here.empty and prefix and paths.takes(prefix):
            yield Found(prefix, EntryKind.FOLDER, ".", folder=handle, place=place)

    def _problem(self, path: str, name: str, taken: set[str]) -> str | None:
        problem = path_problem(path)
        if problem is None and not name.isascii() and not self._target:
            if path in taken:
                return "another name beside it is the same in Unicode normal form NFC"
            taken.add(path)
        return problem

    def _enter(self, above: _Folder, name: str, path: str) -> LeftOut | _Folder:
        try:
            handle = os.open(name, FOLDER_FLAGS, dir_fd=above.handle)
        except OSError as error:
            replaced = error.errno in (errno.ELOOP, errno.ENOTDIR)
            reason = "it is no longer a folder" if replaced else _reason(error)
            return LeftOut(path.rstrip("/"), reason, unreadable=True)
        return _Folder(handle, path, f"{above.place}{name}/", above.rules)

    def _taken(self, path: str, is_folder: bool) -> bool:
        return self._paths.enters(path) if is_folder else self._paths.takes(path)


def _sorted(found: Iterator[os.DirEntry[str]]) -> list[tuple[str, bool, str, bool]]:
    """Return of each name what to sort by, whether it is not in NFC yet, it, and is it a file.

    Code points have the order of their UTF-8. Of two names that are the same in NFC the one that is
    in NFC comes first.
    """
    entries, plain = [], True
    for entry in found:
        key = name = entry.name
        if not name.isascii():
            key, plain = unicodedata.normalize("NFC", name), False
        renamed = key != name
        if entry.is_dir(follow_symlinks=False):
            key += "/"
        entries.append((key, renamed, name, entry.is_file(follow_symlinks=False)))
    # What stands for bytes that are not UTF-8 has another order.
    entries.sort(key=None if plain else lambda item: (os.fsencode(item[0]), *item[1:]))
    return entries


def _state(folder: int, name: str) -> FileState | None:
    try:
        return state_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return None  # who opens it will say why


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
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode):  # which cannot be opened as a file
        os.close(handle)
        return above
    with open(handle, "rb") as file:
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
            return Found(path, _FILE, name, "", folder, place, _state(folder, name))
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
